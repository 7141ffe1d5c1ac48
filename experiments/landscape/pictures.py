"""The pictures of the study of loss surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.landscape.draw import (
    Scale,
    colour_bar,
    contours,
    draw_trajectory,
    hatch_plateau,
    mark,
    relief,
)
from experiments.landscape.readings import PLANE_NAMES, SHOWN_NAMES, by_seed
from experiments.landscape.roughness import FLAT, HIGH, plateau_share, roughness
from experiments.landscape.work import NORMALIZED, PLAIN
from experiments.looks import look, plain_numbers
from experiments.statistics import mean_interval
from experiments.study import Picture

OUTLINES: dict[str, Sequence[int]] = {
    "starts": (0, 1, 3, 2), "solutions": (0, 1, 2), "optimizers": (0, 1, 3, 2),
    "early": (0, 1, 3, 2), "middle": (0, 1, 3, 2),
}  # fmt: skip
NETWORK_LOOKS = {PLAIN: "Adam", NORMALIZED: "RMSprop"}
"""Whose colours they have."""


def _labels(results: xr.Dataset, plane: str) -> list[str]:
    optimizers = [str(name) for name in results.optimizer.values]
    return {
        "starts": ["start 1", "start 2", "end 1", "end 2"],
        "solutions": ["end 1", "end 2", "end 3"],
        "polygon": ["start", *optimizers],
        "random": ["SGD" if "SGD" in optimizers else optimizers[0]],
    }.get(plane, [optimizers[i % len(optimizers)] for i in range(4)])


def _panel(axes: Any, results: xr.Dataset, plane: str, network: str, scale: Scale) -> None:
    surface = results[["surface", "x", "y", "marks"]].sel(plane=plane, network=network)
    contours(axes, surface, scale)
    hatch_plateau(axes, surface)
    marks = surface.marks.transpose("mark", "axis").values
    marks = marks[np.isfinite(marks).all(axis=1)]
    if plane == "path":
        draw_trajectory(axes, marks)
    else:
        mark(axes, marks, _labels(results, plane), OUTLINES.get(plane, range(len(marks)) if plane == "polygon" else ()))


def _grid(results: xr.Dataset, *planes: str) -> Figure:
    """A row a network, a column a plane; one scale for all. Plateaus are hatched."""
    networks = [str(name) for name in results.network.values]
    figure = Figure(figsize=(3.1 * len(planes) + 1.2, 3.2 * len(networks) + 0.2), layout="constrained")
    panels = figure.subplots(len(networks), len(planes), squeeze=False)
    scale = Scale.of(results.surface.sel(plane=list(planes)))
    for row, network in zip(panels, networks, strict=True):
        for axes, plane in zip(row, planes, strict=True):
            _panel(axes, results, plane, network, scale)
            axes.set_title(f"{SHOWN_NAMES[plane]}\n{network}", loc="left", fontsize=10)
    colour_bar(figure, panels, scale, shrink=0.8)
    return figure


def between(results: xr.Dataset) -> Figure:
    """Figure 12, and a triangle."""
    return _grid(results, "starts", "optimizers", "solutions")


def moments(results: xr.Dataset) -> Figure:
    """Four optimizers from one start, at three moments."""
    return _grid(results, "early", "middle", "optimizers")


def way(results: xr.Dataset) -> Figure:
    """The trajectory on its plane, and a pentagon."""
    return _grid(results, "path", "polygon")


def measured(results: xr.Dataset) -> Figure:
    """Figure 13: the measured planes of the first seed."""
    return _grid(results, "optimizers", "random")


def reliefs(results: xr.Dataset) -> Figure:
    """Figures 12 and 13 as heights."""
    names, networks = ("starts", "optimizers"), [str(name) for name in results.network.values]
    figure = Figure(figsize=(9.4, 8), layout="constrained")
    scale = Scale.of(results.surface.sel(plane=list(names)))
    panels = []
    for i, network in enumerate(networks):
        for j, plane in enumerate(names):
            axes: Any = figure.add_subplot(len(networks), len(names), 1 + i * len(names) + j, projection="3d")
            relief(axes, results[["surface", "x", "y"]].sel(plane=plane, network=network), scale)
            axes.set_title(f"{SHOWN_NAMES[plane]}, {network}", fontsize=10)
            panels.append(axes)
    colour_bar(figure, panels, scale, shrink=0.6, pad=0.08)
    return figure


def walls(results: xr.Dataset) -> Figure:
    """The loss along the line between two solutions."""
    figure = Figure(figsize=(7.4, 4.2), layout="constrained")
    axes = figure.subplots()
    kinds = (
        (PLAIN, "recomputed", "-", PLAIN),
        (NORMALIZED, "recomputed", "-", f"{NORMALIZED}, statistics recomputed"),
        (NORMALIZED, "interpolated", "--", "the same, statistics interpolated (false)"),
    )
    for network, statistics, line, label in kinds:
        loss = results.line.sel(network=network, statistics=statistics)
        axes.plot(loss.place, loss, line, color=look(NETWORK_LOOKS[network]).colour, linewidth=1.8, label=label)
    for place in (0, 1):
        axes.axvline(place, color="#8A8A8A", linewidth=1, linestyle=":", zorder=0)
    axes.set(yscale="log", xlabel="place on the line (dotted: the two solutions)", ylabel="loss, nats")
    plain_numbers(axes.yaxis)
    axes.legend(frameon=False, loc="best", fontsize=9)
    return figure


def measures(results: xr.Dataset) -> Figure:
    """Plateau and roughness of every seed."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    seeds = results.sizes["seed"]
    spread = np.linspace(-0.13, 0.13, seeds) if seeds > 1 else np.zeros(1)
    kinds = (("plateau, % of points", plateau_share), ("roughness, %", roughness))
    for axes, (label, measure) in zip(figure.subplots(1, 2), kinds, strict=True):
        for i, plane in enumerate(map(str, results.measure.values)):
            for j, network in enumerate((PLAIN, NORMALIZED)):
                colour, marker = look(NETWORK_LOOKS[network])
                values = 100 * by_seed(results, plane, network, measure)
                at = i + 0.4 * j - 0.2
                axes.plot(at + spread, values, ".", color=colour, alpha=0.55, markersize=5)
                mean, low, high = mean_interval(values).clipped(0, 100)
                ends = None if np.isnan(low) else [[mean - low], [high - mean]]
                axes.errorbar(
                    [at],
                    [mean],
                    ends,
                    color=colour,
                    marker=marker,
                    markersize=7,
                    capsize=5,
                    linewidth=1.6,
                    label=network if i == 0 else None,
                )
        names = [PLANE_NAMES[str(plane)].replace(" ", "\n", 1) for plane in results.measure.values]
        axes.set_xticks(range(len(names)), names)
        top = max(5.0, axes.get_ylim()[1])
        axes.set(ylabel=label, xlim=(-0.5, results.sizes["measure"] - 0.5), ylim=(-0.03 * top, top))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


_SCALE = (
    "Colours are the loss in log scale, one scale for all panels. Hatched are plateaus: a loss of at least "
    f"{HIGH:g} ln 10 whose logarithm has a slope below {FLAT:g} a side of the square."
)
PICTURES = (
    Picture(
        "between",
        "The loss between weights: of two initial configurations and what SGD makes of them (left), of what four "
        "optimizers reach from one start (middle; the study's figure 12), and of SGD's solutions from three starts "
        f"(right, a triangle). Statistics of batch norm are recomputed at each point. {_SCALE}",
        between,
    ),
    Picture(
        "reliefs",
        "Two of the same surfaces as heights, in log scale, cut off at the top. Without batch norm (top) and with it.",
        reliefs,
    ),
    Picture(
        "measured",
        "With and without batch norm (the study's figure 13): between four optimizers' weights, and along random "
        f"directions whose filters are as long as the solution's. {_SCALE}",
        measured,
    ),
    Picture(
        "measures",
        "Plateau and roughness of each seed (dots), and their means with 95 % intervals.",
        measures,
    ),
    Picture(
        "walls",
        "The loss along the line through two solutions. Statistics of batch norm that are interpolated as the weights "
        "are show a wall that is not there when they are recomputed for the weights at each point; where the line "
        "breaks off an interpolated variance is negative.",
        walls,
    ),
    Picture(
        "moments",
        f"Between the weights of four optimizers at three moments of training from one start. {_SCALE}",
        moments,
    ),
    Picture(
        "way",
        "Left: the plane of the first two principal components of SGD's trajectory, from its start (ring) to its end "
        f"(cross). Right: a pentagon by mean-value coordinates, of the start and the four ends. {_SCALE}",
        way,
    ),
)
