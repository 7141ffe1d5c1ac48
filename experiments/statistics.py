"""Intervals and tests for means over few seeds, and what is read off curves.

Methods are compared in pairs: seed i means the same initial parameters and the same batches for each, so that the
difference of two methods is taken within a seed, and what a lucky seed gives to both cancels.
"""

from __future__ import annotations

import functools
import itertools
import string
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy import special

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 20
"""Values from which on the bootstrap's intervals hold what they promise; a test shows the coverage on both sides."""
RESAMPLES, RESAMPLES_AT_ONCE = 9999, 100
ROUNDING = 1e-12
"""Of the values' size: a spread below it is the rounding of a difference of equal decimals, and no spread."""

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

    def beyond(self, margin: float) -> bool:
        """Whether all of the interval is farther from zero than `margin`, on one side."""
        return self.low > margin or self.high < -margin


def mean_interval(values: Values, tests: int = 1) -> Interval:
    r"""The 95 % interval of the mean: Student's t below `BOOTSTRAP_FROM` values, else the studentized bootstrap.

    Why not always the bootstrap: with three to ten seeds it resamples too few values to know the tails. Why a
    studentized one: with 20 values the intervals of the plain one and of BCa hold the mean about 91 % of the time,
    the studentized ones 94 to 95 %, of skewed values too.

    It speaks of the spread over seeds (initial parameters, order of the examples), on this one test split.
    With a single value the ends are NaN, and where the mean is not finite.

    Args:
        values: One a seed.
        tests: How many intervals a rule reads of which one may decide: all hold together at 95 % (Bonferroni).
    """
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if len(values) < 2 or not np.isfinite(mean):
        return Interval(mean, float("nan"), float("nan"))
    error = _standard_error(values)
    tail = (1 - CONFIDENCE) / 2 / tests
    if error == 0:  # all seeds agree
        return Interval(mean, mean, mean)
    resampled = None if len(values) < BOOTSTRAP_FROM else _studentized(values)
    least = special.stdtrit(len(values) - 1, tail)
    least, most = (least, -least) if resampled is None else np.quantile(resampled, [tail, 1 - tail])
    return Interval(mean, mean - float(most) * error, mean - float(least) * error)


def bounds(values: xr.DataArray, dim: str) -> tuple[xr.DataArray, xr.DataArray]:
    """The ends of the mean's 95 % interval along one dimension, for each place of the others."""
    return xr.apply_ufunc(
        lambda one: mean_interval(one)[1:],
        values,
        input_core_dims=[[dim]],
        output_core_dims=[[], []],
        output_dtypes=[np.float64, np.float64],
        vectorize=True,
    )


def paired(first: Values, second: Values, tests: int = 1) -> Interval:
    """The mean of `first - second`, taken within seeds, and its interval; `tests` as in `mean_interval`."""
    return mean_interval(np.asarray(first, np.float64) - np.asarray(second, np.float64), tests)


def p_value(first: Values, second: Values) -> float:
    """Of the paired t test that two methods are equal; 1 where it cannot be known."""
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if len(difference) < 2 or np.isnan(difference).any() or not difference.any():
        return 1.0
    error = _standard_error(difference)
    if error == 0:
        return 0.0
    return float(2 * special.stdtr(len(difference) - 1, -abs(difference.mean()) / error))


def _standard_error(values: Values) -> float:
    """Of the mean; 0 where the values differ by rounding alone."""
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    return 0.0 if error <= ROUNDING * float(np.abs(values).max()) else error


def _studentized(values: Values) -> Values | None:
    """How many of its own standard errors the mean of each resample is above the mean of `values`.

    None where a resample has no spread, as when nearly all values are equal.
    """
    return _studentized_bytes(values.tobytes(), RESAMPLES)


# The same intervals stand in tables, verdicts and pages.
@functools.lru_cache(maxsize=512)
def _studentized_bytes(content: bytes, resamples: int) -> Values | None:
    values, rng = np.frombuffer(content), np.random.default_rng(0)
    means, errors = [], []
    for done in range(0, resamples, RESAMPLES_AT_ONCE):
        resampled = rng.choice(values, (min(RESAMPLES_AT_ONCE, resamples - done), len(values)))
        means.append(resampled.mean(axis=1))
        errors.append(resampled.std(axis=1, ddof=1) / np.sqrt(len(values)))
    if np.concatenate(errors).min() <= ROUNDING * np.abs(values).max():
        return None
    return (np.concatenate(means) - values.mean()) / np.concatenate(errors)


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
    """For each method letters, the best mean first: two methods share a letter just if they cannot be told apart.

    "Cannot be told apart" is not transitive, so a method may have several. A method without a mean has none.

    Source: Piepho, 2004 (insert and absorb).
    """
    known = {name: one for name, one in values.items() if not np.isnan(np.mean(one))}
    order = sorted(known, key=lambda name: -float(np.mean(known[name])))
    groups = [frozenset(order)]
    for pair in differ(known):
        # A group that holds both becomes two, each without one of them; what lies within another group is dropped.
        parted = [part for group in groups for part in ([group - {one} for one in pair] if pair <= group else [group])]
        groups = [group for group in dict.fromkeys(parted) if not any(group < other for other in parted)]
    ranked = sorted(groups, key=lambda group: sorted(map(order.index, group)))
    named = dict.fromkeys(values, "")
    for letter, group in zip(string.ascii_letters, ranked, strict=False):
        for name in group:
            named[name] += letter
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

    A problem that no method solves is left out; if none is left, all parts are NaN.

    Args:
        costs: Dims (problem, optimizer); infinite where a method does not solve a problem.
        ratios: At least 1.

    Returns:
        Dims (optimizer, ratio).

    Source: Dolan and Moré, 2002.
    """
    solvable = costs[{"problem": np.flatnonzero(np.isfinite(costs.min("optimizer")))}]
    relative = solvable / solvable.min("optimizer")
    solved = relative <= xr.DataArray(ratios, dims="ratio", coords={"ratio": ratios})
    return solved.mean("problem") if solvable.sizes["problem"] else solved.any("problem").astype(float) * np.nan
