"""Gradient descent on the bowl at several learning rates (figure 2), and the rate at which it begins to diverge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.formulas import FORMULAS
from experiments.store import Checkpoint
from experiments.study import Claim, Context, Picture, Study, Table, TierName, Verdict
from experiments.surface_pictures import contours, draw_losses, draw_path, shades
from experiments.surfaces import BOWL, grows, stability_limit, trajectories

AGREES = 1e-6
"""How near the limit that was found has to be to 2 / L."""


@dataclass(frozen=True)
class Amount:
    """How much is run.

    Attributes:
        steps: Of the paths that are shown.
        rates: The learning rates that are shown.
        probes: The rates that are sorted into those that converge and those that diverge.
        long: The steps by which that is decided.
    """

    steps: int
    rates: tuple[float, ...]
    probes: tuple[float, ...]
    long: int
    estimate: str = field(repr=False)
    scale: str = field(default="", repr=False)


FULL = Amount(
    50, (0.01, 0.05, 1 / 11, 0.099, 0.101, 0.11), tuple(rate / 10_000 for rate in range(25, 1551, 50)), 600, "1 s"
)
TIERS: dict[TierName, Amount] = {
    "smoke": Amount(20, (0.01, 0.11), (0.05, 0.15), 600, "1 s", "20 steps at 2 rates"),
    "cpu": FULL,
    "accelerator": FULL,
}


def _run(tier: Amount, context: Context) -> xr.Dataset:
    sgd = FORMULAS["SGD"]

    def paths(_: Checkpoint) -> xr.Dataset:
        return trajectories(BOWL, sgd, tier.steps, learning_rate=tier.rates)

    def limit(_: Checkpoint) -> xr.Dataset:
        probes = trajectories(BOWL, sgd, tier.long, learning_rate=tier.probes)
        # The probes say between which rates to search; where all do the same there is nothing to find.
        grown = grows(probes).rename(learning_rate="probe")
        low, high = grown.probe[~grown.values], grown.probe[grown.values]
        found = (float("nan"),) * 2
        if len(low) and len(high):
            found = stability_limit(BOWL, sgd, float(low.min()), float(high.max()), AGREES / 10, tier.long)
        ends = xr.DataArray(list(found), dims="end", coords={"end": ["converges", "diverges"]})
        return xr.Dataset({"diverges": grown, "limit": ends, "two_over_l": 2 / BOWL.steepest})

    context.progress.describe("paths")
    first = context.store.part("paths", paths)
    context.progress.describe("the limit of stability")
    return xr.merge([first, context.store.part("limit", limit)], combine_attrs="drop")


def _tables(results: xr.Dataset) -> Sequence[Table]:
    last = results.isel(step=-1)
    steps = int(last.step)
    rows = []
    for rate in results.learning_rate.values:
        exact = float(BOWL.height(*_closed_form(float(rate), steps)))
        here = float(last.loss.sel(learning_rate=rate))
        rows.append([f"{rate:.4g}", f"{here:.7g}", f"{exact:.7g}", "diverges" if rate > results.two_over_l else ""])
    title = f"Gradient descent on {BOWL.formula} from (7, 5): the loss after {steps} steps"
    low, high = results.limit.values
    note = f"The limit that bisection finds lies between {low:.8f} and {high:.8f}; 2 / L is {2 / BOWL.steepest:g}."
    return [Table(title, ["learning rate", "measured", "closed form", "by 2 / L"], rows, note)]


def _closed_form(rate: float, step: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = BOWL.start
    return np.array(x * (1 - 2 * BOWL.a * rate) ** step), np.array(y * (1 - 2 * BOWL.b * rate) ** step)


def _draw_paths(results: xr.Dataset) -> Figure:
    rates = results.learning_rate.values
    columns = min(3, len(rates))
    rows = -(-len(rates) // columns)
    figure = Figure(figsize=(3.3 * columns, 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, rate, colour in zip(panels, rates, shades(len(rates)), strict=False):
        contours(axes, BOWL)
        draw_path(axes, results.sel(learning_rate=rate), color=colour)
        word = "diverges" if rate > results.two_over_l else "converges"
        axes.set_title(f"rate {rate:.3g}: {word}", loc="left", fontsize=11)
    figure.supxlabel("x", fontsize=10)
    figure.supylabel("y", fontsize=10)
    return figure


def _draw_losses(results: xr.Dataset) -> Figure:
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.subplots()
    rates = results.learning_rate.values
    for rate, colour in zip(rates, shades(len(rates)), strict=True):
        dashes = "--" if rate > results.two_over_l else "-"
        loss = results.loss.sel(learning_rate=rate)
        draw_losses(axes, loss, 1e-5, 1e5, color=colour, linestyle=dashes, label=f"{rate:.3g}")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(title="learning rate\n(dashed: above 2/L)", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def _decide(results: xr.Dataset) -> Verdict:
    grown = results.diverges.astype(bool)
    converging, diverging = grown.probe.values[~grown.values], grown.probe.values[grown.values]
    low, high = map(float, results.limit.values)
    exact = float(results.two_over_l)
    if not len(converging) or not len(diverging) or not high - low <= AGREES:
        return Verdict("inconclusive", "The rates that were tried do not enclose a limit.")
    if converging.max() > diverging.min():
        return Verdict("refuted", f"It diverges at {diverging.min():g} and converges at {converging.max():g}.")
    effect = (
        f"Of {grown.size} rates those up to {converging.max():g} converge, and those from {diverging.min():g} on "
        f"diverge; bisection finds the limit at {(low + high) / 2:.8f} (within {high - low:.0e}), 2 / L is {exact:g}."
    )
    near = low - AGREES <= exact <= high + AGREES
    return Verdict("supported" if near else "refuted", effect)


def _expected(tier: Amount) -> Mapping[str, float]:
    return {"paths": 1.0, "limit": 1.0}


C1 = Claim(
    name="C1",
    says="A threshold of the learning rate decides whether gradient descent diverges; on the bowl it is 2 / L = 0.1.",
    rule=(
        "Supported: every tried rate below some limit converges and every one above it diverges, and the limit that "
        "bisection finds is within 1e-6 of 2 / L. Refuted: a rate converges above one that diverges, or the limit is "
        "elsewhere. Inconclusive: the tried rates all do the same, or the limit is not enclosed to 1e-6. A path "
        "diverges if its loss is larger in the last third of the steps than in the third before."
    ),
    decide=_decide,
)

STUDY = Study(
    name="bowl-rates",
    question="Which learning rates make gradient descent converge on a simple convex function, and how fast?",
    figures="figure 2",
    data=None,
    tiers=TIERS,
    run=_run,
    tables=_tables,
    pictures=(
        Picture(
            "bowl-rates-paths",
            "Gradient descent on x² + 10 y² from (7, 5). Below a rate of 0.1 it converges: slowly along x "
            "if the rate is small, swinging across y if it is large. Above 0.1 it diverges along y.",
            _draw_paths,
        ),
        Picture(
            "bowl-rates-loss",
            "The same paths' loss by step. Just above the limit the loss falls while x shrinks, and then rises.",
            _draw_losses,
        ),
    ),
    claims=(C1,),
    expected=_expected,
)
