"""What is read off a comparison: who is best, who cannot be told apart, how soon, and how much the rate matters.

Everything is computed from the labelled results of `comparison.compare`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from experiments.comparison import TUNED
from experiments.statistics import (
    BOOTSTRAP_FROM,
    CONFIDENCE,
    Interval,
    first_to_reach,
    letters,
    mean_interval,
    paired,
    tolerance,
)
from experiments.study import Table

TARGET = 0.99
"""Of the best method's mean validation accuracy after the last epoch: the target whose epochs and seconds are told."""
MARGIN = 0.01
"""Validation accuracy that a learning rate may cost and still be called good."""

RANKING_NOTE = (
    "Test: accuracy in %, mean over seeds, on the test split, read after the final runs. "
    f"Interval: {CONFIDENCE * 100:g} %, Student's t over seeds (from {BOOTSTRAP_FROM} on the bootstrap; one fixed "
    "test split). "
    "Group: methods that share a letter cannot be told apart, all others can (paired t tests, Holm). "
    "To the best: the paired difference to the first row, in points. "
    f"Epochs (steps) and seconds: until validation accuracy first reaches {TARGET:g} of the best method's last (mean "
    "over seeds, ± half of its interval; – where a seed did not); seconds are epochs times those of one run's epoch. "
    "Good rates: decades of learning rates within 1 point of the best on validation. "
    "* The best rate lies at the edge of the grid even after it was extended."
)


@dataclass(frozen=True)
class Standing:
    """A method's place on a model, in a track. Accuracies from 0 to 1."""

    rank: int
    optimizer: str
    learning_rate: float
    at_edge: bool
    test: Interval
    group: str
    to_best: Interval
    diverged: int
    epochs_to_target: Interval
    steps_to_target: float
    seconds_to_target: float
    good_decades: float


def final_accuracies(results: xr.Dataset, model: str, track: str, epoch: int | None = None) -> dict[str, np.ndarray]:
    """The test accuracies of each method's final runs, by seed; after the last tested epoch, or another."""
    accuracy = results.test_accuracy.sel(model=model, track=track)
    accuracy = accuracy.isel(tested_epoch=-1) if epoch is None else accuracy.sel(tested_epoch=epoch)
    return {str(name): accuracy.sel(optimizer=name).values.astype(np.float64) for name in results.optimizer.values}


def standings(results: xr.Dataset, model: str, track: str) -> list[Standing]:
    """Methods by mean test accuracy, the best first; those with a seed that diverged last."""
    accuracies = final_accuracies(results, model, track)
    order = sorted(accuracies, key=lambda name: np.nan_to_num(-accuracies[name].mean(), nan=np.inf))
    groups, best = letters(accuracies), accuracies[order[0]]
    target = TARGET * _last(results, model, track).max()
    return [
        _standing(results.sel(model=model, optimizer=name), track, rank, accuracies[name], best, groups[name], target)
        for rank, name in enumerate(order, 1)
    ]


def tables(results: xr.Dataset) -> list[Table]:
    """A ranking for each model and track."""
    return [_table(results, str(model), str(track)) for model in results.model.values for track in results.track.values]


def costs(results: xr.Dataset, track: str = TUNED) -> xr.DataArray:
    """Epochs to the target, with dims (problem, optimizer); a problem is a model with a seed.

    The coordinate `seconds`, with the same dims, has the same in seconds.
    """
    rows, seconds, names = [], [], []
    for model in results.model.values:
        target = TARGET * _last(results, str(model), track).max()
        accuracy = results.validation_accuracy.sel(model=model, track=track)
        for seed in results.seed.values:
            names.append(f"{model}, seed {seed}")
            curves = accuracy.sel(seed=seed).transpose("optimizer", "epoch")
            rows.append([first_to_reach(curve, target) for curve in curves.values])
            seconds.append(rows[-1] * results.epoch_seconds.sel(model=model, track=track).values)
    dims = ("problem", "optimizer")
    coords = {"problem": names, "optimizer": results.optimizer.values, "seconds": (dims, np.array(seconds))}
    return xr.DataArray(rows, dims=dims, coords=coords)


def _last(results: xr.Dataset, model: str, track: str) -> np.ndarray:
    """Each method's mean validation accuracy after the last epoch; -inf where a seed diverged."""
    last = results.validation_accuracy.sel(model=model, track=track).isel(epoch=-1).mean("seed", skipna=False)
    return np.nan_to_num(last.values, nan=-np.inf)


def _standing(
    one: xr.Dataset, track: str, rank: int, accuracies: np.ndarray, best: np.ndarray, group: str, target: float
) -> Standing:
    final = one.sel(track=track)
    epochs = mean_interval(np.array([first_to_reach(curve, target) for curve in final.validation_accuracy.values]))
    good = float("nan")
    if "tried" in one:
        tuned = one.tuning_validation_accuracy.isel(tuning_epoch=-1).where(~one.tuning_diverged)
        tried = tuned.mean("tuning_seed", skipna=False).values[one.tried.values]
        good = tolerance(one.learning_rate.values[one.tried.values], tried, MARGIN)
    return Standing(
        rank,
        str(one.optimizer.values),
        float(final.used_learning_rate),
        track == TUNED and str(one.edge.values) != "none",
        mean_interval(accuracies).clipped(0.0, 1.0),
        group,
        paired(accuracies, best),
        int(final.diverged.sum()),
        epochs,
        epochs.mean * float(one.get("epoch_steps", np.nan)),
        epochs.mean * float(final.epoch_seconds),
        good,
    )


def _table(results: xr.Dataset, model: str, track: str) -> Table:
    columns = (
        "optimizer", "learning rate", "test, %", f"{CONFIDENCE * 100:g} % interval", "group", "to the best",
        "epochs (steps)", "seconds", "good rates", "diverged",
    )  # fmt: skip
    rows = [_cells(standing, results.sizes["seed"]) for standing in standings(results, model, track)]
    kind = "tuned learning rates" if track == TUNED else "default learning rates, nothing tuned"
    return Table(f"{model}, {kind}", columns, rows, RANKING_NOTE)


def _cells(standing: Standing, seeds: int) -> Sequence[str]:
    rate = "all diverged" if np.isnan(standing.learning_rate) else f"{standing.learning_rate:g}"
    steps = f" ({standing.steps_to_target:.0f})" if np.isfinite(standing.steps_to_target) else ""
    difference = "0" if standing.rank == 1 else _span(standing.to_best, signed=True)
    return (
        standing.optimizer,
        rate + ("*" if standing.at_edge else ""),
        _number(100 * standing.test.mean),
        _span(standing.test),
        standing.group,
        difference,
        _plus_minus(standing.epochs_to_target) + steps,
        _seconds(standing.seconds_to_target),
        _number(standing.good_decades, 1),
        f"{standing.diverged} of {seeds}",
    )


def _span(interval: Interval, *, signed: bool = False) -> str:
    """The ends, in points."""
    if not np.isfinite(interval.low):
        return "–"
    form = "+.2f" if signed else ".2f"
    return f"{100 * interval.low:{form}} to {100 * interval.high:{form}}"


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def _plus_minus(interval: Interval) -> str:
    """The mean and half of its interval's length."""
    half = (interval.high - interval.low) / 2
    return _number(interval.mean, 1) + (f" ± {half:.1f}" if np.isfinite(half) else "")


def _seconds(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
