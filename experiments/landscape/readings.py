"""What is read off surfaces: measures by seed, and the walls between two solutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr

from experiments.landscape.roughness import FLAT, HIGH, plateau_share, roughness
from experiments.landscape.work import NORMALIZED, PLAIN
from experiments.statistics import Interval, Values, mean_interval, paired
from experiments.study import Table

Measure = Callable[[np.ndarray], np.ndarray]

PLANE_NAMES = {"optimizers": "between four optimizers", "random": "around a solution, random"}
"""Of the measured planes, in tables and pictures."""


def by_seed(results: xr.Dataset, plane: str, network: str, measure: Measure) -> Values:
    """A measure of one plane of one network, by seed."""
    found = results.measured.sel(measure=plane, network=network)
    return measure(found.transpose("seed", "measured_row", "measured_column").values)


def change(results: xr.Dataset, plane: str, measure: Measure, tests: int = 1) -> Interval:
    """What batch norm adds to a measure, within seeds."""
    with_norm, without = (by_seed(results, plane, network, measure) for network in (NORMALIZED, PLAIN))
    return paired(with_norm, without, tests)


SHOWN_NAMES = {
    "starts": "two starts and their ends",
    "solutions": "three solutions of SGD",
    "early": "four optimizers, early",
    "middle": "four optimizers, at a third",
    "optimizers": "four optimizers, at the end",
    "polygon": "the start and the ends",
    "path": "the way of SGD",
    "random": "random directions",
}
"""Of the shown planes, in tables and pictures."""


class Wall(NamedTuple):
    """The loss along the line between two solutions: at the worse end, and the highest between both."""

    end: float
    top: float


def wall(results: xr.Dataset, network: str, statistics: str) -> Wall:
    """Read off the line."""
    line = results.line.sel(network=network, statistics=statistics)
    ends = line.sel(place=[0, 1], method="nearest")
    return Wall(float(ends.max(skipna=False)), float(line.sel(place=slice(0, 1)).max(skipna=False)))


def tables(results: xr.Dataset) -> list[Table]:
    """Measures; the same with other bounds, and of the shown planes; walls; the trainings."""
    return [_measures(results), _bounds(results), _planes(results), _walls(results), _trainings(results)]


def percent(interval: Interval) -> tuple[str, str]:
    """A share in percent, and its interval, which ends where shares do."""
    mean, low, high = interval
    return f"{100 * mean:.1f}", f"{100 * max(low, 0):.1f} to {100 * min(high, 1):.1f}"


def points(interval: Interval) -> str:
    """A difference of shares, in points of percent."""
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in interval))


def _measures(results: xr.Dataset) -> Table:
    rows = []
    for plane in results.measure.values:
        for network in results.network.values:
            cells = [PLANE_NAMES[str(plane)], str(network)]
            for measure in (plateau_share, roughness):
                cells += percent(mean_interval(by_seed(results, plane, network, measure)))
                cells.append(points(change(results, plane, measure)) if network == NORMALIZED else "")
            rows.append(cells)
    columns = (
        "plane", "network", "plateau, %", "95 % interval", "change", "roughness, %", "95 % interval", "change",
    )  # fmt: skip
    note = (
        f"Mean over {results.sizes['seed']} seeds, {results.sizes['measured_row']} x "
        f"{results.sizes['measured_column']} points each. Plateau: the share of points whose loss is at least {HIGH:g} "
        f"ln 10 and whose logarithm has a slope below {FLAT:g} a side of the square. Roughness: the share of the total "
        "variation of ln L, along rows and columns, that is more than that of one valley in each. Change: with minus "
        "without batch norm, within seeds, in points, with its 95 % interval (of the studentized bootstrap over seeds; "
        "Student's t below 20 seeds)."
    )
    return Table("Plateau and roughness", columns, rows, note)


BOUNDS = ((HIGH / 2, FLAT), (HIGH, FLAT / 2), (HIGH, FLAT), (HIGH, 2 * FLAT), (2 * HIGH, FLAT))
"""Of the height and the slope of a plateau, to see what hangs on them."""


def _bounds(results: xr.Dataset) -> Table:
    rows = []
    for plane in results.measure.values:
        for high, flat in BOUNDS:

            def share(loss: np.ndarray, high: float = high, flat: float = flat) -> np.ndarray:
                return plateau_share(loss, high, flat)

            means = [mean_interval(by_seed(results, plane, network, share)) for network in (PLAIN, NORMALIZED)]
            told = [percent(mean)[0] for mean in means]
            rows.append(
                (PLANE_NAMES[str(plane)], f"{high:g}", f"{flat:g}", *told, points(change(results, plane, share)))
            )
    columns = ("plane", "height, ln 10", "slope a side", "without, %", "with, %", "change")
    note = f"The rule reads {HIGH:g} and {FLAT:g} alone."
    return Table("Plateaus by other bounds", columns, rows, note)


def _planes(results: xr.Dataset) -> Table:
    rows = []
    for plane in results["plane"].values:
        for network in results.network.values:
            loss = results.surface.sel(plane=plane, network=network).transpose("row", "column").values
            shares = [f"{100 * float(measure(loss)):.1f}" for measure in (plateau_share, roughness)]
            rows.append((SHOWN_NAMES[str(plane)], str(network), *shares, f"{loss.min():.3g}", f"{loss.max():.3g}"))
    note = (
        f"One surface each, {results.sizes['row']} x {results.sizes['column']} points. The rules read none of these, "
        "and nothing is known of other seeds. This table was added when the measured planes had been seen."
    )
    columns = ("plane", "network", "plateau, %", "roughness, %", "least loss", "greatest loss")
    return Table("The shown planes, of the first seed", columns, rows, note)


def _walls(results: xr.Dataset) -> Table:
    kinds = ((PLAIN, "recomputed", "none"), (NORMALIZED,) + 2 * ("recomputed",), (NORMALIZED,) + 2 * ("interpolated",))
    rows = []
    for network, statistics, told in kinds:
        found = wall(results, network, statistics)
        rows.append((network, told, f"{found.end:.3f}", f"{found.top:.3f}", f"{found.top - found.end:.3f}"))
    note = (
        "Loss in nats along the line between two solutions of one optimizer from two starts. Wall: the highest loss "
        "between both minus that of the worse one. Interpolated statistics are those of no network: their wall is not "
        "one of the loss surface."
    )
    columns = ("network", "statistics", "worse end", "highest between", "wall")
    return Table("The line between two solutions", columns, rows, note)


def _trainings(results: xr.Dataset) -> Table:
    rows = []
    for network in results.network.values:
        for name in results.optimizer.values:
            one = results.sel(network=network, optimizer=name)
            rows.append(
                (
                    str(network),
                    str(name),
                    f"{float(one.loss.mean()):.4f}",
                    f"{100 * float(one.accuracy.mean()):.2f}",
                    f"{int(one.diverged.sum())} of {one.sizes['seed']}",
                )
            )
    shares = [
        f"{100 * float(results.explained.sel(network=network).sum()):.1f} % ({network})"
        for network in results.network.values
    ]
    note = (
        "On the training images that the shown surfaces are made of, with running statistics, mean over seeds. Of the "
        f"variance of the first trajectory its plane holds {' and '.join(shares)}."
    )
    columns = ("network", "optimizer", "loss, nats", "accuracy, %", "diverged")
    return Table("The trainings", columns, rows, note)
