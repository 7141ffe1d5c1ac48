"""A cache of each test's own, and results that were made up."""

import pathlib

import numpy as np
import pytest
import xarray as xr

from experiments.optimizers import OPTIMIZERS

RATES = [0.01, 0.1, 1.0]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GRADTX_CACHE", str(place))
    return place


@pytest.fixture
def results() -> xr.Dataset:
    """A comparison as `compare` returns it: optimizer i has test accuracy 0.90 + i / 100; the last one diverged."""
    lanes = ("model", "optimizer", "learning_rate", "seed")
    sizes = (1, len(OPTIMIZERS), len(RATES), 3)
    rng = np.random.RandomState(0)
    accuracy = 0.9 + 0.01 * np.arange(sizes[1])[:, None] + 0.001 * np.arange(3)
    accuracy[-1] = np.nan
    chosen = np.full(sizes[1], 0.1)
    chosen[-1] = np.nan
    diverged = np.zeros(sizes, bool)
    diverged[:, -1] = True
    return xr.Dataset(
        {
            **{name: ((*lanes, "epoch"), rng.uniform(0.1, 0.9, (*sizes, 4))) for name in _CURVES},
            "diverged": (lanes, diverged),
            "tried": (lanes[:3], np.ones(sizes[:3], bool)),
            "chosen_learning_rate": (lanes[:2], chosen[None]),
            "edge": (lanes[:2], np.array([["low"] + ["none"] * (sizes[1] - 1)])),
            "seconds": (lanes[:2], np.ones(sizes[:2])),
            "test_accuracy": (("model", "optimizer", "seed"), accuracy[None]),
        },
        coords={
            "model": ["a model"],
            "optimizer": list(OPTIMIZERS),
            "learning_rate": RATES,
            "seed": np.arange(3),
            "epoch": np.arange(1, 5),
        },
        attrs={"study": "quickstart", "question": "Which?", "tier": "cpu", "data": "digits", "command": "made up"},
    )


_CURVES = ("train_loss", "validation_loss", "validation_accuracy")
