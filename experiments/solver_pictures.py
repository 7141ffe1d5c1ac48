"""Pictures of the solver settings: their errors beside the published ones, and how they were reached."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from experiments import curves
from experiments.comparison import DEFAULT
from experiments.looks import look
from experiments.solver_readings import errors
from experiments.solvers import PUBLISHED, fair, published
from experiments.study import Picture

STYLES = ("-", "--", "-.", ":")


def order(results: xr.Dataset) -> Figure:
    """Testing errors in the published order, a panel a network."""
    models = [str(name) for name in results.published_model.values]
    names = sorted(map(str, results.published_optimizer.values), key=lambda name: PUBLISHED[name].resnet110)
    figure = Figure(figsize=(max(7.0, 6.0 * len(models)), 4.4), layout="constrained")
    grid = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for axes, model in zip(grid, models, strict=True):
        found = errors(results, model)
        for place, name in enumerate(names):
            colour, marker = look(name)
            axes.plot([100 * PUBLISHED[name].resnet110], [place], "o", color=colour, fillstyle="none", markersize=9)
            axes.plot(100 * found[name], [place] * len(found[name]), "|", color=colour, markersize=10)
            axes.plot([100 * found[name].mean()], [place], marker=marker, color=colour, markersize=8)
        axes.set(xscale="log", xlabel="testing error, %")
        axes.set_title(model, loc="left", fontsize="medium")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7), numticks=12))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    grid[0].set_yticks(range(len(names)), names)
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    handles = [
        Line2D([], [], color="#777777", marker="o", fillstyle="none", markersize=9, linestyle="none"),
        Line2D([], [], color="#777777", marker="D", markersize=8, linestyle="none"),
        Line2D([], [], color="#777777", marker="|", markersize=10, linestyle="none"),
    ]
    labels = ["ResNet-110, published (one run)", "ours, mean", "ours, each seed"]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def training(results: xr.Dataset) -> Figure:
    """Training loss by epoch, a panel an optimizer, a line a rate; a row a network."""
    one = published(results).sel(track=DEFAULT)
    models = [str(name) for name in one.model.values]
    settings = [str(name) for name in one.optimizer.values]
    families = list(dict.fromkeys(name.partition(" (")[0] for name in settings))
    figure = Figure(figsize=(11, 1.0 + 3.6 * len(models)), layout="constrained")
    grid = figure.subplots(len(models), len(families), squeeze=False, sharex=True, sharey="row")
    for row, model in zip(grid, models, strict=True):
        for axes, family in zip(row, families, strict=True):
            names = [name for name in settings if name.partition(" (")[0] == family]
            for style, name in zip(STYLES, names, strict=False):
                loss = one.train_loss.sel(model=model, optimizer=name).mean("seed", skipna=False)
                label = name.partition(" (")[2].rstrip(")") or "no rate"
                axes.plot(one.epoch, loss, color=look(name).colour, linestyle=style, label=label)
            axes.set(yscale="log", xlabel="epoch")
            axes.set_title(f"{family}, {model}" if len(models) > 1 else family, loc="left", fontsize="medium")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5), numticks=12))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
            # Below the panel: inside, one of the lines passes everywhere.
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize="small")
        row[0].set_ylabel("training loss, nats")
    return figure


PICTURES = (
    Picture(
        "order",
        "Testing errors of the nine settings in the order of the published ones: these as rings, ours as filled "
        "markers, each seed as a tick. A run that diverged is at 100 %.",
        order,
    ),
    Picture(
        "settings",
        "Training loss by epoch of the nine settings, mean over seeds. A setting with a seed that diverged ends there.",
        training,
    ),
    Picture(
        "fair",
        "Test accuracy of the four methods with the same weight decay and tuned rates: the mean over seeds, its 95 % "
        "interval, and each seed as a tick.",
        lambda results: curves.accuracy(fair(results)),
    ),
    Picture("fair-sensitivity", curves.SENSITIVITY.caption, lambda results: curves.sensitivity(fair(results))),
)
