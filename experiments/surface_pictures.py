"""What pictures of surfaces are made of: contours, paths over them, and steps by learning rate.

Colours of text and frames are the style's in force, so that a picture can be drawn for light and for dark pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import race
from experiments.looks import look
from experiments.surfaces import Surface

FAINT = "#8A8A8A"  # seen on white and on black
SIZE = 9
WINDOW = 8.0


def contours(axes: Axes, surface: Surface, window: float = WINDOW) -> None:
    """Level lines, closer together near the middle as the square root is, and the start."""
    side = np.linspace(-window, window, 161)
    x, y = np.meshgrid(side, side)
    height = surface.height(x, y)
    top = float(np.abs(height).max())
    saddle = height.min() < 0
    levels = top * np.linspace(0, 1, 8 if saddle else 13)[1:] ** 2
    if saddle:
        levels = np.concatenate([-levels[::-1], [0.0], levels])
    axes.contour(x, y, height, levels=levels, colors=FAINT, linewidths=0.5, alpha=0.7, linestyles="solid")
    axes.plot(*surface.start, marker="o", markersize=4, color=text_colour(), zorder=4)
    axes.set(xlim=(-window, window), ylim=(-window, window), aspect="equal")
    ticks = np.linspace(-window, window, 5)
    axes.set(xticks=ticks, yticks=ticks)
    axes.tick_params(labelsize=SIZE)
    axes.grid(visible=False)


def draw_path(axes: Axes, path: xr.Dataset, **style: Any) -> None:
    """A line through the iterates, which ends where it is far out of the window."""
    far = 10 * WINDOW
    near = (np.abs(path.x) < far) & (np.abs(path.y) < far)
    inside = np.logical_and.accumulate(near.values)
    style = {"linewidth": 1.2, "marker": ".", "markersize": 4, **style}
    axes.plot(path.x.values[inside], path.y.values[inside], **style)


def draw_losses(axes: Axes, loss: xr.DataArray, least: float, most: float, **style: Any) -> None:
    """The loss by step, on a log scale between `least` and `most`."""
    shown = loss.where(np.isfinite(loss) & (loss > 0) & (loss < 1e3 * most))
    axes.plot(loss.step, shown, **{"linewidth": 1.4, **style})
    axes.set(yscale="log", ylim=(least, most), xlim=(0, int(loss.step[-1])))
    axes.tick_params(labelsize=SIZE)


def draw_steps_by_rate(axes: Axes, steps: xr.DataArray, names: Sequence[str]) -> None:
    """Steps by learning rate, one line for each optimizer; a ring at the fewest."""
    for name in names:
        own = steps.sel(optimizer=name)
        colour, marker = look(name)
        axes.plot(own.learning_rate, own, color=colour, marker=marker, markersize=4, linewidth=1.2, label=name)
        rate = float(race.best_rate(own))
        if np.isfinite(rate):
            axes.plot(
                rate,
                float(race.best_steps(own)),
                marker="o",
                markersize=11,
                color=colour,
                fillstyle="none",
                linestyle="none",
            )
    axes.set(xscale="log", yscale="log", xlabel="learning rate (ring: own best)")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(labelsize=SIZE)


def legend_below(figure: Figure, axes: Axes, columns: int = 7) -> None:
    """One legend for all panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), frameon=False)


def text_colour() -> str:
    """Of the style in force."""
    return str(matplotlib.rcParams["text.color"])


def shades(n: int) -> list[tuple[float, float, float, float]]:
    """Colours for ordered values; none so dark or so light that it is lost on a page."""
    return [tuple(map(float, matplotlib.colormaps["plasma"](place))) for place in np.linspace(0.3, 0.82, n)]  # type: ignore[misc]
