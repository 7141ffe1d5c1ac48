"""Descent, heavy ball and Nesterov on quadratics: formulas, stability limits and best rates.

On an eigenvalue q, at rate h and momentum g, the iterates obey a linear recurrence of second order; its
characteristic roots say everything.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import gradtx

from .study import BOWL, SADDLE, SADDLE_START, evaluated, value, walk

pytestmark = pytest.mark.usefixtures("x64")

MOMENTA = (0.0, 0.5, 0.7, 0.9, 0.99)
L, MU = 20.0, 2.0


def ball(h, g):
    """Heavy ball."""
    return gradtx.sgd(h, momentum=g)


def growth(tx, q, steps=4000):
    """log |x| over the steps of one eigenvalue; started at 1."""
    path = walk(tx, steps, (q,), (1.0,))[:, 0]
    return np.log(np.maximum(np.abs(path), 1e-300))


@pytest.mark.parametrize("h", [0.01, 0.05, 0.099, 0.1, 0.101, 0.11])
def test_descent_is_a_power(h):
    k = np.arange(1, 51)[:, None]
    expected = np.array([7.0, 5.0]) * (1 - h * np.array(BOWL)) ** k
    # (1 - hq) has a rounding of 1e-16 that the power multiplies by 50; the first atol is for y = 0 at h = 1/L.
    np.testing.assert_allclose(walk(gradtx.sgd(h), 50), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("h", "after"), [(0.01, 6.498358), (0.099, 33.15), (0.101, 1811.16), (0.11, 2.07e10)], ids=str)
def test_descent_after_50_steps(h, after):
    # The figures are printed with 3 to 7 digits.
    assert value(BOWL, walk(gradtx.sgd(h), 50)[-1]) == pytest.approx(after, rel=2e-4 if h == 0.099 else 2e-3)


def test_descent_landmarks():
    path = walk(gradtx.sgd(0.01), 50)[-1]
    np.testing.assert_allclose(path, (2.54918776, 7.13623846e-5), rtol=1e-8)  # nine digits printed
    np.testing.assert_allclose(walk(gradtx.sgd(0.05), 50)[-1], (0.03607643, 0), atol=1e-8)
    assert abs(walk(gradtx.sgd(1 / L), 1)[0, 1]) < 1e-15
    # At 2/L the error in y neither shrinks nor grows. 1 - h L is -1 up to the rounding of h.
    np.testing.assert_allclose(walk(gradtx.sgd(2 / L), 100)[:, 1], 5 * (-1.0) ** np.arange(1, 101), rtol=1e-13)


@pytest.mark.parametrize("g", MOMENTA)
def test_heavy_ball_stability_limit(g):
    limit = 2 * (1 + g) / L
    assert limit == pytest.approx({0.0: 0.1, 0.5: 0.15, 0.7: 0.17, 0.9: 0.19, 0.99: 0.199}[g])
    stable, unstable = growth(ball(limit * 0.999, g), L), growth(ball(limit * 1.001, g), L)
    assert stable[-1] < stable[1000] - 0.5
    assert unstable[-1] > unstable[1000] + 0.5


@pytest.mark.parametrize(("g", "expected"), [(0.5, 0.075), (0.7, 0.070833), (0.9, 0.067857), (0.99, 0.066779)])
def test_nesterov_stability_limit_is_below_heavy_balls(g, expected):
    limit = 2 * (1 + g) / ((1 + 2 * g) * L)
    assert limit == pytest.approx(expected, abs=1e-6)
    stable, unstable = growth(gradtx.nag(limit * 0.999, g), L), growth(gradtx.nag(limit * 1.001, g), L)
    assert stable[-1] < stable[1000] - 0.5
    assert unstable[-1] > unstable[1000] + 0.5
    assert growth(ball(limit * 1.001, g), L)[-1] < -10


@pytest.mark.parametrize("g", [0.3, 0.5, 0.9])
def test_heavy_ball_oscillates_between_two_rates(g):
    def crossings(h):
        # Ratios of neighbours: a sign that survives underflow at 1e-300 would be noise, so few steps.
        path = walk(ball(h, g), 60, (1.0,), (1.0,))[:, 0]
        return np.count_nonzero(np.diff(np.sign(path[np.abs(path) > 1e-200])))

    low, high = (1 - np.sqrt(g)) ** 2, (1 + np.sqrt(g)) ** 2
    assert crossings(low * 0.9) == 0
    # Just above the lower edge the period is long: well inside there is a crossing in 60 steps.
    assert crossings(min(low * 4, (low + high) / 2)) >= 1
    assert crossings(high * 0.5) >= 3


def rate_of(tx, steps=400):
    """The factor by which the slower coordinate shrinks in a step: the slope of log |x| between two late steps."""
    path = walk(tx, steps, BOWL, (7.0, 5.0))
    size = np.log(np.linalg.norm(path, axis=1))
    return np.exp((size[steps - 20] - size[steps // 2]) / (steps - 20 - steps // 2))


def test_best_rate_of_descent():
    best = 2 / (L + MU)
    assert best == pytest.approx(1 / 11)
    assert rate_of(gradtx.sgd(best)) == pytest.approx(9 / 11, rel=1e-9)
    assert rate_of(gradtx.sgd(best * 1.02)) > 9 / 11 + 0.01
    assert rate_of(gradtx.sgd(best * 0.98)) > 9 / 11 + 0.002


def test_best_rate_of_heavy_ball():
    root_l, root_mu = np.sqrt(L), np.sqrt(MU)
    h, g = 4 / (root_l + root_mu) ** 2, ((root_l - root_mu) / (root_l + root_mu)) ** 2
    assert (h, g, np.sqrt(g)) == pytest.approx((0.115443, 0.269874, 0.519494), abs=1e-6)
    # Double roots: k r^k, so the observed factor is (1 + 1/k) r; 1 % at k = 100, and norms below 1e-280 are not used.
    assert rate_of(ball(h, g)) == pytest.approx(0.519494, rel=0.01)
    for other in ((h * 0.9, g), (h * 1.1, g), (h, g * 0.8), (h, g * 1.2)):
        assert rate_of(ball(*other)) > 0.53


@pytest.mark.parametrize(
    ("g", "heavy", "nesterov"),
    [(0.5, 0.75342, 0.82523), (0.7, 0.013752, 0.025170), (0.9, 0.500410, 0.105946), (0.99, 85.0674, 5.54908)],
)
def test_value_after_50_steps(g, heavy, nesterov):
    # Five digits are printed.
    assert value(BOWL, walk(ball(0.01, g), 50)[-1]) == pytest.approx(heavy, rel=5e-5)
    assert value(BOWL, walk(gradtx.nag(0.01, g), 50)[-1]) == pytest.approx(nesterov, rel=5e-5)


@pytest.mark.parametrize("make", [ball, gradtx.nag])
def test_momentum_is_its_recurrence(make):
    h, g, q = 0.03, 0.9, np.array(BOWL)
    path = np.concatenate([[[7.0, 5.0]] * 2, walk(make(h, g), 60)])
    before, now, after = path[:-2], path[1:-1], path[2:]
    expected = (1 + g - h * q) * now - g * before if make is ball else (1 - h * q) * ((1 + g) * now - g * before)
    # Of the size of the iterates, up to 7, a few roundings.
    np.testing.assert_allclose(after, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("g", MOMENTA)
def test_reformulated_nesterov_gives_back_the_printed_iterate(g):
    h = 0.03
    reformulated = gradtx.sgd(h, momentum=g, nesterov=True)
    shipped = walk(reformulated, 50, report=evaluated)
    printed = walk(gradtx.nag(h, g), 50)
    # One rounding a step in another order, of numbers up to 10; the method does not amplify it.
    np.testing.assert_allclose(shipped, printed, rtol=0, atol=2e-14)
    if g:
        assert np.max(np.abs(walk(reformulated, 50) - printed)) > 1e-3


def test_reformulated_nesterov_under_a_schedule():
    """What it ships is one gradient step, at the rate just used, from where the gradient was taken."""
    tx = gradtx.sgd(gradtx.linear_schedule(0.03, 0.001, 40), momentum=0.9, nesterov=True)
    before = np.concatenate([[(7.0, 5.0)], walk(tx, 49)])
    rates = np.linspace(0.03, 0.001, 41)[np.minimum(np.arange(50), 40), None]
    np.testing.assert_allclose(walk(tx, 50, report=evaluated), before * (1 - rates * np.array(BOWL)), atol=1e-13)


def test_reformulated_nesterov_identity_on_one_step():
    """To rounding of one operation: theta + h g b, and nothing else."""
    params, g, h = jnp.asarray((7.0, 5.0)), 0.9, 0.01
    tx = gradtx.sgd(h, momentum=g, nesterov=True)
    state = tx.init(params)
    np.testing.assert_array_equal(tx.eval_params(params, state), params)
    updates, state = tx.update(jnp.asarray(BOWL) * params, state, params)
    params = gradtx.apply_updates(params, updates)
    np.testing.assert_allclose(tx.eval_params(params, state), (6.86, 4.0), rtol=1e-15)


@pytest.mark.parametrize(("h", "steps"), [(0.01, 349), (0.05, 73), (0.1, 38), (0.5, 10)])
def test_descent_leaves_the_saddle(h, steps):
    assert steps == np.ceil(np.log(1000) / np.log(1 + 2 * h))
    assert escape(gradtx.sgd(h)) == steps


@pytest.mark.parametrize(
    ("tx", "steps"),
    [
        (ball(0.01, 0.9), 72),
        (gradtx.nag(0.01, 0.9), 68),
        (gradtx.rmsprop(0.1, eps_in_sqrt=False), 4),
        (gradtx.adam(0.1), 11),
        (gradtx.adagrad(0.1, 0.0, 1e-8, eps_in_sqrt=False), 17),
        (gradtx.adagrad(0.1, 0.1, 1e-8, eps_in_sqrt=False), 28),
    ],
    ids=["heavy ball", "nag", "rmsprop", "adam", "adagrad", "adagrad from .1"],
)
def test_others_leave_the_saddle(tx, steps):
    assert escape(tx) == steps


def escape(tx, steps=400):
    """The first step at which |y| > 1."""
    return 1 + int(np.argmax(np.abs(walk(tx, steps, SADDLE, SADDLE_START)[:, 1]) > 1))
