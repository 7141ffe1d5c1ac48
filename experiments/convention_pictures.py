"""The pictures of a comparison of conventions: an optimizer's colour, a convention's line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from experiments.comparison import TUNED
from experiments.convention_readings import MARGIN, differences
from experiments.conventions import BASE, VARIANTS, full_name
from experiments.looks import OTHER, look
from experiments.study import Picture

LINES = {
    BASE: ("-", "o"),
    "paper": ("--", "s"),
    "PyTorch": ("-.", "^"),
    "Keras": (":", "D"),
    "study's code": ((0, (6, 1, 1, 1, 1, 1)), "X"),
}


def differing(results: xr.Dataset) -> Figure:
    """How far each variant is from the base convention, a panel a track."""
    model = str(results.model.values[0])
    tracks = [str(track) for track in results.track.values]
    figure = Figure(figsize=(5.6 * len(tracks), 5.4), layout="constrained")
    for axes, track in zip(figure.subplots(1, len(tracks), sharey=True, squeeze=False)[0], tracks, strict=True):
        gaps = differences(results, model, track)
        axes.axvspan(-100 * MARGIN, 100 * MARGIN, color=OTHER.colour, alpha=0.25, linewidth=0)
        for place, (name, gap) in enumerate(gaps.items()):
            convention = name.partition(" (")[2].rstrip(")")
            colour, marker = look(name).colour, LINES[convention][1]
            mean, low, high = (100 * value for value in gap)
            axes.plot([low, high], [place, place], color=colour, linewidth=2)
            axes.plot(mean, place, marker=marker, color=colour, markersize=7)
        axes.set_yticks(range(len(gaps)), list(gaps))
        axes.set_ylim(len(gaps) - 0.5, -0.5)
        axes.set_xscale("symlog", linthresh=1)
        axes.margins(x=0.08)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_title(f"{track} rates", loc="left", fontsize="medium")
        axes.set_xlabel(f"test accuracy minus {BASE}'s, points")
    return figure


def sensitivity(results: xr.Dataset) -> Figure:
    """Validation error by learning rate, a panel an optimizer."""
    if "tuning_validation_accuracy" not in results:
        return Figure(figsize=(6, 1))
    last = results.tuning_validation_accuracy.isel(tuning_epoch=-1).where(~results.tuning_diverged)
    error = 100 * (1 - last.mean("tuning_seed", skipna=False)).isel(model=0)

    def draw(axes: Axes, name: str, style: dict[str, object]) -> None:
        curve = error.sel(optimizer=name).dropna("learning_rate")
        axes.plot(curve.learning_rate, curve, **style)  # type: ignore[arg-type]

    figure = _panels(draw)
    for axes in figure.axes[: len(VARIANTS)]:
        axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="validation error, %")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    return figure


def training(results: xr.Dataset) -> Figure:
    """Training loss by epoch at tuned rates, a panel an optimizer."""
    track = TUNED if TUNED in results.track.values else str(results.track.values[0])
    loss = results.train_loss.isel(model=0).sel(track=track).mean("seed", skipna=False)

    def draw(axes: Axes, name: str, style: dict[str, object]) -> None:
        curve = loss.sel(optimizer=name)
        if np.isfinite(curve).any():
            axes.plot(curve.epoch, curve, markevery=max(1, len(curve) // 5), **style)  # type: ignore[arg-type]

    figure = _panels(draw)
    for axes in figure.axes[: len(VARIANTS)]:
        axes.set(yscale="log", xlabel="epoch", ylabel="training loss, nats")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _panels(draw: Callable[[Axes, str, dict[str, object]], None]) -> Figure:
    """A panel for each optimizer, and the conventions' lines in the place of a sixth."""
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    *panels, last = figure.subplots(2, 3).flat
    for axes, (optimizer, variants) in zip(panels, VARIANTS.items(), strict=True):
        for convention in variants:
            dashes, marker = LINES[convention]
            name = full_name(optimizer, convention)
            draw(axes, name, {"color": look(name).colour, "linestyle": dashes, "marker": marker, "markersize": 5})
        axes.set_title(optimizer, loc="left", fontsize="medium")
    last.set_axis_off()
    handles = [Line2D([], [], color=OTHER.colour, linestyle=dashes, marker=marker) for dashes, marker in LINES.values()]
    last.legend(handles, list(LINES), title="convention", loc="center", frameon=False, handlelength=4)
    return figure


PICTURES = (
    Picture(
        "differences",
        f"Test accuracy by each convention minus that of the same optimizer by {BASE}'s, with paired 95 % intervals "
        f"over seeds. The band is {100 * MARGIN:g} points to each side, within which they are called the same; beyond "
        "1 point the axis is logarithmic.",
        differing,
    ),
    Picture(
        "sensitivity",
        "Validation error after tuning's last epoch, by learning rate, as a mean over tuning's seeds. A convention "
        "that shifts the curve along the axis is made good by tuning.",
        sensitivity,
    ),
    Picture("training", "Training loss by epoch at the tuned rates, as a mean over seeds.", training),
)
