"""All seven optimizers from next to the ridge of a saddle (figures 5 to 7): how many steps they need to leave it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments import race, racing
from experiments.formulas import ADAPTIVE
from experiments.looks import look
from experiments.racing import RATES, Race
from experiments.study import Claim, Picture, Study, Table, TierName, Verdict
from experiments.surface_pictures import (
    FAINT,
    contours,
    draw_path,
    draw_steps_by_rate,
    legend_below,
)
from experiments.surfaces import SADDLE, first_step

LINEAR = ("SGD", "Momentum", "NAG")
OUT = 1.0
"""A path has left the saddle where |y| is larger; it begins at 0.001."""


SHOWN = (0.01, 0.1)
"""Learning rates: the study's for momentum, and one for the adaptive methods."""

FULL = Race(5000, RATES, 400, SHOWN, "3 s")
TIERS: dict[TierName, Race] = {
    "smoke": Race(400, (0.01, 0.1, 1.0), 60, SHOWN, "3 s", "3 learning rates"),
    "cpu": FULL,
    "accelerator": FULL,
}


def _escapes(path: xr.Dataset) -> xr.Dataset:
    """The first step outside, and whether x stayed within its start until then."""
    escape = first_step(np.abs(path.y) > OUT)
    until = path.step <= escape.fillna(int(path.step[-1]))
    return xr.Dataset(
        {"escape": escape, "contained": (np.abs(path.x).where(until, 0.0) <= SADDLE.start[0]).all("step")}
    )


def _tables(results: xr.Dataset) -> Sequence[Table]:
    made = [
        race.table_at_equal_rates(
            f"Steps to |y| > {OUT:g} on the saddle, {version}, at equal rates", results.escape.sel(version=version)
        )
        for version in results.version.values
    ]
    rows = []
    for name in results.optimizer.values:
        cells = [str(name)]
        for version in results.version.values:
            escape = _contained(results.sel(version=version, optimizer=name))
            cells += race.fewest(escape)
        rows.append(cells)
    columns = ["optimizer"]
    for version in results.version.values:
        columns += [f"steps, {version}", "at rate"]
    note = "Only rates at which |x| stays at most 7 count: any rule leaves in a step if the step is long enough. "
    note += "* at an end of them."
    return [
        *made,
        Table(f"Fewest steps to |y| > {OUT:g} on the saddle, each at its own best rate", columns, rows, note),
    ]


def _contained(results: xr.Dataset) -> xr.DataArray:
    return results.escape.where(results.contained.astype(bool))


def _draw_surface(results: xr.Dataset) -> Figure:
    side = np.linspace(-8, 8, 41)
    x, y = np.meshgrid(side, side)
    figure = Figure(figsize=(6.4, 5), layout="constrained")
    axes: Any = figure.add_subplot(projection="3d")
    axes.plot_surface(x, y, SADDLE.height(x, y), cmap="viridis", alpha=0.75, linewidth=0)
    axes.view_init(elev=28, azim=-55)
    axes.set_box_aspect((1, 1, 0.7), zoom=1.0)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0, 0, 0, 0))
    ticks = np.linspace(-8, 8, 5)
    axes.set(xlabel="x", ylabel="y", zlabel=SADDLE.formula, xticks=ticks, yticks=ticks)
    return figure


def _draw_paths(results: xr.Dataset) -> Figure:
    figure = Figure(figsize=(2.7 * len(ADAPTIVE), 5.8), layout="constrained")
    panels = figure.subplots(2, len(ADAPTIVE), sharey=True)
    for row, names, rate in zip(panels, (LINEAR, ADAPTIVE), results.shown_rate.values, strict=True):
        for axes, name in zip(row, names, strict=False):
            contours(axes, SADDLE)
            path = results.sel(version="as written", optimizer=name, shown_rate=rate)
            draw_path(axes, path, color=look(name).colour)
            axes.set_title(f"{name} at {rate:g}", loc="left", fontsize=11)
            axes.set_xlabel("x")
        for unused in row[len(names) :]:
            unused.set_axis_off()
        row[0].set_ylabel("y")
    return figure


def _draw_escapes(results: xr.Dataset) -> Figure:
    versions = results.version.values
    rates = results.shown_rate.values
    figure = Figure(figsize=(10, 3.4 * len(rates) + 0.4), layout="constrained")
    panels = figure.subplots(len(rates), len(versions), sharey=True, sharex="row", squeeze=False)
    for row, rate in zip(panels, rates, strict=True):
        for axes, version in zip(row, versions, strict=True):
            for name in results.optimizer.values:
                colour, marker = look(str(name))
                height = np.abs(results.y.sel(version=version, optimizer=name, shown_rate=rate))
                shown = height.where(np.isfinite(height) & (height > 0) & (height < 1e3))
                style = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.3}
                axes.plot(height.step, shown, markevery=0.12, label=name, **style)
            axes.axhline(OUT, color=FAINT, linewidth=1, linestyle=":")
            axes.set(yscale="log", xscale="symlog", ylim=(5e-4, 30))
            axes.set_xlim(0, int(results.step[-1]))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_title(f"{version}, rate {rate:g}", loc="left", fontsize=11)
            axes.set_xlabel("step")
        row[0].set_ylabel("|y| (dotted: out)")
    legend_below(figure, panels[0][0])
    return figure


def _draw_race(results: xr.Dataset) -> Figure:
    versions = results.version.values
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(1, len(versions), sharex=True, sharey=True)
    for axes, version in zip(panels, versions, strict=True):
        escape = _contained(results.sel(version=version))
        draw_steps_by_rate(axes, escape, [str(name) for name in results.optimizer.values])
        axes.set_title(str(version), loc="left", fontsize=11)
    panels[0].set_ylabel(f"steps to |y| > {OUT:g}")
    legend_below(figure, panels[0])
    return figure


def _decide(results: xr.Dataset) -> Verdict:
    written = results.sel(version="as written")
    readings = [race.at_equal_rates(written.escape, "Adam"), race.at_own_best(_contained(written), "Adam")]
    first = race.outcome([reading.answer for reading in readings])
    escapes = written.escape.sel(optimizer="SGD").notnull()
    stuck = race.outcome(["no" if escape else "yes" for escape in escapes.values])
    said = "; ".join(f"{reading.numbers} ({reading.answer})" for reading in readings)
    effect = (
        f"Steps to |y| > {OUT:g}: {said}; Adam is first: {first}. SGD leaves at {int(escapes.sum())} of "
        f"{escapes.size} rates{_example(written)}; SGD is stuck: {stuck}. "
        f"As coded, {race.at_equal_rates(results.escape.sel(version='as coded'), 'Adam').numbers}."
    )
    return Verdict(race.both([first, stuck]), effect)


def _example(results: xr.Dataset) -> str:
    """SGD's number at the study's learning rate, where it was run."""
    near = results.escape.sel(optimizer="SGD").sel(learning_rate=[0.01], method="nearest")
    rate, steps = float(near.learning_rate[0]), float(near[0])
    return f", at {rate:.3g} in {steps:.0f} steps where the study ran 50" if np.isfinite(steps) else ""


C4 = Claim(
    name="C4",
    says="Adam escapes the saddle first; SGD is stuck.",
    rule=(
        "Counted are the steps until |y| > 1, of at most 5,000. Two parts. Adam is first, in two readings: at equal "
        "learning rates (alone first at more rates of the grid than those at which another is before it), and each at "
        "its own best rate of those that keep |x| at most 7 (fewest steps); equal numbers are a tie. The part holds if "
        "all readings that are no tie say yes, fails if all say no, and is open otherwise. SGD is stuck: holds if it "
        "leaves at no rate of the grid, fails if at every one, and is open otherwise. Supported: both hold. Refuted: "
        "one fails. Inconclusive: one is open and none fails. The rules are as written, not as coded."
    ),
    decide=_decide,
)

STUDY = Study(
    name="saddle",
    question="Which optimizer leaves a saddle point first, and does gradient descent leave at all?",
    figures="figures 5 to 7",
    data=None,
    tiers=TIERS,
    run=partial(racing.run, SADDLE, _escapes),
    tables=_tables,
    pictures=(
        Picture("saddle-surface", "The saddle x² - y². Along x it has a minimum, along y a maximum.", _draw_surface),
        Picture(
            "saddle-paths",
            "Paths from (7, 0.001), next to the ridge, by the formulas. Top: the methods with one rate for all "
            "directions come down along x first. Bottom: the adaptive methods leave along y from the start.",
            _draw_paths,
        ),
        Picture(
            "saddle-escapes",
            "The distance from the ridge by step (the axis is logarithmic from 1 on), at two learning rates. By the "
            "formulas (left) and by the study's code (right).",
            _draw_escapes,
        ),
        Picture(
            "saddle-race",
            "Steps until |y| > 1 by learning rate, of the rates at which |x| stays at most 7.",
            _draw_race,
        ),
    ),
    claims=(C4,),
    expected=racing.expected,
)
