"""The pictures of a comparison: how training went, how much the learning rate matters, and where it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import ArrayLike

from experiments.comparison import TUNED
from experiments.looks import look
from experiments.readings import TARGET, costs, final_accuracies
from experiments.statistics import bounds, mean_interval
from experiments.statistics import profile as profile_of
from experiments.study import Picture

LEGEND_INCHES = 1.4
"""What a name takes."""
MOST_RATIO = 10.0
INTERVAL_FROM = 3
"""Seeds: the interval of two reaches over the whole picture, and says no more than their ticks."""


def training(results: xr.Dataset) -> Figure:
    """Training loss and validation error by epoch, a row a model."""

    def losses(axes: Axes, one: xr.Dataset, name: str) -> None:
        _band(axes, one.epoch, one.train_loss, name)

    def errors(axes: Axes, one: xr.Dataset, name: str) -> None:
        _band(axes, one.epoch, 100 * (1 - one.validation_accuracy), name)

    final = results.sel(track=_track(results))
    figure = _grid(final, {"training loss, nats": losses, "validation error, %": errors})
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch", yscale="log")
        label_decades(axes, (1, 2, 5))
    return figure


def sensitivity(results: xr.Dataset) -> Figure:
    """Validation error by learning rate, a panel a model."""
    if "tuning_validation_accuracy" not in results:
        return _empty("Nothing was tuned.")
    # The error on a log scale, not the accuracy: what differs among good rates is small.
    last = results.tuning_validation_accuracy.isel(tuning_epoch=-1).where(~results.tuning_diverged)
    with_error = results.assign(error=100 * (1 - last.mean("tuning_seed", skipna=False)), errors=100 * (1 - last))

    def errors(axes: Axes, one: xr.Dataset, name: str) -> None:
        curve = one.error.dropna("learning_rate")
        seeds = one.errors.sel(learning_rate=curve.learning_rate)
        colour, marker = look(name)
        axes.plot(curve.learning_rate, curve, color=colour, marker=marker, markersize=5, label=name)
        if seeds.sizes["tuning_seed"] > 1:
            for seed in seeds.transpose("tuning_seed", ...):
                axes.plot(curve.learning_rate, seed, "_", color=colour, markersize=7, alpha=0.7)
        if seeds.sizes["tuning_seed"] >= INTERVAL_FROM:
            fill_interval(axes, curve.learning_rate, seeds, "tuning_seed", colour)
        chosen = curve.where(curve.learning_rate == one.chosen_learning_rate, drop=True)
        axes.plot(chosen.learning_rate, chosen, marker="o", markersize=12, color=colour, fillstyle="none")

    figure = _grid(with_error, {"validation error, %": errors})
    for axes in figure.axes:
        axes.set(xlabel="learning rate (ring: chosen)", xscale="log", yscale="log")
        label_decades(axes, (1, 2, 3, 5, 7))
    return figure


def profile(results: xr.Dataset) -> Figure:
    """Performance profiles over models and seeds, by epochs and by seconds."""
    epochs = costs(results, _track(results))
    ratios = np.geomspace(1, MOST_RATIO, 200)
    units = {"epochs": epochs.drop_vars("seconds"), "seconds": epochs.seconds.drop_vars("seconds")}
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    names = [str(name) for name in results.optimizer.values]
    for axes, (unit, cost) in zip(figure.subplots(1, 2, sharey=True), units.items(), strict=True):
        solved = profile_of(cost, ratios)
        for place, name in enumerate(names):
            colour, marker = look(name)
            # Steps that coincide are told apart by their markers, each at places of its own.
            every = slice(5 + 4 * place, None, 40)
            curve = 100 * solved.sel(optimizer=name)
            axes.step(
                ratios, curve, where="post", color=colour, marker=marker, markevery=every, markersize=5, label=name
            )
        axes.set(xscale="log", xlabel=f"{unit}, times those of the quickest", ylim=(-4, 104), xlim=(1, MOST_RATIO))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        if np.isnan(solved).all():
            axes.text(0.5, 0.5, "no method reached it", transform=axes.transAxes, ha="center")
    figure.axes[0].set_ylabel("runs at the target, %")
    _legend(figure, names)
    return figure


def accuracy(results: xr.Dataset) -> Figure:
    """Test accuracy with its interval, and each seed; a panel a model and track."""
    panels = [(str(model), str(track)) for track in results.track.values for model in results.model.values]
    names = [str(name) for name in results.optimizer.values]
    figure = Figure(figsize=(5 * len(panels), 1.2 + 0.38 * len(names)), layout="constrained")
    for axes, (model, track) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for place, (name, values) in enumerate(final_accuracies(results, model, track).items()):
            colour, marker = look(name)
            interval = mean_interval(values).clipped(0.0, 1.0)
            axes.plot(100 * values, np.full(len(values), place), "|", color=colour, markersize=9, alpha=0.7)
            axes.plot(100 * np.array([interval.low, interval.high]), [place, place], color=colour, linewidth=2)
            axes.plot(100 * interval.mean, place, marker=marker, color=colour, markersize=8)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title(f"{model}, {track} rates", loc="left", fontsize="medium")
        axes.set_xlabel("test accuracy, %")
        axes.xaxis.set_major_locator(MaxNLocator(6))
    return figure


TRAINING = Picture(
    "training",
    "Training loss and validation error by epoch, at the chosen learning rates (the default rates where nothing was "
    "tuned). Lines are means over seeds, bands are the means' 95 % intervals. A method that diverged is missing.",
    training,
)
SENSITIVITY = Picture(
    "sensitivity",
    "Validation error after tuning's last epoch, by learning rate, as a mean over tuning's seeds. Ticks are the seeds "
    f"where there are several, bands the means' 95 % intervals where there are {INTERVAL_FROM} or more. The ring is "
    "the rate that was chosen. Rates with which a seed diverged are left out.",
    sensitivity,
)
ACCURACY = Picture(
    "accuracy",
    "Test accuracy of the final runs: the mean over seeds, its 95 % interval, and each seed as a tick.",
    accuracy,
)
PROFILE = Picture(
    "profile",
    "Performance profiles (Dolan and Moré, 2002): the part of final runs (models and seeds) in which a method reaches "
    f"the target, {TARGET:g} of the best method's mean validation accuracy after the last epoch, in at most so many "
    "times the epochs, or the seconds, that the quickest method takes with that model and seed.",
    profile,
)
PICTURES = (TRAINING, SENSITIVITY, ACCURACY, PROFILE)


def _empty(why: str) -> Figure:
    figure = Figure(figsize=(6.5, 1.5), layout="constrained")
    figure.text(0.5, 0.5, why, ha="center", va="center")
    return figure


def _track(results: xr.Dataset) -> str:
    tracks = [str(track) for track in results.track.values]
    return TUNED if TUNED in tracks else tracks[0]


def _grid(results: xr.Dataset, panels: dict[str, Callable[[Axes, xr.Dataset, str], None]]) -> Figure:
    """A row for each model and a column for each panel, or a row of models for one; a line for each method."""
    models = [str(model) for model in results.model.values]
    names = [str(name) for name in results.optimizer.values]
    rows, columns = (1, len(models)) if len(panels) == 1 else (len(models), len(panels))
    figure = Figure(figsize=(max(5.0 * columns, 6.5), 1.2 + 3.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).reshape(len(models), len(panels))
    for row, model in zip(grid, models, strict=True):
        for axes, (what, draw) in zip(row, panels.items(), strict=True):
            for name in names:
                draw(axes, results.sel(model=model, optimizer=name), name)
            axes.set_ylabel(what)
            axes.set_title(model, loc="left", fontsize="medium")
    _legend(figure, names)
    return figure


def _legend(figure: Figure, names: Sequence[str]) -> None:
    """By name, so that it is whole where a method has nothing to show; as wide as the picture."""
    handles = [Line2D([], [], color=look(name).colour, marker=look(name).marker) for name in names]
    columns = min(len(names), int(figure.get_figwidth() / LEGEND_INCHES))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)


def _band(axes: Axes, x: xr.DataArray, values: xr.DataArray, name: str) -> None:
    mean = values.mean("seed", skipna=False)
    if np.isnan(mean).all():
        return
    colour, marker = look(name)
    every = max(1, len(x) // 6)
    axes.plot(x, mean, color=colour, marker=marker, markevery=every, markersize=4, label=name)
    fill_interval(axes, x, values, "seed", colour)


def fill_interval(axes: Axes, x: ArrayLike, values: xr.DataArray, dim: str, colour: str) -> None:
    """The 95 % interval of the mean, as far down as an error or a loss can go at all."""
    low, high = bounds(values, dim)
    axes.fill_between(x, low.clip(0.0), high, color=colour, alpha=0.15, linewidth=0)


def label_decades(axes: Axes, multiples: Sequence[int]) -> None:
    """Ticks at these multiples of each power of ten, written as plain numbers."""
    axes.yaxis.set_major_locator(LogLocator(subs=multiples, numticks=12))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
