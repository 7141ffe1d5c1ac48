"""Intervals for means over few seeds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    def clipped(self, least: float, most: float) -> Interval:
        """The part of the interval in which the quantity can lie at all."""
        return Interval(self.mean, max(self.low, least), min(self.high, most))


def mean_interval(values: Float[np.ndarray, " n"]) -> Interval:
    r"""Student's t interval of the mean.

    Why not the bootstrap: with three to ten seeds it resamples too few values, and its 95 % intervals hold the mean
    only about 80 to 90 % of the time (a test shows both coverages at five).

    It speaks of the spread over seeds (initial parameters, order of the examples), on this one test split.
    With a single value the ends are NaN.
    """
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, float("nan"), float("nan"))
    error = float(stats.sem(values))
    # scipy's interval is NaN for a scale of 0, that is, when all seeds agree.
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half)
