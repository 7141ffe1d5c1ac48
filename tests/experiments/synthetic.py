"""Comparisons that were never run, in the form that `comparison.compare` returns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from experiments.comparison import DEFAULT, FINAL_SEEDS_FROM, TUNED
from experiments.methods import METHODS

NAMES = [method.name for method in METHODS]
RATES = [0.01, 0.1, 1.0]
EPOCHS = 6


def comparison(
    test: Mapping[str, Any],
    *,
    models: Sequence[str] = ("a model",),
    tracks: Sequence[str] = (TUNED, DEFAULT),
    excess: float | Mapping[str, float] = 0.01,
) -> xr.Dataset:
    """Results with these test accuracies by seed (NaN: the run diverged), the same on each model and track.

    Validation accuracy climbs to the test accuracy, and is there after the last epoch; method i is slower than method
    i - 1. Training ends `excess` nats above the reference loss of 0.25. Tuning chose the middle of three rates, and
    diverged at the highest.
    """
    names, seeds = list(test), len(next(iter(test.values())))
    accuracy = np.array([test[name] for name in names])
    diverged = np.isnan(accuracy)
    epochs = np.arange(1, EPOCHS + 1)
    pace = 1 / (1 + np.arange(len(names)))[:, None, None]
    climb = 1 - np.exp(-2 * pace * epochs)
    curve = accuracy[..., None] * climb / climb[..., -1:]
    above = [excess[name] if isinstance(excess, Mapping) else excess for name in names]
    loss = np.where(diverged, np.nan, 0.25 + np.array(above)[:, None] * np.linspace(0.9, 1.1, seeds))
    at = np.full((len(names), len(tracks)), 0.1)
    final = {
        "validation_accuracy": ("epoch", curve),
        "validation_loss": ("epoch", 2 - curve),
        "train_loss": ("epoch", 2 - curve),
        "test_accuracy": ("tested_epoch", accuracy[..., None]),
        "test_loss": ("tested_epoch", 2 - accuracy[..., None]),
        "full_train_loss": ("tested_epoch", loss[..., None]),
    }
    every = (len(models), len(names), len(tracks))
    data = {
        name: (("model", "optimizer", "track", "seed", dim), _spread(values, every))
        for name, (dim, values) in final.items()
    }
    lanes = ("model", "optimizer", "track")
    data |= {
        "diverged": ((*lanes, "seed"), _spread(diverged, every)),
        "used_learning_rate": (lanes, np.broadcast_to(at, every)),
        "epoch_seconds": (lanes, np.full(every, 0.5)),
        "seconds": (lanes[:2], np.full(every[:2], 9.0)),
        "epoch_steps": ("model", np.full(len(models), 10)),
        "reference_loss": ((), np.array(0.25)),
    }
    if TUNED in tracks:
        data |= _tuning(models, names)
    coords = {
        "model": list(models), "optimizer": names, "track": list(tracks), "epoch": epochs, "tested_epoch": [EPOCHS],
        "seed": FINAL_SEEDS_FROM + np.arange(seeds), "learning_rate": RATES, "tuning_epoch": [1, 2], "tuning_seed": [0],
    }  # fmt: skip
    there = {dim for dims, _ in data.values() for dim in ((dims,) if isinstance(dims, str) else dims)}
    return xr.Dataset(data, {name: values for name, values in coords.items() if name in there})


def around(mean: float, spread: float = 0.001, seeds: int = 5) -> np.ndarray:
    """Values with exactly this mean, evenly spaced, whose outermost ones are `spread` from it."""
    return mean + spread * np.linspace(-1, 1, seeds)


def noisy(means: Mapping[str, float], spread: float, seeds: int = 5, key: int = 0) -> dict[str, np.ndarray]:
    """Values whose means are exactly these, with independent normal noise of this standard deviation."""
    rng = np.random.default_rng(key)
    noise = {name: rng.normal(0, 1, seeds) for name in means}
    return {name: mean + spread * _standard(noise[name]) for name, mean in means.items()}


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std(ddof=1)


def _spread(values: np.ndarray, every: tuple[int, int, int]) -> np.ndarray:
    """From (optimizer, ...) to (model, optimizer, track, ...)."""
    return np.broadcast_to(values[None, :, None], (*every, *values.shape[1:])).copy()


def _tuning(models: Sequence[str], names: Sequence[str]) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    every = (len(models), len(names))
    dims = ("model", "optimizer", "tuning_seed", "learning_rate", "tuning_epoch")
    accuracy = np.broadcast_to(np.array([0.895, 0.9, np.nan])[:, None], (*every, 1, len(RATES), 2))
    return {
        **{f"tuning_{name}": (dims, accuracy) for name in ("train_loss", "validation_loss", "validation_accuracy")},
        "tuning_diverged": (dims[:-1], np.broadcast_to([False, False, True], (*every, 1, len(RATES)))),
        "tried": (("model", "optimizer", "learning_rate"), np.ones((*every, len(RATES)), bool)),
        "chosen_learning_rate": (("model", "optimizer"), np.full(every, 0.1)),
        "edge": (("model", "optimizer"), np.full(every, "none")),
    }
