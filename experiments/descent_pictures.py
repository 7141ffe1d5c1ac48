"""The pictures of ways down a convex objective."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.descent_readings import excess
from experiments.descents import TARGETS
from experiments.looks import LOOKS, Look, look
from experiments.study import Picture

BORROWED = {
    "L-BFGS": "NAG",
    "Newton-CG": "Adagrad",
    "Gauss-Newton-CG": "Adadelta",
    "stochastic L-BFGS": "NAG",
    "naive L-BFGS": "Adadelta",
    "naive L-BFGS, searching": "Adagrad",
}
"""Methods beyond the seven take the hues and markers of those that are not in these pictures."""
TITLES = {"full": "whole batches", "mini": "mini-batches"}
FLOOR = 1e-13
"""Of the first excess: rounding, in float64."""
MOST_SHOWN = 8.0
"""Decades of effort: what took more, or diverged, is drawn there."""


def look_of(name: str) -> Look:
    """How a method is drawn."""
    return LOOKS[BORROWED[name]] if name in BORROWED else look(name)


def progress(results: xr.Dataset, *, along: str) -> Figure:
    """What is left of the excess, by what was paid: a row a stage, a column a kind of batch."""
    stages = [str(stage) for stage in results.stage.values]
    figure = Figure(figsize=(10, 7.6), layout="constrained")
    panels = figure.subplots(len(stages), len(TITLES), sharey="row", squeeze=False)
    for row, stage in zip(panels, stages, strict=True):
        for axes, (kind, title) in zip(row, TITLES.items(), strict=True):
            for i, name in enumerate(results[kind].values):
                one = excess(results, kind, stage, str(name))
                unit = (
                    float(results[f"{kind}_seconds"].sel({"stage": stage, kind: name})) if along == "seconds" else 1.0
                )
                _draw(axes, one, unit, str(name), 0.03 + 0.02 * i)
            axes.axhline(TARGETS[stage], color="#777777", linewidth=1, linestyle=":")
            low, high = (2e-3, 2.0) if stage == "far" else (1e-9, 0.2)
            axes.set(xscale="log", yscale="log", ylim=(low, high))
            axes.xaxis.set_minor_formatter("")
            axes.set_title(f"{stage}, {title}", loc="left", fontsize=11)
    for axes in panels[-1]:
        axes.set_xlabel("gradients of the whole objective" if along == "gradients" else "seconds")
    figure.supylabel("excess over the optimum, part of the first (dotted: the target)", fontsize="medium")
    for column in panels.T:
        handles, labels = column[0].get_legend_handles_labels()
        column[-1].legend(handles, labels, loc="lower left", frameon=False, fontsize="small")
    return figure


def _draw(axes: Axes, one: xr.DataArray, unit: float, name: str, place: float) -> None:
    colour, marker = look_of(name)
    left = np.maximum(one.values, FLOOR)
    # A run that has ended keeps what it has; the mean is geometric, as the axis is.
    logs = np.log10(np.where(np.isfinite(left), left, np.nan))
    known = np.isfinite(logs).all(axis=0)
    x, logs = one.cost.values[known] * unit, logs[:, known]
    style = {"color": colour, "marker": marker, "markersize": 5, "markevery": (place, 0.15), "label": name}
    axes.plot(x, 10 ** logs.mean(axis=0), linewidth=1.5, **style)
    axes.fill_between(x, 10 ** logs.min(axis=0), 10 ** logs.max(axis=0), color=colour, alpha=0.15, linewidth=0)


def tuning(results: xr.Dataset) -> Figure:
    """The effort on mini-batches by learning rate."""
    stages = [str(stage) for stage in results.stage.values]
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, len(stages), squeeze=False)[0]
    for axes, stage in zip(panels, stages, strict=True):
        for name in results.mini.values:
            curve = results.mini_tuning.sel(stage=stage, mini=name).dropna("mini_learning_rate")
            if not np.isfinite(curve).any():
                continue
            colour, marker = look_of(str(name))
            shown = np.minimum(curve.values, MOST_SHOWN)
            axes.plot(curve.mini_learning_rate, shown, color=colour, marker=marker, markersize=6, label=str(name))
        axes.set(xscale="log", xlabel="learning rate")
        axes.set_title(stage, loc="left", fontsize=11)
    panels[0].set_ylabel("effort, decades")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


_CAPTION = (
    "What is left of the first excess over the optimum, by {}, far from it (above) and near to it (below), with whole "
    "batches (left) and mini-batches (right). Lines are geometric means over seeds, bands reach from the least seed to "
    "the greatest. Methods with a learning rate are at the one that is best for the stage. A Hessian-vector product "
    "counts as two gradients."
)
PICTURES = (
    Picture("gradients", _CAPTION.format("gradients' worth of work"), partial(progress, along="gradients")),
    Picture("seconds", _CAPTION.format("seconds of one run alone"), partial(progress, along="seconds")),
    Picture(
        "tuning",
        "What a stage takes on mini-batches, by learning rate: the logarithm of the gradients to its target, plus the "
        f"decades that are missing where it is not met; at {MOST_SHOWN:g} stands what took more, or diverged.",
        tuning,
    ),
)
