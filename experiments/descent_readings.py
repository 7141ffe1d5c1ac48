"""What is read off runs down a convex objective."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.statistics import Values

ALONG = {"full": "evaluation", "mini": "pass"}


def effort(costs: np.ndarray, left: np.ndarray, target: float) -> float:
    """The logarithm (base 10) of the cost at which the target is first met.

    Where it never is: that of the whole cost, plus by how many decades the last point is above the target, so that a
    run that came nearer has less. Infinite for a run that is not finite at its end.
    """
    met = np.flatnonzero((left <= target) & np.isfinite(costs))
    if len(met):
        return float(np.log10(costs[met[0]]))
    last = left[-1]
    if not np.isfinite(last):
        return float("inf")
    return float(np.log10(np.max(costs[np.isfinite(costs)])) + np.log10(last / target))


def excess(results: xr.Dataset, kind: str, stage: str, name: str) -> xr.DataArray:
    """The part of the first excess that is left, (seed, cost), of what was recorded; infinite for what diverged."""
    along = ALONG[kind]
    one = results[f"{kind}_excess"].sel({"stage": stage, kind: name}).rename({along: "cost"})
    return one.transpose("seed", "cost").dropna("cost", how="all")


def costs(results: xr.Dataset, kind: str, stage: str, name: str, target: float) -> Values:
    """What it costs to meet the target, by seed; infinite where it is not met within the budget."""
    one = excess(results, kind, stage, name)
    found = []
    for row in one.values:
        met = np.flatnonzero(row <= target)
        found.append(float(one.cost.values[met[0]]) if len(met) else np.inf)
    return np.asarray(found)


def efforts(results: xr.Dataset, kind: str, stage: str, name: str, target: float) -> Values:
    """`effort` by seed."""
    one = excess(results, kind, stage, name)
    return np.asarray([effort(one.cost.values, row, target) for row in one.values])
