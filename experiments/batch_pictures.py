"""The pictures of a comparison of batch sizes."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.batch_readings import deviation, fluctuation, size_name, theory
from experiments.curves import fill_interval
from experiments.looks import LOOKS, Look, plain_numbers
from experiments.study import Picture

_ORDER = ("Adam", "Momentum", "Adagrad", "NAG", "RMSprop")
"""The hues of the optimizers' palette from warm to cool: from the noisiest to the calmest."""


def look_of(results: xr.Dataset, size: int) -> Look:
    """How a batch size is drawn."""
    sizes = results.batch_size.values.tolist()
    return LOOKS[_ORDER[sizes.index(size) % len(_ORDER)]]


def progress(results: xr.Dataset) -> Figure:
    """The training loss by examples seen, and by seconds."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2, sharey=True), ("examples", "seconds"), strict=True):
        for i, size in enumerate(results.batch_size.values):
            one = results.sel(batch_size=size)
            loss = one.loss.dropna("examples", how="all")
            x = loss.examples * (1.0 if what == "examples" else float(one.example_seconds))
            _band(axes, x.values, loss, look_of(results, size), size_name(results, size), 0.03 * i)
        axes.set(xscale="log", yscale="log", xlabel=_AXES[what])
        plain_numbers(axes.yaxis)
    figure.axes[0].set_ylabel("loss on all training images, nats")
    _legend(figure)
    return figure


_AXES = {"examples": "examples seen", "seconds": "seconds of training, without evaluation"}


def noise(results: xr.Dataset) -> Figure:
    """The gradient's variance by batch size, with theory; and how much the loss fluctuates at the tuned rates."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes = results.noise_size.values
    for point, colour, marker in zip(results.point.values, ("Adam", "RMSprop"), "os", strict=True):
        one = LOOKS[colour].colour
        left.plot(sizes, [theory(results, point, size) for size in sizes], color=one, linewidth=1.2, linestyle="--")
        measured = results.variance.sel(point=point).transpose("noise_size", "seed")
        left.plot(sizes, measured.mean("seed"), linestyle="none", color=one, marker=marker, label=f"{point}, measured")
    left.plot([], [], color="#777777", linewidth=1.2, linestyle="--", label="by theory: about 1/B")
    left.set(xscale="log", yscale="log", xlabel="batch size B", ylabel="variance of the gradient")
    left.legend(frameon=False)
    for size in results.batch_size.values:
        colour, marker = look_of(results, size)
        values = fluctuation(results, size)
        right.plot(np.full(len(values), size), values, "_", color=colour, markersize=10, alpha=0.7)
        right.plot([size], [values.mean()], color=colour, marker=marker, markersize=7)
    right.set(xscale="log", yscale="log", xlabel="batch size B", ylabel="fluctuation of the loss, nats")
    plain_numbers(right.yaxis)
    return figure


def late(results: xr.Dataset) -> Figure:
    """The last quarter of the first seed's runs, without its trend; a row a batch size."""
    sizes = results.batch_size.values
    figure = Figure(figsize=(9, 0.8 + 1.1 * len(sizes)), layout="constrained")
    rows = figure.subplots(len(sizes), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, size in zip(rows, sizes, strict=True):
        off = deviation(results, size).isel(seed=0)
        colour, marker = look_of(results, size)
        axes.plot(off.examples, 1000 * off, color=colour, marker=marker, markersize=4)
        axes.set_title(f"batch {size_name(results, size)}", loc="left", fontsize="small")
    rows[-1].set_xlabel("examples seen")
    rows[-1].xaxis.set_major_formatter("{x:,.0f}")
    figure.supylabel("loss minus its trend, thousandths of a nat", fontsize="medium")
    return figure


def _band(axes: Axes, x: np.ndarray, loss: xr.DataArray, look: Look, label: str, place: float) -> None:
    colour, marker = look
    style = {"color": colour, "marker": marker, "markersize": 4, "label": label}
    axes.plot(x, loss.mean("seed", skipna=False), markevery=(place, 0.15), **style)
    fill_interval(axes, x, loss, "seed", colour)


def _legend(figure: Figure) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="batch size", loc="outside lower center", ncols=5, frameon=False)


PICTURES = (
    Picture(
        "progress",
        "The loss on all training images by examples seen (left) and by seconds of training (right), each batch size "
        "at its tuned rate. Lines are means over seeds, bands are the means' 95 % intervals. Where "
        "tuned rates are in proportion to batch sizes, lines lie on one another.",
        progress,
    ),
    Picture(
        "noise",
        "Left: the variance of the gradient at fixed points, by batch size, as measured and as theory has it. Right: "
        "how much the training loss fluctuates in the last quarter of a run at the tuned rate (its standard deviation "
        "from a line); large markers are means over seeds.",
        noise,
    ),
    Picture(
        "late",
        "The fluctuation itself: the loss on all training images in the last quarter of one run, minus the line that "
        "fits it best.",
        late,
    ),
)
