"""The heavy ball and Nesterov's method on the bowl over their momentum (figure 3), as written and as coded in 2016."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import gradtx
from experiments import race
from experiments.formulas import FORMULAS
from experiments.looks import look
from experiments.printed import PRINTED
from experiments.study import Claim, Context, Picture, Study, Table, TierName, Verdict
from experiments.surface_pictures import contours, draw_losses, draw_path, legend_below, text_colour
from experiments.surfaces import BOWL, settled_step, stability_limit, trajectories

CODED = "NAG as coded"
METHODS: dict[str, tuple[gradtx.GradientTransformation, str]] = {
    "Momentum": (FORMULAS["Momentum"], "momentum"),
    "NAG": (FORMULAS["NAG"], "momentum"),
    CODED: (PRINTED["NAG"], "discount"),
}
TARGET = 1e-3


@dataclass(frozen=True)
class Amount:
    """How much is run.

    Attributes:
        steps: Of the paths that are shown.
        long: The steps over which a path is judged.
        momenta: 0 is plain gradient descent.
        rates: Learning rates; the first is shown.
    """

    steps: int
    long: int
    momenta: tuple[float, ...]
    rates: tuple[float, ...]
    estimate: str = field(repr=False)
    scale: str = field(default="", repr=False)


FULL = Amount(50, 4000, (0.0, 0.5, 0.7, 0.9, 0.99), (0.01, 0.005, 0.02), "2 s")
TIERS: dict[TierName, Amount] = {
    "smoke": Amount(20, 600, (0.0, 0.7, 0.9), (0.01,), "2 s", "20 steps at one rate"),
    "cpu": FULL,
    "accelerator": FULL,
}


def _run(tier: Amount, context: Context) -> xr.Dataset:
    def paths(name: str) -> xr.Dataset:
        tx, argument = METHODS[name]
        grid: dict[str, Any] = {"learning_rate": tier.rates, argument: tier.momenta}
        long = trajectories(BOWL, tx, tier.long, **grid).rename({argument: "momentum"})
        shown = long[["x", "y", "loss"]].isel(step=slice(tier.steps + 1))
        return shown.assign(
            arrival=settled_step(long.loss < TARGET),
            rise=long.loss.diff("step").clip(min=0).sum("step") / long.loss.isel(step=0),
        )

    def limits(name: str) -> xr.Dataset:
        tx, argument = METHODS[name]
        found = [
            np.mean(stability_limit(BOWL, tx.replace(**{argument: g}), 1e-3, 1.0, 1e-7, tier.long))
            for g in tier.momenta
        ]
        return xr.Dataset({"limit": ("momentum", found)}, coords={"momentum": list(tier.momenta)})

    done: list[xr.Dataset] = []
    for name in METHODS:
        context.progress.describe(name)
        # The store computes at once, so that the loop's variable is still this one.
        path = context.store.part(f"paths {name}", lambda _, name=name: paths(name))
        limit = context.store.part(f"limits {name}", lambda _, name=name: limits(name))
        done.append(xr.merge([path, limit], combine_attrs="drop"))
    return xr.concat(done, xr.IndexVariable("optimizer", list(METHODS)), combine_attrs="drop")


def _tables(results: xr.Dataset) -> Sequence[Table]:
    momenta = [f"{g:g}" for g in results.momentum.values]
    last = results.loss.isel(step=-1, learning_rate=0)
    found = results.isel(learning_rate=0)
    rate = float(found.learning_rate)

    def table(title: str, values: xr.DataArray, form: str, note: str = "") -> Table:
        rows = [[str(name), *_cells(values.sel(optimizer=name), form)] for name in values.optimizer.values]
        return Table(title, ["momentum", *momenta], rows, note)

    coded = "In the code of 2016 NAG's velocity decays by 0.7 whatever its momentum is."
    return [
        table(f"Loss after {int(last.step)} steps at {rate:g}", last, ".6g", coded),
        table(f"Steps until the loss stays below {TARGET:g}, at {rate:g}", found.arrival, ".0f"),
        table(f"All rises of the loss together, over its start, at {rate:g}", found.rise, ".3g"),
        table("Learning rate from which on it diverges", found.limit, ".5f", _LIMITS),
    ]


_LIMITS = (
    "By bisection. In closed form 2 (1 + g) / L for the heavy ball, and 2 (1 + g) / ((1 + 2 g) L) for NAG, which is "
    "the smaller: what damps also needs the shorter steps."
)


def _cells(values: xr.DataArray, form: str) -> list[str]:
    return [format(float(value), form) if np.isfinite(value) else "never" for value in values]


def _draw_paths(results: xr.Dataset) -> Figure:
    names, momenta = results.optimizer.values, results.momentum.values
    size = (2.5 * len(momenta), 2.75 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(names), len(momenta), squeeze=False, sharex=True, sharey=True)
    for row, name in zip(panels, names, strict=True):
        for axes, momentum in zip(row, momenta, strict=True):
            contours(axes, BOWL)
            path = results.isel(learning_rate=0).sel(optimizer=name, momentum=momentum)
            draw_path(axes, path, color=_colour(str(name)))
            axes.set_title(f"{name}, γ = {momentum:g}", loc="left", fontsize=11)
    figure.supxlabel("x", fontsize=10)
    figure.supylabel("y", fontsize=10)
    return figure


def _draw_losses(results: xr.Dataset) -> Figure:
    momenta = results.momentum.values
    columns = min(3, len(momenta))
    rows = -(-len(momenta) // columns)
    figure = Figure(figsize=(3.5 * columns, 3.1 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    # Dashes too: the code's NAG lies on NAG where gamma is 0.7.
    dashes = dict(zip(METHODS, ("-", "-", "--"), strict=True))
    for axes, momentum in zip(panels, momenta, strict=False):
        for name in results.optimizer.values:
            loss = results.loss.isel(learning_rate=0).sel(optimizer=name, momentum=momentum)
            style = {"color": _colour(str(name)), "linestyle": dashes[str(name)], "label": name}
            draw_losses(axes, loss, 1e-4, 1e3, **style)
        axes.set_title(f"momentum {momentum:g}", loc="left", fontsize=11)
        axes.set_xlabel("step")
        axes.tick_params(labelbottom=True)
    for unused in panels[len(momenta) :]:
        unused.set_axis_off()
    for axes in panels[::columns]:
        axes.set_ylabel("loss")
    legend_below(figure, panels[0])
    return figure


def _colour(name: str) -> str:
    return text_colour() if name == CODED else look(name).colour


def _decide(results: xr.Dataset) -> Verdict:
    ball, nag = results.sel(optimizer="Momentum"), results.sel(optimizer="NAG")
    faster = race.outcome([_falls_to_its_best(ball.arrival.sel(learning_rate=h)) for h in ball.learning_rate])
    more = race.outcome([_rises(ball.rise.sel(learning_rate=h)) for h in ball.learning_rate])
    damped = race.outcome(
        [_is_less(nag.rise.sel(learning_rate=h), ball.rise.sel(learning_rate=h)) for h in ball.learning_rate]
    )
    first = results.isel(learning_rate=0)
    words = [f"{name}: {', '.join(_cells(first.rise.sel(optimizer=name), '.2g'))}" for name in METHODS]
    effect = (
        f"At rate {float(first.learning_rate):g} and momentum {', '.join(f'{g:g}' for g in first.momentum.values)}: "
        f"steps to {TARGET:g} {', '.join(_cells(first.arrival.sel(optimizer='Momentum'), '.0f'))} "
        f"(faster up to a point: {faster}); rises of the loss over its start, {'; '.join(words)} "
        f"(more with momentum: {more}; less with NAG: {damped}). The verdict uses NAG as written, not as coded."
    )
    return Verdict(race.both([faster, more, damped]), effect)


def _falls_to_its_best(steps: xr.DataArray) -> race.Answer:
    """Whether each momentum up to the best needs fewer steps than the one before, and the best is not 0."""
    known = steps.fillna(np.inf).values
    best = int(known.argmin())
    if not np.isfinite(known[best]):
        return "tie"
    return "yes" if best > 0 and bool(np.all(np.diff(known[: best + 1]) < 0)) else "no"


def _rises(rise: xr.DataArray) -> race.Answer:
    """Whether the rises never shrink as momentum grows, and the last are larger than the first."""
    values = rise.values
    if np.all(values == values[0]):
        return "tie"
    return "yes" if bool(np.all(np.diff(values) >= 0)) else "no"


def _is_less(less: xr.DataArray, more: xr.DataArray) -> race.Answer:
    """Whether the one is smaller wherever the two differ."""
    if bool((less == more).all()):
        return "tie"
    return "yes" if bool((less <= more).all()) else "no"


def _expected(tier: Amount) -> Mapping[str, float]:
    return {f"{what} {name}": 1.0 for name in METHODS for what in ("paths", "limits")}


C2 = Claim(
    name="C2",
    says="More momentum is faster, up to a point, and overshoots; NAG damps this.",
    rule=(
        "Three parts, each asked at every learning rate tried. Faster: the steps until the loss stays below "
        f"{TARGET:g} fall with each larger momentum up to the best one, and the best is not 0. Overshoots: the rises "
        "of the loss, summed over the run, never shrink with momentum, and grow in all. Damps: with NAG as written "
        "they are nowhere larger than with the heavy ball, and somewhere smaller. A part holds if it does at all "
        "rates, fails if at none, and is open otherwise (also where no path arrives or all rise alike). Supported: "
        "all parts hold. Refuted: one fails. Inconclusive: one is open and none fails."
    ),
    decide=_decide,
)

STUDY = Study(
    name="bowl-momentum",
    question="What does momentum do on a simple convex function, and does Nesterov's form damp it?",
    figures="figure 3",
    data=None,
    tiers=TIERS,
    run=_run,
    tables=_tables,
    pictures=(
        Picture(
            "bowl-momentum-paths",
            "Paths on x² + 10 y² from (7, 5) at rate 0.01, by momentum. Top: the heavy ball; middle: Nesterov's "
            "method; bottom: Nesterov's method as the study's code has it, whose velocity always decays by 0.7.",
            _draw_paths,
        ),
        Picture(
            "bowl-momentum-loss",
            "The same paths' loss by step. At momentum 0.9 the heavy ball's loss swings and Nesterov's less; much of "
            "the smoothness that the study shows comes from its code (dashed), which hardly reads the momentum.",
            _draw_losses,
        ),
    ),
    claims=(C2,),
    expected=_expected,
)
