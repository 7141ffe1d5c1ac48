"""Intervals hold the mean, and tests find nothing where nothing is, as often as they say."""

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from experiments import statistics
from experiments.statistics import (
    BOOTSTRAP_FROM,
    Interval,
    bounds,
    differ,
    first_to_reach,
    letters,
    mean_interval,
    p_value,
    paired,
    profile,
    tolerance,
)

MEAN = 0.925
DRAWS = 1500


def error(rate: float, draws: int = DRAWS) -> float:
    """Three standard deviations of a rate that a simulation measures."""
    return 3 * float(np.sqrt(rate * (1 - rate) / draws))


def coverage(samples: np.ndarray, mean: float) -> float:
    intervals = [mean_interval(sample) for sample in samples]
    return float(np.mean([low <= mean <= high for _, low, high in intervals]))


def test_coverage_with_five_seeds():
    """95 % within the simulation's own error; the bootstrap, the reason for t, falls short."""
    samples = np.random.RandomState(0).normal(MEAN, 0.002, (DRAWS, 5))
    assert coverage(samples, MEAN) == pytest.approx(0.95, abs=error(0.95))

    bootstrap = stats.bootstrap((samples,), np.mean, axis=-1, n_resamples=999, method="percentile", rng=0)
    low, high = bootstrap.confidence_interval
    assert np.mean((low <= MEAN) & (high >= MEAN)) < 0.9


SHAPES = {
    "normal": (lambda rng, size: rng.normal(0, 1, size), 0.0),
    "skewed": (lambda rng, size: rng.gamma(2, 1, size), 2.0),  # skewness 1.4
    "heavy tails": (lambda rng, size: rng.standard_t(5, size), 0.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("n", [BOOTSTRAP_FROM, 2 * BOOTSTRAP_FROM])
@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_of_the_bootstrap_where_it_is_used(shape, n, monkeypatch):
    """At most 1.5 points short, where the simpler bootstraps are 4 short."""
    monkeypatch.setattr(statistics, "RESAMPLES", 999)  # as good on average, and quicker
    sample, mean = SHAPES[shape]
    samples = sample(np.random.default_rng(1), (DRAWS, n))
    assert coverage(samples, mean) > 0.935 - error(0.95)
    assert coverage(samples, mean) < 0.95 + error(0.95)


@pytest.mark.slow
def test_simpler_bootstraps_fall_short_there():
    """Why the bootstrap is studentized."""
    samples = np.random.default_rng(1).gamma(2, 1, (DRAWS, BOOTSTRAP_FROM))
    for method in ("percentile", "BCa"):
        found = stats.bootstrap((samples,), np.mean, axis=-1, n_resamples=999, method=method, rng=0)
        low, high = found.confidence_interval
        assert np.mean((low <= 2) & (high >= 2)) < 0.93, method


def test_the_bootstrap_is_near_t_for_normal_values():
    values = np.random.default_rng(0).normal(0, 1, 200)
    half = stats.t.ppf(0.975, 199) * stats.sem(values)
    np.testing.assert_allclose(
        mean_interval(values), (values.mean(), values.mean() - half, values.mean() + half), atol=0.02
    )


def test_pairs_share_what_a_lucky_seed_gives():
    """Under common random numbers a paired interval still holds the difference, and is narrower."""
    rng, gap = np.random.default_rng(0), 0.001
    luck = rng.normal(0, 0.004, (DRAWS, 5))
    first, second = (mean + luck + rng.normal(0, 0.001, luck.shape) for mean in (MEAN + gap, MEAN))
    intervals = [paired(a, b) for a, b in zip(first, second, strict=True)]
    assert np.mean([low <= gap <= high for _, low, high in intervals]) == pytest.approx(0.95, abs=error(0.95))
    widths = np.mean([high - low for _, low, high in intervals])
    # Welch's test takes the two as unrelated; its error is that of both lots of luck.
    unpaired = stats.ttest_ind(first, second, axis=1, equal_var=False).confidence_interval()
    # By the standard deviations 4.1 times; the paired one has fewer degrees of freedom, which costs it a fifth.
    assert widths < 0.35 * np.mean(unpaired.high - unpaired.low)


@pytest.mark.parametrize("tests", [1, 6])
def test_intervals_that_hold_together(tests):
    """All of `tests` intervals hold their means in 95 % of cases."""
    samples = np.random.default_rng(0).normal(0, 1, (DRAWS, tests, 5))
    intervals = np.array([[mean_interval(sample, tests)[1:] for sample in family] for family in samples])
    held = ((intervals[..., 0] <= 0) & (intervals[..., 1] >= 0)).all(1).mean()
    assert held == pytest.approx(0.95, abs=error(0.95) + 0.003)  # independent tests: .9958^6 is .9506 at 6


def methods(draws: int, count: int, seeds: int) -> np.ndarray:
    """Equal methods: what the seed gives to all, and noise of their own."""
    rng = np.random.default_rng(0)
    return MEAN + rng.normal(0, 0.003, (draws, 1, seeds)) + rng.normal(0, 0.001, (draws, count, seeds))


@pytest.mark.parametrize(("seeds", "images"), [(5, None), (5, 10_000), (5, 360), (10, None)])
def test_equal_methods_seldom_differ(seeds, images):
    """Family-wise error of Holm's correction: in at most 5 % of cases any pair; also where accuracies are counts."""
    draws = 600
    values = methods(draws, 7, seeds)
    if images is not None:
        values = np.round(values * images) / images
    found = [differ({str(i): one for i, one in enumerate(family)}) for family in values]
    assert np.mean([bool(pairs) for pairs in found]) <= 0.05 + error(0.05, draws)


def test_holm_is_bolder_than_bonferroni():
    # p values: a-b and a-c far below, b-c .03 of which Holm asks .05 and Bonferroni .0167.
    base = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    values = {"a": 50 + base, "b": np.zeros(5), "c": 1.0 + 0.9 * base}
    assert 0.05 / 3 < p_value(values["b"], values["c"]) < 0.05
    assert len(differ(values)) == 3


def test_p_is_the_textbooks():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (2, 6))
    assert p_value(a, b) == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        ([0.5], [0.6], 1.0),
        ([0.5, np.nan], [0.6, 0.6], 1.0),
        ([0.5, 0.6], [0.5, 0.6], 1.0),
        ([0.91, 0.92, 0.93], [0.90, 0.91, 0.92], 0.0),  # equal differences, but for rounding
    ],
    ids=["one seed", "diverged", "the same", "always as much better"],
)
def test_p_where_there_is_no_spread(first, second, p):
    assert p_value(np.array(first), np.array(second)) == p


def test_equals_the_textbook():
    # Mean 2, standard error 1 / sqrt(3), t(0.975, 2) = 4.302653.
    interval = mean_interval(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(interval, (2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rtol=1e-6)


@pytest.mark.parametrize("seeds", [3, 30])
def test_seeds_that_agree_have_a_point(seeds):
    assert mean_interval(np.full(seeds, 0.5)) == Interval(0.5, 0.5, 0.5)


def test_nearly_all_agree():
    values = np.array([0.5] * 29 + [0.6])
    mean, low, high = mean_interval(values)
    assert low < mean < high


@pytest.mark.parametrize("values", [[0.5], [0.5, np.nan, 0.6], [2.0, np.inf, 3.0]])
def test_no_interval(values):
    interval = mean_interval(np.array(values))
    assert np.isnan(interval.clipped(0.0, 1.0)[1:]).all()


def test_bounds_are_intervals_along_one_dimension():
    values = xr.DataArray(np.random.default_rng(0).normal(size=(4, 3)), dims=("seed", "epoch"))
    low, high = bounds(values, "seed")
    assert low.dims == high.dims == ("epoch",)
    for epoch in range(3):
        assert mean_interval(values.values[:, epoch])[1:] == (low[epoch], high[epoch])


def test_clipping():
    assert Interval(0.9, -0.2, 1.1).clipped(0.0, 1.0) == Interval(0.9, 0.0, 1.0)


def test_within_and_beyond():
    assert Interval(0.0, -1.0, 2.0).within(2.1)
    assert not Interval(0.0, -1.0, 2.0).within(2.0)
    assert Interval(-3.0, -4.0, -2.5).beyond(2.0)
    assert not Interval(0.0, -4.0, 4.0).beyond(2.0)
    one_seed = Interval(0.0, np.nan, np.nan)
    assert not one_seed.within(9.0)
    assert not one_seed.beyond(0.0)


# Few distinct values, so that ties, equal methods and pairs that differ at all seeds alike come up.
FAMILIES = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.integers(0, 3).map(float)
)


@settings(max_examples=200, deadline=None)
@given(FAMILIES)
def test_letters_say_who_differs(family):
    values = {f"method {i}": one for i, one in enumerate(family)}
    named, apart = letters(values), differ(values)
    for a, b in itertools.combinations(values, 2):
        assert bool(set(named[a]) & set(named[b])) == (frozenset((a, b)) not in apart)
        if np.array_equal(values[a], values[b]):
            assert set(named[a]) & set(named[b])
    best = max(values, key=lambda name: values[name].mean())
    assert "a" in named[best]
    assert all(named.values())


def test_letters_where_telling_apart_is_not_transitive():
    """First and third can be told apart from one another, and neither from the second, which is noisy."""
    base = np.array([-1.0, 0.0, 1.0, -0.5, 0.5])
    values = {"third": base / 100, "first": 2 + base[::-1] / 90, "second": 1 + 3 * base}
    assert letters(values) == {"first": "a", "second": "ab", "third": "b"}


def test_letters_skip_who_lies_between():
    """Best and worst cannot be told apart, though the second best and the worst can: no run of neighbours says that."""
    base = np.array([-1.0, 0.0, 1.0, -0.5, 0.5])
    values = {"noisy": 2 + 20 * base, "steady": 1 + base[::-1] / 90, "last": base / 100}
    assert letters(values) == {"noisy": "ab", "steady": "a", "last": "b"}


def test_no_mean_no_letter():
    values = {"a": np.array([0.9, 0.8]), "b": np.array([np.nan, 0.9])}
    assert letters(values) == {"a": "a", "b": ""}
    assert letters({"b": values["b"]}) == {"b": ""}


@pytest.mark.parametrize(
    ("curve", "epoch"), [([0.5, 0.9, 0.8, 0.95], 2), ([0.9], 1), ([0.5, np.nan, np.nan], np.inf), ([0.5], np.inf)]
)
def test_first_to_reach(curve, epoch):
    assert first_to_reach(np.array(curve), 0.9) == epoch


@pytest.mark.parametrize(
    ("accuracy", "decades"),
    [
        ([0.5, 0.9, 0.895, 0.5, 0.9], 1.0),  # the last is as good, and not a neighbour
        ([0.9, 0.9, 0.9, 0.9, 0.9], 2.5),
        ([0.5, 0.9, 0.5, 0.5, 0.5], 0.5),
        ([0.5, 0.9, np.nan, 0.9, 0.5], 0.5),
        ([np.nan] * 5, np.nan),
    ],
)
def test_tolerance(accuracy, decades):
    rates = 10.0 ** np.arange(-2, 0.5, 0.5)
    assert tolerance(rates.tolist(), np.array(accuracy), 0.01) == pytest.approx(decades, nan_ok=True)


def test_tolerance_of_one_rate_is_unknown():
    assert np.isnan(tolerance([0.1], np.array([0.9]), 0.01))


def test_profile_by_hand():
    costs = [[1.0, 2.0, np.inf], [4.0, 2.0, 2.0], [np.inf, np.inf, np.inf]]  # nobody solves the last: left out
    made = xr.DataArray(costs, dims=("problem", "optimizer"), coords={"optimizer": ["a", "b", "c"]})
    found = profile(made, np.array([1.0, 2.0, 3.0]))
    expected = {"a": [0.5, 1, 1], "b": [0.5, 1, 1], "c": [0.5, 0.5, 0.5]}
    for name, parts in expected.items():
        np.testing.assert_array_equal(found.sel(optimizer=name), parts)


def test_profile_of_nothing_solved():
    made = xr.DataArray([[np.inf, np.inf]], dims=("problem", "optimizer"), coords={"optimizer": ["a", "b"]})
    assert np.isnan(profile(made, np.array([1.0, 2.0]))).all()


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float64, (4, 3), elements=st.one_of(st.floats(1, 9), st.just(np.inf))))
def test_profiles_rise_from_who_is_first(costs):
    found = profile(xr.DataArray(costs, dims=("problem", "optimizer")), np.array([1.0, 2.0, 1e9]))
    if np.isfinite(costs).any():
        assert float(found.isel(ratio=0).sum()) >= 1 - 1e-12  # each problem has someone who is quickest
        assert (found.diff("ratio") >= 0).all()
