"""A dry run says what a training takes without running it; what it cannot do is one line."""

import dataclasses
import importlib.util

import jax
import numpy as np
import pytest

from experiments import chips, dry_run
from experiments.chips import CHIPS, Chip
from experiments.cli import FAILED, main
from experiments.comparison import Training
from experiments.models import Classifier, resnet_6n2
from experiments.studies import STUDIES
from experiments.studies.resnet_solvers import TIERS

NAME = "ResNet-8, width 4"


def training(**changes) -> Training:
    tier = dataclasses.replace(TIERS["accelerator"], models={NAME: resnet_6n2(8, 4, **changes)}, train_size=512)
    return tier.published


def multiplications(model: Classifier, size: int = 32) -> int:
    """Of the forward pass of one image: every 3x3 convolution at its places, and the last layer."""
    params = jax.eval_shape(model.init, jax.random.key(0)).params
    total, places = params["head"]["kernel"].size, size**2
    for block in [params["stem"], *(params["blocks"][i][part] for i in range(3) for part in ("first", "second"))]:
        kernel = block["conv"]["kernel"]
        places = places // 4 if kernel.shape[3] > kernel.shape[2] > 3 else places
        total += kernel.size * places
    return total


@pytest.mark.slow
def test_the_estimate_of_a_cpu_counts_what_one_counts_by_hand(capsys):
    one, here = training(), chips.here()
    found = dry_run.cost(NAME, [one], here)
    model = one.models[NAME]
    assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(model.init, KEY).params))
    # 4 steps of 128 with their gradients, and 128 images evaluated. Convolutions in the border of zeros are not counted
    # alike, and normalisation comes on top.
    by_hand = 2 * multiplications(model) * (3 * 512 + 128)
    assert found.epoch == pytest.approx(by_hand, rel=0.2)
    # The data alone; and not ten times that.
    data = 640 * 4 * (32 * 32 * 3 + 1)
    assert data < found.memory < 10 * data
    assert found.epochs == 9 * 5 * 200
    assert np.isnan(found.hours(here, 200))
    shown = dry_run.table([found], 200, here)
    assert shown.rows[0][:2] == (NAME, f"{found.parameters:,}")
    assert "An estimate: it is the program of a CPU" in shown.note


KEY = jax.random.key(0)


def test_hours_follow_from_the_peak():
    cost = dry_run.Cost("a model", 1, 1.0, epoch=1e15, epochs=30)
    eight = dataclasses.replace(chips.here(), chips=8, chip=Chip(200e12, 16e9))
    assert cost.hours(eight, 36) == pytest.approx(36 * 1e15 / (8 * 200e12 * dry_run.UTILISATION) / 3600)


def complaint(capsys, *arguments: str) -> str:
    assert main(["run", *arguments]) == FAILED
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_without_the_compiler_it_says_how_to_get_it(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "libtpu" else find(name))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    error = complaint(capsys, "resnet-solvers", "--dry-run", "--topology", "v5e:2x4")
    assert "pip install 'jax[tpu]' -e '.[experiments]'" in error


def test_what_it_is_not_for(capsys):
    assert "add --dry-run" in complaint(capsys, "resnet-solvers", "--topology", "v5e:2x4")
    error = complaint(capsys, "mnist-mlp", "--dry-run")
    assert "trains no model over all devices together" in error
    assert "resnet-solvers --tier accelerator" in error
    assert "has no tier 'huge'" in complaint(capsys, "resnet-solvers", "--dry-run", "--tier", "huge")


def test_only_one_study_trains_over_all_devices():
    able = {name for name, study in STUDIES.items() for tier in study.tiers.values() if study.trainings(tier)}
    assert able == {"resnet-solvers"}


needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the compiler for TPUs is not installed: pip install 'jax[tpu]'"
)


@needs_compiler
@pytest.mark.slow
def test_the_program_for_a_tpu(capsys):
    """Compiled for eight chips that are not there: FLOPs as counted by hand, shared by all; memory of the data."""
    topology = chips.described("v5e:2x4")
    assert (topology.chips, topology.chip) == (8, CHIPS["TPU v5 lite"])
    one = training(dtype="bfloat16")
    found = dry_run.cost(NAME, [one], topology)
    assert found.epoch == pytest.approx(2 * multiplications(one.models[NAME]) * (3 * 512 + 128), rel=0.25)
    assert found.memory > 640 * 4 * (32 * 32 * 3 + 1)
    assert found.hours(topology, 200) > 0


@needs_compiler
def test_a_topology_that_there_is_not(capsys):
    assert "no TPU topology 'v5e:3x7', such as v5e:2x4" in complaint(
        capsys, "resnet-solvers", "--dry-run", "--topology", "v5e:3x7"
    )
