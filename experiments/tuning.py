"""Fair tuning: every method gets the same grid of learning rates, and the same rule to extend it.

The chosen rate has the highest validation accuracy after the last epoch, as a mean over the seeds.
While it lies at an edge of what was tried, `EXTENSION` more points are tried beyond that edge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

EXTENSION = 2
MOST_EXTENSIONS = 3

Edge = Literal["low", "high"]


@dataclass(frozen=True)
class Grid:
    """Learning rates 10^(i / per_decade) for i = lowest, ..., highest.

    Points are known by their integers, so that grids extended for different methods share them exactly.
    """

    lowest: int
    highest: int
    per_decade: int = 2

    @property
    def rates(self) -> list[float]:
        """The rates, from low to high, to two digits."""
        return [float(f"{10 ** (i / self.per_decade):.1e}") for i in range(self.lowest, self.highest + 1)]

    def resized(self, points: int) -> Grid:
        """As many points around the same centre; where it falls between two, the lower one."""
        lowest = self.lowest + (len(self.rates) - points) // 2
        return Grid(lowest, lowest + points - 1, self.per_decade)

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
    """What tuning a method gave.

    Attributes:
        curves: As `sweep.run` returns them, over all rates that were tried.
        chosen: The chosen rate; None if every rate diverged.
        edge: The edge at which the choice still lies after the last extension.
    """

    curves: xr.Dataset
    chosen: float | None
    edge: Edge | None


def tune(grid: Grid, train: Callable[[Sequence[float]], xr.Dataset]) -> Tuned:
    """Train, extend, and choose.

    Args:
        grid: The rates to begin with.
        train: Trains with some rates. Called for the grid, then for each extension.
    """
    tried = [train(grid.rates)]
    curves = tried[0]
    while (edge := edge_of_choice(curves)) and len(tried) <= MOST_EXTENSIONS:
        grid, further = grid.extended(edge)
        tried.append(train(further.rates))
        seconds = sum(one.attrs["seconds"] for one in tried)
        curves = xr.concat(tried, "learning_rate").sortby("learning_rate").assign_attrs(seconds=seconds)
    return Tuned(curves, choose(curves), edge)


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
