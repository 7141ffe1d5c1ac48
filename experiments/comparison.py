"""Run a study: tune every optimizer on every model, and label what comes out.

Common random numbers: seed i means the same initial parameters and the same order of examples for each optimizer.
"""

from __future__ import annotations

import time

import jax
import numpy as np
import xarray as xr

from experiments.data import Dataset
from experiments.optimizers import OPTIMIZERS
from experiments.progress import SweepProgress
from experiments.studies import Study, Tier
from experiments.train import Problem
from experiments.tuning import Tuned, tune

ROOT_SEED = 20161207


def compare(study: Study, tier: Tier, dataset: Dataset, progress: SweepProgress) -> xr.Dataset:
    """The labelled results.

    Returns:
        Dims model, optimizer, learning_rate, seed, epoch, with

        - `train_loss`, `validation_loss`, `validation_accuracy` on all five: NaN where a rate was not tried;
        - `diverged` (model, optimizer, learning_rate, seed) and `tried` (model, optimizer, learning_rate);
        - `chosen_learning_rate`, `edge`, `seconds` (model, optimizer): the whole tuning, compilation included;
        - `test_accuracy` (model, optimizer, seed) at the chosen rate.
    """
    dataset = dataset.subset(tier.train_size)
    keys = jax.random.split(jax.random.key(ROOT_SEED), tier.seeds)
    models = []
    for model_name, model in study.models.items():
        problem = Problem(model, tier.batch_size, dataset.train, dataset.validation)
        optimizers = []
        for name, tx in OPTIMIZERS.items():
            progress.describe(f"{model_name}, {name}")
            start = time.perf_counter()
            tuned = tune(
                problem, dataset.test, tx, tier.grid, keys, tier.epochs,
                on_extension=progress.extend, on_epochs=progress.advance,
            )  # fmt: skip
            optimizers.append(_label(tuned, time.perf_counter() - start))
        models.append(optimizers)
    return _stack(models).assign_coords(model=list(study.models), optimizer=list(OPTIMIZERS))


def _label(tuned: Tuned, seconds: float) -> xr.Dataset:
    return tuned.curves.assign(
        tried=("learning_rate", np.ones(tuned.curves.sizes["learning_rate"], bool)),
        chosen_learning_rate=np.nan if tuned.chosen is None else tuned.chosen,
        edge=tuned.edge or "none",
        seconds=seconds,
        test_accuracy=("seed", tuned.test_accuracy),
    )


def _stack(models: list[list[xr.Dataset]]) -> xr.Dataset:
    """One data set of all; the grids, extended by different amounts, are brought to their union."""
    rates = np.unique([rate for row in models for one in row for rate in one.learning_rate.values])
    empty = {"tried": False, "diverged": False}
    stacked = [[one.reindex(learning_rate=rates, fill_value=empty | _NAN) for one in row] for row in models]
    return xr.concat([xr.concat(row, "optimizer") for row in stacked], "model")


_NAN = dict.fromkeys(("train_loss", "validation_loss", "validation_accuracy"), np.nan)
