"""When do second derivatives pay? The study's comparison with Newton's methods, on one convex objective.

First- and second-order methods, far from the optimum and near to it, by whole batches and by mini-batches, all on equal
axes. The rules below were written before the runs.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from experiments import descent_pictures
from experiments.descent_methods import FIRST_ORDER, METHODS
from experiments.descent_readings import costs, efforts, excess
from experiments.descents import NEAR, TARGETS, Descents, expected, run
from experiments.statistics import Interval, Values, mean_interval, paired
from experiments.study import Claim, Study, Table, TierName, Verdict
from experiments.tuning import Grid

FIRST = tuple(method.name for method in FIRST_ORDER)
NAIVE = ("naive L-BFGS", "naive L-BFGS, searching")
STOCHASTIC = "stochastic L-BFGS"
STAGE = {
    "far": f"far (from initial weights to {100 * TARGETS['far']:g} % of their excess)",
    "near": f"near (from {100 * NEAR:g} % to {100 * TARGETS['near']:g} % of it)",
}
BATCHES = {"full": "whole batches", "mini": "mini-batches"}
MOST_EFFORT = 12.0
"""Decades, for a run that is not finite at its end, or worse than that."""


def tables(results: xr.Dataset) -> list[Table]:
    """A table a stage; then the solvers to convergence."""
    return [*(_stage_table(results, stage) for stage in STAGE), _solver_table(results)]


def _stage_table(results: xr.Dataset, stage: str) -> Table:
    rows = []
    for kind, batches in BATCHES.items():
        for name in results[kind].values:
            one = results.sel({"stage": stage, kind: name})
            needed = costs(results, kind, stage, name, TARGETS[stage])
            seconds = needed * float(one[f"{kind}_seconds"])
            last = excess(results, kind, stage, name).isel(cost=-1).values
            rate = float(one[f"{kind}_rate"])
            rows.append(
                (
                    f"{name}, {batches}",
                    "–" if np.isnan(rate) else f"{rate:g}" + "*" * bool(one[f"{kind}_at_edge"]),
                    f"{int(np.isfinite(needed).sum())} of {len(needed)}",
                    _mean(needed),
                    _mean(seconds),
                    f"{1000 * float(one[f'{kind}_seconds']):.3g}",
                    f"{float(np.exp(np.mean(np.log(np.maximum(last, 1e-300))))):.1e}"
                    if np.isfinite(last).all()
                    else "–",
                )
            )
    columns = ("method", "learning rate", "runs that meet the target", "gradients", "seconds", "ms a gradient", "left")
    spent = {kind: float(excess(results, kind, stage, "SGD").cost[-1]) for kind in BATCHES}
    note = (
        "Gradients: what it costs to meet the target, in gradients of the whole objective; a mini-batch's counts by "
        "its part, a Hessian-vector product as two. Geometric mean over seeds and its 95 % interval, where all meet it "
        f"within the budget of {spent['full']:g} gradients with whole batches and {spent['mini']:g} with mini-batches. "
        "Seconds: the same times the seconds of a gradient's worth of work, measured on one run alone. Left: of the "
        "first excess, at the end of the budget. * At an edge of the grid even after it was extended."
    )
    return Table(f"Cost of the stage {STAGE[stage]}", columns, rows, note)


def _mean(values: Values) -> str:
    if not np.isfinite(values).all():
        return "–"
    mean, low, high = (10**value for value in mean_interval(np.log10(values)))
    return f"{mean:.3g}" if np.isnan(low) or low == high else f"{mean:.3g} ({low:.3g} to {high:.3g})"


def _solver_table(results: xr.Dataset) -> Table:
    ratio = float(results.product_seconds) / float(results.gradient_seconds)
    by_solver = results.evaluations.transpose("solver", "images")
    rows = [
        (str(name), *(f"{int(count)}" for count in counts))
        for name, counts in zip(by_solver.solver.values, by_solver.values, strict=True)
    ]
    note = (
        "Evaluations of the objective with its gradient, from zeros; ten pairs of memory. A Hessian-vector product "
        f"counts as two; in time it is {ratio:.2f} gradients here. The least value of the objective that the stages "
        f"have is {float(results.least):.6f}, where no entry of the gradient is above "
        f"{float(results.largest_gradient):.0e}."
    )
    columns = ("solver", *(f"{size:,} images" for size in by_solver.images.values))
    return Table("Evaluations until no entry of the gradient is above 1e-5", columns, rows, note)


def _log_costs(results: xr.Dataset, stage: str) -> tuple[Values, dict[str, Values]]:
    """Log10 of the cost, or of the budget that it exceeds: of L-BFGS, and of each rival."""

    def of(kind: str, name: str) -> Values:
        needed = costs(results, kind, stage, name, TARGETS[stage])
        return np.log10(np.where(np.isfinite(needed), needed, float(results.evaluation[-1])))

    rivals = {f"{name}, {BATCHES[kind]}": of(kind, name) for kind in BATCHES for name in FIRST}
    return of("full", "L-BFGS"), rivals


def _told(mine: Values, rivals: dict[str, Values]) -> str:
    name = min(rivals, key=lambda name: rivals[name].mean())
    mean, low, high = (10**value for value in paired(mine, rivals[name]))
    return (
        f"{10 ** mine.mean():.3g} gradients, {mean:.2g} [{low:.2g}, {high:.2g}] times the "
        f"{10 ** rivals[name].mean():.3g} of {name}"
    )


def pays_only_near(results: xr.Dataset) -> Verdict:
    """Decide C11."""
    found = {stage: _log_costs(results, stage) for stage in STAGE}

    def gaps(stage: str, tests: int) -> list[Interval]:
        mine, rivals = found[stage]
        return [paired(mine, other, tests) for other in rivals.values()]

    whole = {name: one for name, one in found["far"][1].items() if name.endswith(BATCHES["full"])}
    told = [f"{stage} L-BFGS needs {_told(*found[stage])}" for stage in STAGE]
    effect = (
        f"Against the cheapest first-order method: {'; '.join(told)}. Of those with whole batches alone, far: "
        f"{_told(found['far'][0], whole)}."
    )
    far_pays = all(gap.high < 0 for gap in gaps("far", 1))
    near_fails = any(gap.low > 0 for gap in gaps("near", len(gaps("near", 1))))
    if far_pays or near_fails:
        return Verdict("refuted", effect)
    far_fails = any(gap.low > 0 for gap in gaps("far", len(gaps("far", 1))))
    near_pays = all(gap.high < 0 for gap in gaps("near", 1))
    return Verdict("supported" if far_fails and near_pays else "inconclusive", effect)


def _against(
    results: xr.Dataset, mine: tuple[str, ...], others: tuple[str, ...], word: Literal["more", "less"]
) -> Verdict:
    """Whether each of `mine` takes more (less) effort on mini-batches than each of `others`, in both stages."""
    by = {
        (stage, name): np.minimum(efforts(results, "mini", stage, name, TARGETS[stage]), MOST_EFFORT)
        for stage in STAGE
        for name in (*mine, *others)
    }
    pairs = [(stage, one, other) for stage in STAGE for one in mine for other in others]

    def gaps(tests: int) -> list[Interval]:
        return [paired(by[stage, one], by[stage, other], tests) for stage, one, other in pairs]

    told = [
        f"{stage}, {one} minus {other} {gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"
        for (stage, one, other), gap in zip(pairs, gaps(1), strict=True)
    ]
    effect = f"Effort on mini-batches, in decades: {'; '.join(told)}."

    def for_it(gap: Interval) -> tuple[float, float]:
        """The ends of the interval, the least first, of what speaks for the claim where it is above 0."""
        return (gap.low, gap.high) if word == "more" else (-gap.high, -gap.low)

    if any(for_it(gap)[1] < 0 for gap in gaps(len(pairs))):
        return Verdict("refuted", effect)
    return Verdict("supported" if all(for_it(gap)[0] > 0 for gap in gaps(1)) else "inconclusive", effect)


def noise_ruins(results: xr.Dataset) -> Verdict:
    """Decide S1."""
    return _against(results, NAIVE, ("SGD",), "more")


def pairs_of_one_batch_mend(results: xr.Dataset) -> Verdict:
    """Decide S2."""
    return _against(results, (STOCHASTIC,), NAIVE, "less")


_EFFORT = (
    "Effort: the logarithm (base 10) of the gradients needed to meet the stage's target; where it is not met, that of "
    f"the budget plus the decades that are missing, at most {MOST_EFFORT:g}. Each method that has a learning rate is "
    "at the one that took least effort in its stage."
)
CLAIMS = (
    Claim(
        "C11",
        "L-BFGS shows its advantage only when it is close enough to the minimum.",
        f"Compared is the cost of a stage, {STAGE['far']} and {STAGE['near']}, in gradients; a run that does not meet "
        "the target counts with the budget of whole batches. Rivals are SGD, Momentum and Adam, by whole batches and "
        "by mini-batches, each at the rate that is best for the stage. Supported if near L-BFGS is cheaper than every "
        "rival (paired 95 % intervals over seeds, in logarithms) and far some rival is cheaper than L-BFGS (95 % for "
        "all of them together, by Bonferroni's correction). Refuted if far L-BFGS is cheaper than every rival, or near "
        "some rival is cheaper than it, by the same intervals. Else inconclusive.",
        pays_only_near,
    ),
    Claim(
        "S1",
        "With gradients of mini-batches, noise ruins L-BFGS.",
        f"{_EFFORT} Supported if L-BFGS whose pairs are differences of two batches' gradients, both at a tuned rate "
        "and with a line search on each batch, takes more effort than SGD on the same mini-batches in both stages "
        "(paired 95 % intervals over seeds). Refuted if one of them takes less in one stage (95 % for all together, by "
        "Bonferroni's correction). Else inconclusive.",
        noise_ruins,
    ),
    Claim(
        "S2",
        "Pairs that are of one batch each, and damped, mend it.",
        f"{_EFFORT} Supported if the stochastic L-BFGS takes less effort than both naive ones in both stages (paired "
        "95 % intervals over seeds). Refuted if it takes more than one of them in one stage (95 % for all together, by "
        "Bonferroni's correction). Else inconclusive.",
        pairs_of_one_batch_mend,
    ),
)

TIERS: dict[TierName, Descents] = {
    "smoke": Descents(
        200, 10, 1e-3, budget=20, passes=(1, 1), seeds=2, tuning_seeds=1, grid=Grid(-2, -1), solved=(200,),
        estimate="1 minute", scale="200 images, short runs",
    ),
    "cpu": Descents(
        5000, 50, 1e-3, budget=300, passes=(40, 40), seeds=10, tuning_seeds=1, grid=Grid(-4, 1), solved=(5000, 50_000),
        estimate="12 minutes", scale="5,000 of the 50,000 training images",
    ),
    "accelerator": Descents(
        50_000, 100, 1e-4, budget=1000, passes=(50, 50), seeds=10, tuning_seeds=3, grid=Grid(-6, 1), solved=(50_000,),
        estimate="not measured",
    ),
}  # fmt: skip

assert {STOCHASTIC, *NAIVE, *FIRST} == {method.name for method in METHODS["mini"]}

STUDY = Study(
    name="second-order",
    question="When do second derivatives pay: far from the optimum, near to it, and on mini-batches?",
    figures="the comparison with Newton's methods",
    data="mnist",
    tiers=TIERS,
    run=run,
    tables=tables,
    pictures=descent_pictures.PICTURES,
    claims=CLAIMS,
    expected=expected,
)
