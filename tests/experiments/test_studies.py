"""Each study fits its data and can be found by name."""

import jax
import numpy as np
import pytest

from experiments import data, provenance
from experiments.errors import ExperimentError
from experiments.optimizers import OPTIMIZERS
from experiments.studies import STUDIES, TIERS, find, find_tier

PIXELS = {"digits": (8, 8, 1), "mnist": (28, 28, 1)}


@pytest.mark.parametrize("name", STUDIES)
def test_fits_its_data(name):
    study = find(name)
    assert study.name == name
    assert study.data in data.DATASETS
    assert tuple(study.tiers) == TIERS
    images = jax.ShapeDtypeStruct((3, *PIXELS[study.data]), np.float32)
    for model in study.models.values():
        params = jax.eval_shape(model.init, jax.random.key(0))
        assert jax.eval_shape(model.apply, params, images).shape == (3, 10)


def test_smoke_is_a_part_of_cpu():
    for study in STUDIES.values():
        smoke, cpu = study.tiers["smoke"], study.tiers["cpu"]
        assert smoke.train_size is not None
        assert cpu.train_size is None
        assert smoke.epochs < cpu.epochs
        assert smoke.seeds >= 3
        assert cpu.seeds >= 5


def test_every_optimizer_takes_a_batch_of_rates():
    rates = np.array([0.1, 0.2], np.float32)
    for tx in OPTIMIZERS.values():
        np.testing.assert_array_equal(tx.replace(learning_rate=rates).learning_rate, rates)


def test_unknown_tier():
    with pytest.raises(ExperimentError, match="'quickstart' has no tier 'huge'; it has smoke, cpu"):
        find_tier(STUDIES["quickstart"], "huge")


def test_provenance_outside_a_repository(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    told = provenance.describe("the command")
    assert told["commit"] == "unknown"
    assert told["command"] == "the command"
    assert told["jax_version"] == jax.__version__
