"""What pictures of surfaces of the loss are made of: contours and reliefs in log scale, with marks on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.landscape.roughness import LEAST, on_plateau
from experiments.looks import plain_numbers

COLOURS = "viridis"
BANDS = 24
"""Of colour, each the same factor of the loss."""
SHARE = 0.995
"""Of all points, above which the loss has the last colour: far outside it explodes."""
SIZE = 9


class Scale(NamedTuple):
    """The losses that colours stand for."""

    low: float
    high: float

    @classmethod
    def of(cls, losses: xr.DataArray) -> Scale:
        """From the least to nearly the greatest of them."""
        known = losses.values[np.isfinite(losses.values)]
        if not known.size:
            return cls(0.1, 10.0)
        low = max(float(known.min()), LEAST)
        return cls(low, max(float(np.quantile(known, SHARE)), 1.01 * low))

    @property
    def norm(self) -> LogNorm:
        """Of colours."""
        return LogNorm(self.low, self.high)


def contours(axes: Axes, surface: xr.Dataset, scale: Scale) -> None:
    """Bands of colour between level lines."""
    loss = np.ma.masked_invalid(np.maximum(surface.surface.transpose("row", "column").values, LEAST))
    levels = np.geomspace(*scale, BANDS + 1)
    x, y = surface.x.values, surface.y.values
    axes.contourf(x, y, loss, levels=levels, norm=scale.norm, cmap=COLOURS, extend="both")
    axes.contour(x, y, loss, levels=levels[::3], colors="white", linewidths=0.5, alpha=0.6)
    axes.set(aspect="equal")
    axes.grid(visible=False)
    axes.tick_params(labelsize=SIZE)


def hatch_plateau(axes: Axes, surface: xr.Dataset) -> None:
    """Where the surface is high and flat."""
    flat = on_plateau(surface.surface.transpose("row", "column").values).astype(float)
    if flat.any():
        # The edge is drawn between points: half of the way to what is no plateau.
        axes.contourf(surface.x.values, surface.y.values, flat, levels=[0.5, 1.5], hatches=["///"], colors="none")
        axes.contour(surface.x.values, surface.y.values, flat, levels=[0.5], colors="white", linewidths=1.4)


def mark(axes: Axes, places: np.ndarray, labels: Sequence[str], outline: Sequence[int] = ()) -> None:
    """Corners with their names, and lines between those in `outline`."""
    if len(outline):
        loop = places[[*outline, outline[0]]]
        axes.plot(*loop.T, color="white", linewidth=1, linestyle=(0, (3, 2)), zorder=3)
    (left, right), (bottom, top), middle = axes.get_xlim(), axes.get_ylim(), places[:, 1].mean()
    for (x, y), label in zip(places, labels, strict=True):
        axes.plot(x, y, "o", color="white", markeredgecolor="black", markersize=5, zorder=4)
        place, height = (x - left) / (right - left), (y - bottom) / (top - bottom)
        above = y >= middle and height < 0.88  # else there is no room within the frame
        text = axes.annotate(
            label, (x, y), (0, 6 if above else -6), textcoords="offset points", fontsize=SIZE, color="white", zorder=5,
            ha="left" if place < 0.2 else "right" if place > 0.8 else "center", va="bottom" if above else "top",
        )  # fmt: skip
        text.set_path_effects([patheffects.withStroke(linewidth=2.2, foreground="black")])


def draw_trajectory(axes: Axes, path: np.ndarray) -> None:
    """From its start, a ring, to its end, a cross."""
    outline = [patheffects.withStroke(linewidth=3, foreground="black")]
    axes.plot(*path.T, color="white", linewidth=1.2, marker=".", markersize=5, zorder=4, path_effects=outline)
    axes.plot(*path[0], "o", color="white", markeredgecolor="black", markersize=8, zorder=5)
    axes.plot(*path[-1], "X", color="white", markeredgecolor="black", markersize=10, zorder=5)


def relief(axes: Any, surface: xr.Dataset, scale: Scale) -> None:
    """The logarithm of the loss as a height, cut off where the scale ends."""
    loss = np.clip(surface.surface.transpose("row", "column").values, *scale)
    x, y = np.meshgrid(surface.x.values, surface.y.values)
    heights = np.log10(loss)
    axes.plot_surface(
        x, y, heights, facecolors=_colours(loss, scale), rcount=len(loss), ccount=len(loss), linewidth=0.15,
        edgecolor=(0, 0, 0, 0.35), shade=False,
    )  # fmt: skip
    axes.set_zlim(np.log10(scale.low), np.log10(scale.high))
    decades = [ten for ten in range(-6, 7) if np.log10(scale.low) <= ten <= np.log10(scale.high)]
    axes.set_zticks(decades)
    ticks = [-0.5, 0, 0.5, 1, 1.5]
    axes.set(xticks=ticks, yticks=ticks)
    axes.zaxis.set_major_formatter(FuncFormatter(lambda ten, _: f"{10.0**ten:g}"))
    axes.view_init(elev=32, azim=-60)
    axes.set_box_aspect((1, 1, 0.75), zoom=0.92)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0, 0, 0, 0))
    axes.tick_params(labelsize=8)


def colour_bar(figure: Figure, panels: Any, scale: Scale, **how: Any) -> None:
    """One for all panels: nats, in log scale."""
    bar = figure.colorbar(ScalarMappable(scale.norm, COLOURS), ax=panels, extend="max", **how)
    bar.set_label("loss, nats")
    plain_numbers(bar.ax.yaxis)


def _colours(loss: np.ndarray, scale: Scale) -> Any:
    return ScalarMappable(scale.norm, COLOURS).to_rgba(loss)
