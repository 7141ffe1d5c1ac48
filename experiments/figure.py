"""The picture of a comparison: for each model, how the loss fell, and how much the learning rate matters.

An optimizer has the same colour and marker everywhere. The colours are those of Okabe and Ito (2008), which
people with any colour vision can tell apart; the markers say the same again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator


class Look(NamedTuple):
    """How an optimizer is drawn."""

    colour: str
    marker: str


LOOKS = {
    "SGD": Look("#000000", "o"),
    "Momentum": Look("#E69F00", "s"),
    "NAG": Look("#56B4E9", "D"),
    "Adagrad": Look("#009E73", "^"),
    "Adadelta": Look("#CC79A7", "v"),
    "RMSprop": Look("#0072B2", "P"),
    "Adam": Look("#D55E00", "X"),
}
OTHER = Look("#777777", ".")


def look(name: str) -> Look:
    """How an optimizer is drawn on a page of the theme in force: what is black on light pages is light on dark ones."""
    colour, marker = LOOKS.get(name, OTHER)
    return Look(str(matplotlib.rcParams["text.color"]) if colour == LOOKS["SGD"].colour else colour, marker)


STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "font.size": 10,
    "svg.hashsalt": "gradtx",  # the same results give the same file
}


def write(dataset: xr.Dataset, title: str, directory: Path) -> None:
    """Write `figure.png` and `figure.svg` into an existing directory."""
    with matplotlib.rc_context(STYLE):
        drawn = draw(dataset, title)
        drawn.savefig(directory / "figure.png", dpi=150, metadata={"Software": None})
        drawn.savefig(directory / "figure.svg", metadata={"Date": None})


def draw(dataset: xr.Dataset, title: str) -> Figure:
    """A row of two panels for each model, and one legend below."""
    models = dataset.model.values
    figure = Figure(figsize=(10, 1.3 + 3.6 * len(models)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    panels = figure.subplots(len(models), 2, squeeze=False)
    for (left, right), model in zip(panels, models, strict=True):
        results = dataset.sel(model=model)
        _draw_losses(left, results)
        _draw_sensitivity(right, results)
        left.set_title(f"{model}: training at the chosen rate", loc="left", fontsize=10)
        right.set_title(f"{model}: error by learning rate", loc="left", fontsize=10)
    handles, labels = panels[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _draw_losses(axes: Axes, results: xr.Dataset) -> None:
    for name in results.optimizer.values:
        one = results.sel(optimizer=name)
        if np.isnan(one.chosen_learning_rate):
            continue
        losses = one.train_loss.sel(learning_rate=one.chosen_learning_rate)
        colour = LOOKS.get(str(name), OTHER).colour
        axes.plot(results.epoch, losses.mean("seed"), color=colour)
        axes.fill_between(results.epoch, losses.min("seed"), losses.max("seed"), color=colour, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="training loss, nats (band: all seeds)", yscale="log")
    _label_decades(axes, (1, 2, 5))


def _draw_sensitivity(axes: Axes, results: xr.Dataset) -> None:
    # The error on a log scale, not the accuracy: what differs among good rates is small.
    accuracy = results.validation_accuracy.isel(epoch=-1).where(~results.diverged).mean("seed", skipna=False)
    error = 100 * (1 - accuracy)
    for name in results.optimizer.values:
        curve = error.sel(optimizer=name).dropna("learning_rate")
        colour, marker = LOOKS.get(str(name), OTHER)
        axes.plot(curve.learning_rate, curve, color=colour, marker=marker, markersize=5, label=name)
        chosen = curve.where(curve.learning_rate == results.chosen_learning_rate.sel(optimizer=name), drop=True)
        axes.plot(chosen.learning_rate, chosen, marker="o", markersize=12, color=colour, fillstyle="none")
    axes.set(xlabel="learning rate (ring: chosen)", ylabel="validation error, %", xscale="log", yscale="log")
    _label_decades(axes, (1, 2, 3, 5, 7))


def _label_decades(axes: Axes, multiples: Sequence[int]) -> None:
    """Ticks at these multiples of each power of ten, written as plain numbers."""
    axes.yaxis.set_major_locator(LogLocator(subs=multiples, numticks=12))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
