"""Intervals and tests for means over few seeds, and what is read off curves.

Methods are compared in pairs: seed i means the same initial parameters and the same batches for each, so that the
difference of two methods is taken within a seed, and what a lucky seed gives to both cancels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy import stats

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 20
"""Values from which on the bootstrap's intervals hold what they promise; a test shows the coverage on both sides."""
RESAMPLES = 9999

Values = Float[np.ndarray, " n"]


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    def clipped(self, least: float, most: float) -> Interval:
        """The part of the interval in which the quantity can lie at all."""
        return Interval(self.mean, max(self.low, least), min(self.high, most))

    def within(self, margin: float) -> bool:
        """Whether all of the interval is nearer to zero than `margin`."""
        return -margin < self.low and self.high < margin


def mean_interval(values: Values) -> Interval:
    r"""The 95 % interval of the mean: Student's t below `BOOTSTRAP_FROM` values, else the bootstrap (BCa).

    Why not always the bootstrap: with three to ten seeds it resamples too few values, and its 95 % intervals hold the
    mean only about 80 to 90 % of the time.

    It speaks of the spread over seeds (initial parameters, order of the examples), on this one test split.
    With a single value the ends are NaN, and so are all three if a value is.
    """
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if len(values) < 2 or np.isnan(mean):
        return Interval(mean, float("nan"), float("nan"))
    error = float(stats.sem(values))
    if error == 0:  # all seeds agree; both methods would give NaN
        return Interval(mean, mean, mean)
    if len(values) >= BOOTSTRAP_FROM:
        low, high = stats.bootstrap(
            (values,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, rng=np.random.default_rng(0)
        ).confidence_interval
        return Interval(mean, float(low), float(high))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half)


def paired(first: Values, second: Values) -> Interval:
    """The mean of `first - second`, taken within seeds, and its interval."""
    return mean_interval(np.asarray(first, np.float64) - np.asarray(second, np.float64))


def p_value(first: Values, second: Values) -> float:
    """Of the paired t test that two methods are equal; 1 where it cannot be known."""
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if len(difference) < 2 or np.isnan(difference).any() or not difference.any():
        return 1.0
    if stats.sem(difference) == 0:
        return 0.0
    _, p = stats.ttest_1samp(difference, 0.0)
    return float(np.asarray(p))


def differ(values: Mapping[str, Values]) -> set[frozenset[str]]:
    """The pairs of methods that differ, at 5 % for all pairs together (Holm's correction)."""
    pairs = list(itertools.combinations(values, 2))
    tested = sorted((p_value(values[a], values[b]), i) for i, (a, b) in enumerate(pairs))
    found: set[frozenset[str]] = set()
    for place, (p, i) in enumerate(tested):
        if p > (1 - CONFIDENCE) / (len(pairs) - place):
            break
        found.add(frozenset(pairs[i]))
    return found


def letters(values: Mapping[str, Values]) -> dict[str, str]:
    """For each method letters, the best mean first: two methods that share a letter cannot be told apart.

    A group is a run of neighbours in the order of their means of which no two differ. A method without a mean has none.
    """
    known = {name: one for name, one in values.items() if not np.isnan(np.mean(one))}
    order = sorted(known, key=lambda name: -float(np.mean(known[name])))
    apart = differ(known)
    groups: list[range] = []
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and not any(frozenset((order[i], order[end])) in apart for i in range(start, end)):
            end += 1
        if not groups or end > groups[-1].stop:
            groups.append(range(start, end))
    named = dict.fromkeys(values, "")
    for letter, group in zip("abcdefghijklmnopqrstuvwxyz", groups, strict=False):
        for i in group:
            named[order[i]] += letter
    return named


def first_to_reach(curve: Float[np.ndarray, " epochs"], target: float) -> float:
    """The number (from 1) of the first epoch whose value is at least `target`; infinite if there is none."""
    reached = np.flatnonzero(np.asarray(curve) >= target)
    return float(reached[0] + 1) if len(reached) else float("inf")


def tolerance(rates: Sequence[float], accuracy: Values, margin: float) -> float:
    """Sensitivity to the learning rate: decades of rates, around the best, that stay within `margin` of the best.

    Counted over neighbours on the grid, each standing for the step between it and the next; NaN counts as too far.
    """
    logs, accuracy = np.log10(np.asarray(rates, np.float64)), np.nan_to_num(np.asarray(accuracy), nan=-np.inf)
    if not np.isfinite(accuracy).any() or len(logs) < 2:
        return float("nan")
    good = accuracy >= accuracy.max() - margin
    low = high = int(accuracy.argmax())
    while low > 0 and good[low - 1]:
        low -= 1
    while high + 1 < len(logs) and good[high + 1]:
        high += 1
    return float(logs[high] - logs[low] + np.median(np.diff(logs)))


def profile(costs: xr.DataArray, ratios: Float[np.ndarray, " ratios"]) -> xr.DataArray:
    """Performance profiles: the part of problems that a method solves at no more than `ratio` times the least cost.

    Args:
        costs: Dims (problem, optimizer); infinite where a method does not solve a problem.
        ratios: At least 1.

    Returns:
        Dims (optimizer, ratio).

    Source: Dolan and More, 2002.
    """
    solvable = costs.where(np.isfinite(costs.min("optimizer")), drop=True)
    relative = solvable / solvable.min("optimizer")
    return (relative <= xr.DataArray(ratios, dims="ratio", coords={"ratio": ratios})).mean("problem")
