"""The interval holds the mean as often as it says."""

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import Interval, mean_interval


def test_coverage_with_five_seeds():
    """95 % within the simulation's own error; the bootstrap, the reason for t, falls short."""
    draws = 2000
    samples = np.random.RandomState(0).normal(0.925, 0.002, (draws, 5))
    intervals = [mean_interval(sample) for sample in samples]
    coverage = np.mean([low <= 0.925 <= high for _, low, high in intervals])
    assert coverage == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / draws))

    bootstrap = stats.bootstrap((samples,), np.mean, axis=-1, n_resamples=999, method="percentile", rng=0)
    low, high = bootstrap.confidence_interval
    assert np.mean((low <= 0.925) & (high >= 0.925)) < 0.9


def test_equals_the_textbook():
    # Mean 2, standard error 1 / sqrt(3), t(0.975, 2) = 4.302653.
    interval = mean_interval(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(interval, (2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rtol=1e-6)


def test_seeds_that_agree_have_a_point():
    assert mean_interval(np.array([0.5, 0.5, 0.5])) == Interval(0.5, 0.5, 0.5)


def test_one_seed_has_no_interval():
    interval = mean_interval(np.array([0.5]))
    assert interval.mean == 0.5
    assert np.isnan(interval.clipped(0.0, 1.0)[1:]).all()


def test_clipping():
    assert Interval(0.9, -0.2, 1.1).clipped(0.0, 1.0) == Interval(0.9, 0.0, 1.0)
