"""The pictures of `learn-to-learn`: loss by step at home and away, and meta-training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.curves import label_decades
from experiments.handmade import NAMES
from experiments.learning_readings import LEARNED, homes, tested, transfers
from experiments.looks import look
from experiments.study import Picture

LEARNED_LINES = {"Learned MLP": "-", "Learned LSTM": "--"}
"""Learned optimizers that are drawn, with the colour of the text; variants of recipes have a picture of their own."""
ACROSS = 3
NARROW = 4
"""A ratio of losses up to which their axis is linear."""


def _curves(axes: Axes, results: xr.Dataset, test: str, rivals: Sequence[str]) -> None:
    for name in tested(results, test):
        curve = results.mean_loss.sel(test=test, optimizer=name).dropna("step")
        # Where all problems diverged there is nothing to see but the limit.
        shown = curve.where(curve < 10 * float(curve[0]))
        if name in LEARNED_LINES:
            text = look("SGD").colour
            axes.plot(curve.step, shown, LEARNED_LINES[name], color=text, linewidth=2.4, label=name, zorder=3)
        elif name in rivals:
            colour, marker = look(name)
            every = max(1, len(curve) // 5)
            line = ":" if "(" in name else "-"
            axes.plot(
                curve.step, shown, line, color=colour, marker=marker, markevery=every, markersize=5, linewidth=1.2,
                label=name,
            )  # fmt: skip
    axes.set(xlabel="step")
    low, high = axes.dataLim.intervaly
    if high > NARROW * low:
        axes.set_yscale("log")
        label_decades(axes, (1, 2, 5) if high < 100 * low else (1,))
    axes.set_title(test, loc="left", fontsize=11)


def _panels(results: xr.Dataset, tests: Sequence[str], rivals: Sequence[str], across: int) -> Figure:
    across = min(across, len(tests))
    rows = -(-len(tests) // across)
    figure = Figure(figsize=(max(3.6 * across + 0.4, 6), 3.1 * rows + 0.7), layout="constrained")
    panels = figure.subplots(rows, across, squeeze=False).ravel()
    found = {}
    for axes, test in zip(panels, tests, strict=False):
        _curves(axes, results, test, rivals)
        found |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    for axes in panels[len(tests) :]:
        axes.set_axis_off()
    for axes in panels[::across]:
        axes.set_ylabel("mean loss")
    figure.legend(
        found.values(), found.keys(), loc="outside lower center", ncols=int(figure.get_figwidth() / 1.6), frameon=False
    )
    return figure


def draw_homes(results: xr.Dataset) -> Figure:
    """Where all were trained and tuned."""
    return _panels(results, homes(results), NAMES, 2)


def draw_transfers(results: xr.Dataset) -> Figure:
    """Elsewhere."""
    return _panels(results, transfers(results), ("Momentum", "Adam", "Adam (retuned)"), ACROSS)


def draw_meta(results: xr.Dataset) -> Figure:
    """Validation loss by iteration, a panel a home."""
    labels_of = {
        home: [label for label in map(str, results.learner.values) if label.endswith(f", {home}")]
        for home in map(str, results.home_task.values)
    }
    by_home = {home: labels for home, labels in labels_of.items() if labels}
    across = min(2, len(by_home))
    rows = -(-len(by_home) // across)
    figure = Figure(figsize=(5 * across, 3.3 * rows), layout="constrained")
    panels = figure.subplots(rows, across, squeeze=False).ravel()
    lines = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)))
    colours = [look(name).colour for name in ("SGD", "Adam", "RMSprop", "Adagrad", "Momentum", "NAG", "Adadelta")]
    for axes, (home, labels) in zip(panels, by_home.items(), strict=False):
        tops = []
        for label, line, colour in zip(labels, lines, colours, strict=False):
            one = results.sel(learner=label)
            seen = np.isfinite(one.iteration.values)
            values = one.validation.values[seen]
            tops.append(np.nanmedian(values))
            axes.plot(
                one.iteration.values[seen],
                values,
                ls=line,
                marker=".",
                color=colour,
                label=label.removesuffix(f", {home}"),
            )
        # A step over the limit of stability would flatten all the rest.
        low = min(float(np.nanmin(results.sel(learner=label).validation.values)) for label in labels)
        axes.set_ylim(low - 0.05, max(tops) + (0.45 if len(labels) > 2 else 0.25))
        axes.set(xlabel="iteration", ylabel="log10 of the mean loss")
        axes.set_title(home, loc="left", fontsize=11)
        axes.legend(fontsize=8, framealpha=0.9, edgecolor="none", loc="upper right", ncols=2 if len(labels) > 2 else 1)
    for axes in panels[len(by_home) :]:
        axes.set_axis_off()
    return figure


PICTURES = (
    Picture(
        "learning-homes",
        f"Mean loss by step on held-out problems of the family that all were trained or tuned for. {LEARNED} begins "
        "meta-training as tuned Momentum or Adam. A line ends where it is ten times its start.",
        draw_homes,
    ),
    Picture(
        "learning-transfers",
        "The same optimizers on other problems, or for longer, as they are. Dotted: Adam, tuned for these problems.",
        draw_transfers,
    ),
    Picture(
        "learning-meta",
        "Validation loss in meta-training. Where it jumps, the optimizer has stepped over the limit of stability; the "
        "best one is kept.",
        draw_meta,
    ),
)
