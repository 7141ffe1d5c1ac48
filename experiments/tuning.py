"""Fair tuning: every optimizer gets the same grid of learning rates, and the same rule to extend it.

The chosen rate has the highest validation accuracy after the last epoch, as a mean over the seeds.
While it lies at an edge of what was tried, `EXTENSION` more points are tried beyond that edge.
The test split is read once, for the chosen rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key

import gradtx
from experiments.data import Examples
from experiments.sweep import sweep, test_accuracy
from experiments.train import Problem

EXTENSION = 2
MOST_EXTENSIONS = 3

Edge = Literal["low", "high"]


@dataclass(frozen=True)
class Grid:
    """Learning rates 10^(i / per_decade) for i = lowest, ..., highest.

    Points are known by their integers, so that grids extended for different optimizers share them exactly.
    """

    lowest: int
    highest: int
    per_decade: int = 2

    @property
    def rates(self) -> list[float]:
        """The rates, from low to high, to two digits."""
        return [float(f"{10 ** (i / self.per_decade):.1e}") for i in range(self.lowest, self.highest + 1)]

    def extended(self, edge: Edge) -> tuple[Grid, Grid]:
        """This grid with `EXTENSION` more points on one side, and those points alone."""
        if edge == "low":
            further = Grid(self.lowest - EXTENSION, self.lowest - 1, self.per_decade)
        else:
            further = Grid(self.highest + 1, self.highest + EXTENSION, self.per_decade)
        lowest, highest = min(self.lowest, further.lowest), max(self.highest, further.highest)
        return Grid(lowest, highest, self.per_decade), further


@dataclass(frozen=True)
class Tuned:
    """What tuning an optimizer gave.

    Attributes:
        curves: As in `Sweep`, over all rates that were tried.
        chosen: The chosen rate; None if every rate diverged.
        edge: The edge at which the choice still lies after the last extension.
        test_accuracy: With the chosen rate, for each seed; NaN if there is none.
    """

    curves: xr.Dataset
    chosen: float | None
    edge: Edge | None
    test_accuracy: Float[np.ndarray, " seeds"]


def tune(
    problem: Problem,
    test: Examples,
    tx: gradtx.GradientTransformation,
    grid: Grid,
    keys: Key[Array, " seeds"],
    epochs: int,
    on_extension: Callable[[], None] = lambda: None,
    on_epochs: Callable[[int], None] = lambda _: None,
) -> Tuned:
    """Sweep, extend, choose, and test.

    Args:
        problem: What to train on.
        test: Read for the chosen rate only.
        tx: The optimizer, at any learning rate.
        grid: The rates to begin with.
        keys: One for each seed.
        epochs: How long each lane trains.
        on_extension: Called before each further sweep, which has as many epochs as the first.
        on_epochs: See `sweep`.
    """
    sweeps = [sweep(problem, tx, grid.rates, keys, epochs, on_epochs)]
    curves = sweeps[0].curves
    while (edge := edge_of_choice(curves)) and len(sweeps) <= MOST_EXTENSIONS:
        on_extension()
        grid, further = grid.extended(edge)
        sweeps.append(sweep(problem, tx, further.rates, keys, epochs, on_epochs))
        curves = xr.concat([one.curves for one in sweeps], "learning_rate").sortby("learning_rate")
    chosen = choose(curves)
    if chosen is None:
        return Tuned(curves, None, edge, np.full(len(keys), np.nan))
    (winner,) = (one for one in sweeps if chosen in one.curves.learning_rate.values)
    accuracy = test_accuracy(problem.model, winner.at(chosen), test)
    return Tuned(curves, chosen, edge, np.asarray(accuracy, np.float64))


def choose(curves: xr.Dataset) -> float | None:
    """The rate with the highest mean validation accuracy after the last epoch; None if there is none.

    Among equals, the one with the lowest validation loss, then the lowest rate.
    A rate with which any seed diverged is never chosen.
    """
    last = curves.isel(epoch=-1).mean("seed")
    safe = ~curves.diverged.any("seed").values
    if not safe.any():
        return None
    rates = curves.learning_rate.values[safe]
    accuracy, loss = last.validation_accuracy.values[safe], last.validation_loss.values[safe]
    return float(rates[np.lexsort((rates, loss, -accuracy))[0]])


def edge_of_choice(curves: xr.Dataset) -> Edge | None:
    """The edge of the tried rates at which the choice lies. Where all diverged, lower rates are wanted."""
    chosen = choose(curves)
    rates = curves.learning_rate.values
    if chosen is None or chosen == rates.min():
        return "low"
    return "high" if chosen == rates.max() else None
