"""Each study fits its data, runs in its smallest tier, and can be found by name."""

import jax
import numpy as np
import pytest

from experiments import data, findings, provenance
from experiments.cli import main
from experiments.comparison import Training
from experiments.errors import ExperimentError
from experiments.methods import METHODS
from experiments.results import directory, read
from experiments.studies import STUDIES, TIERS, find, find_tier

PIXELS = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
TRAINING = [name for name, study in STUDIES.items() if isinstance(study.tiers["smoke"], Training)]
WITHOUT_DOWNLOAD = [name for name, study in STUDIES.items() if study.data in (None, "digits")]


@pytest.mark.parametrize("name", STUDIES)
def test_is_whole(name):
    study = find(name)
    assert study.name == name
    assert tuple(study.tiers) == TIERS
    assert study.data is None or study.data in data.DATASETS
    assert all(tier.estimate for tier in study.tiers.values())
    assert len({one.name for one in study.pictures}) == len(study.pictures)


@pytest.mark.parametrize("name", STUDIES)
def test_what_a_run_depends_on_is_told_alike_in_each_process(name):
    for tier in find(name).tiers.values():
        assert "0x" not in find(name).spec(tier, None)
        assert "estimate=" not in repr(tier)


@pytest.mark.parametrize("name", TRAINING)
def test_fits_its_data(name):
    study = find(name)
    assert study.data is not None
    images = jax.ShapeDtypeStruct((3, *PIXELS[study.data]), np.float32)
    for tier in study.tiers.values():
        for model in tier.models.values():
            params, stats = jax.eval_shape(model.init, jax.random.key(0))
            assert jax.eval_shape(model.apply, params, stats, images)[0].shape == (3, 10)


@pytest.mark.parametrize("name", TRAINING)
def test_smoke_is_a_part_of_cpu(name):
    smoke, cpu = find(name).tiers["smoke"], find(name).tiers["cpu"]
    assert smoke.train_size is not None
    assert smoke.scale
    assert smoke.epochs < cpu.epochs
    assert cpu.seeds >= 5
    for tier in find(name).tiers.values():
        assert all(tested <= tier.epochs for tested in tier.tests)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in WITHOUT_DOWNLOAD if name != "quickstart"])  # see .ci/run
def test_runs_in_its_smallest_tier(name, tmp_path, capsys):
    run_smoke(name, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STUDIES if name not in WITHOUT_DOWNLOAD])
def test_runs_on_real_data_in_its_smallest_tier(name, tmp_path, capsys, data_dir, decoded):
    run_smoke(name, tmp_path, capsys, "--data-dir", str(data_dir(find(name).data)))


def run_smoke(name, tmp_path, capsys, *more):
    assert main(["run", name, "--tier", "smoke", "--results", str(tmp_path), *more]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert findings.SMOKE_WARNING in captured.out
    place = directory(tmp_path, name, "smoke")
    shown = findings.StudyResults(find(name), "smoke", read(place))
    assert [one.finding for one in findings.judge(shown) if one.finding == "undecided"] == []
    assert {f"{one.name}.svg" for one in find(name).pictures} <= {file.name for file in place.iterdir()}


def test_every_method_takes_a_batch_of_rates():
    rates = np.array([0.1, 0.2], np.float32)
    for method in METHODS:
        leaves = jax.tree.leaves(method.lanes(rates, 10))
        assert all(leaf.shape == (2,) for leaf in leaves)
        assert any(np.array_equal(leaf, rates) for leaf in leaves), method


def test_unknown_tier():
    with pytest.raises(ExperimentError, match="'quickstart' has no tier 'huge'; it has smoke, cpu"):
        find_tier(STUDIES["quickstart"], "huge")


def test_provenance_outside_a_repository(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    told = provenance.describe("the command")
    assert told["commit"] == "unknown"
    assert told["command"] == "the command"
    assert told["jax_version"] == jax.__version__
