"""Adagrad, Adadelta, RMSprop and Adam on the bowl (figure 4), as written and as coded in 2016."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from experiments import race, racing
from experiments.formulas import ADAPTIVE
from experiments.looks import look
from experiments.racing import RATES, Race
from experiments.study import Claim, Picture, Study, Table, TierName, Verdict
from experiments.surface_pictures import contours, draw_losses, draw_path, draw_steps_by_rate, legend_below
from experiments.surfaces import BOWL, first_step, settled_step

TARGETS = (1e-3, 1e-6)
SHOWN = {"Adagrad": 1.0, "Adadelta": 1.0, "RMSprop": 1.0, "Adam": 0.5}
"""The study names no rates, but that Adam's was half of the others'."""


# Of the 4,000 steps a path has to arrive in the first half, and stay in the second.
FULL = Race(4000, RATES, 50, tuple(sorted(set(SHOWN.values()))), "3 s")
TIERS: dict[TierName, Race] = {
    "smoke": Race(600, (0.1, 1.0, 10.0), 20, FULL.shown_rates, "3 s", "3 learning rates"),
    "cpu": FULL,
    "accelerator": FULL,
}


def _arrivals(path: xr.Dataset) -> xr.Dataset:
    below = path.loss < xr.DataArray(list(TARGETS), dims="target", coords={"target": list(TARGETS)})
    return xr.Dataset({"arrival": settled_step(below), "passage": first_step(below)})


def _tables(results: xr.Dataset) -> Sequence[Table]:
    made = []
    for version in results.version.values:
        own = results.sel(version=version)
        rows = []
        for name in own.optimizer.values:
            cells = [str(name)]
            for target in own.target.values:
                steps = own.sel(optimizer=name, target=target)
                cells += race.fewest(steps.arrival)
                cells += [race.count(float(race.best_steps(steps.passage)))]
            rows.append(cells)
        columns = ["optimizer"]
        for target in results.target.values:
            columns += [f"stays below {target:g}", "at rate", f"first below {target:g}"]
        note = "Fewest steps over the same learning rates for all; * at an end of them. " + _NEWTON
        made.append(Table(f"Steps on the bowl, {version}, each at its own best rate", columns, rows, note))
    title = f"Steps until the loss stays below {TARGETS[0]:g}, as written, at equal rates"
    return [*made, race.table_at_equal_rates(title, results.arrival.sel(version="as written", target=TARGETS[0]))]


_NEWTON = (
    "Adagrad's few steps are the bowl's doing, whose axes are x and y: one step with a large rate h measures the "
    "curvature q of each axis (its gradient is about q h), and from then on h / sqrt(G) is about 1 / q, Newton's step."
)


def _draw_paths(results: xr.Dataset) -> Figure:
    versions = results.version.values
    figure = Figure(figsize=(2.8 * len(ADAPTIVE), 3.0 * len(versions)), layout="constrained")
    panels = figure.subplots(len(versions), len(ADAPTIVE), sharex=True, sharey=True)
    for row, version in zip(panels, versions, strict=True):
        for axes, name in zip(row, ADAPTIVE, strict=True):
            contours(axes, BOWL)
            draw_path(axes, _shown(results, str(version), name), color=look(name).colour)
            axes.set_title(f"{name} at {SHOWN[name]:g}, {version}", loc="left", fontsize=11)
    figure.supxlabel("x", fontsize=10)
    figure.supylabel("y", fontsize=10)
    return figure


def _draw_losses(results: xr.Dataset) -> Figure:
    versions = results.version.values
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    panels = figure.subplots(1, len(versions), sharex=True, sharey=True)
    for axes, version in zip(panels, versions, strict=True):
        for name in ADAPTIVE:
            colour, marker = look(name)
            draw_losses(
                axes,
                _shown(results, str(version), name).loss,
                1e-10,
                1e3,
                color=colour,
                marker=marker,
                markevery=5,
                markersize=5,
                label=f"{name} at {SHOWN[name]:g}",
            )
        axes.set_title(str(version), loc="left", fontsize=11)
        axes.set_xlabel("step")
    panels[0].set_ylabel("loss")
    legend_below(figure, panels[0])
    return figure


def _shown(results: xr.Dataset, version: str, name: str) -> xr.Dataset:
    return results.sel(version=version, optimizer=name, shown_rate=SHOWN[name])


def _draw_race(results: xr.Dataset) -> Figure:
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(1, len(TARGETS), sharex=True, sharey=True)
    for axes, target in zip(panels, TARGETS, strict=True):
        arrival = results.arrival.sel(version="as written", target=target)
        draw_steps_by_rate(axes, arrival, [str(name) for name in results.optimizer.values])
        axes.set_title(f"until the loss stays below {target:g}", loc="left", fontsize=11)
    panels[0].set_ylabel("steps")
    legend_below(figure, panels[0])
    return figure


def _decide(results: xr.Dataset) -> Verdict:
    arrival = results.arrival.sel(optimizer=list(ADAPTIVE), version="as written")
    readings = [
        (target, reading)
        for target in arrival.target.values
        for reading in (
            race.at_equal_rates(arrival.sel(target=target), "Adam"),
            race.at_own_best(arrival.sel(target=target), "Adam"),
        )
    ]
    coded = results.arrival.sel(optimizer=list(ADAPTIVE), version="as coded", target=TARGETS[0])
    said = "; ".join(f"below {target:g}: {reading.numbers} ({reading.answer})" for target, reading in readings)
    effect = f"Steps until the loss stays {said}. As coded, below {TARGETS[0]:g}: "
    effect += race.at_own_best(coded, "Adam").numbers + "."
    return Verdict(race.outcome([reading.answer for _, reading in readings]), effect)


C3 = Claim(
    name="C3",
    says="Of the adaptive methods Adam reaches the minimum of the bowl first.",
    rule=(
        "Counted are the steps from which on the loss stays below 1e-3, or 1e-6, for the rest of a run in whose first "
        "half this happens. Four readings: for each of the two targets, at equal learning rates (is Adam alone first "
        "at more rates of the grid than those at which another is before it?) and with each at its own best rate of "
        "the grid (has Adam the fewest steps?). Equal numbers are a tie, also where nobody arrives. Supported: all "
        "readings that are no tie say yes. Refuted: all say no. Inconclusive: they differ, or all are ties. The rules "
        "are as written, not as coded."
    ),
    decide=_decide,
)

STUDY = Study(
    name="bowl-adaptive",
    question="Which adaptive method reaches the minimum of a simple convex function first?",
    figures="figure 4",
    data=None,
    tiers=TIERS,
    run=partial(racing.run, BOWL, _arrivals),
    tables=_tables,
    pictures=(
        Picture(
            "bowl-adaptive-paths",
            "Paths on x² + 10 y² from (7, 5). Top: by the study's formulas. Bottom: by its "
            "code. What differs most are Adadelta, whose epsilon is 1e-6 above (it hardly moves) and 0.1 below, "
            "and Adam, which has no bias correction below.",
            _draw_paths,
        ),
        Picture(
            "bowl-adaptive-loss",
            "The same paths' loss by step. RMSprop falls below the picture and comes back: at a constant rate it ends "
            "in a cycle about as large as the rate.",
            _draw_losses,
        ),
        Picture(
            "bowl-adaptive-race",
            "Steps until the loss stays below a target, by learning rate; as written. Where a line is missing the "
            "loss does not arrive in the first half of the run, or does not stay: RMSprop ends in a cycle, Adadelta in "
            "one that grows, and Adam at large rates bursts out again when its average of squares has forgotten the "
            "start.",
            _draw_race,
        ),
    ),
    claims=(C3,),
    expected=racing.expected,
)
