"""L-BFGS, its line search and `minimize`: against scipy and optax, in closed form, and where there is no minimum."""

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import Outcome, Reason, lbfgs, minimize
from gradtx._curvature.lbfgs import ScaleByLBFGSState
from gradtx._curvature.lbfgs_memory import precondition
from tests.gradtx.minima import MEMORY, MOST, PROBLEMS, TOLERANCE, by_optax, by_scipy, rosenbrock

HALVING = {"decrease_factor": 0.5, "increase_factor": 2.0, "store_grad": True, "approx_dec_rtol": 1e-6}
BACKTRACKING = gradtx.scale_by_backtracking_linesearch(20, **HALVING)


@pytest.mark.slow
@pytest.mark.usefixtures("x64", "standard_promotion")
@pytest.mark.parametrize("name", PROBLEMS)
def test_no_more_evaluations_than_others(name):
    """In the median over starts, but for a tenth and three standard errors of the ratio.

    On the quadratic, rounding alone makes the counts of one start differ by a fifth, for all three.
    """
    function, starts = PROBLEMS[name].function, PROBLEMS[name].starts(30)
    run = jax.vmap(lambda x: minimize(function, x, lbfgs(memory_size=MEMORY), max_steps=MOST, tol=TOLERANCE))
    found = jax.jit(run)(jnp.asarray(starts))
    assert (found.reason == Reason.CONVERGED).all()
    # Next to a minimum of 0 its terms cancel, and a compiled sum may round differently.
    np.testing.assert_allclose(found.value, jax.vmap(function)(found.params), rtol=1e-6)
    np.testing.assert_allclose(found.grad, jax.vmap(jax.grad(function))(found.params), rtol=1e-9, atol=1e-12)
    ours = np.asarray(found.evaluations)
    for other, theirs in {"scipy": by_scipy, "optax": by_optax}.items():
        counts = theirs(PROBLEMS[name], starts)
        spreads = [np.std(each) / np.median(each) for each in (ours, counts)]
        error = 1.25 * np.linalg.norm(spreads) / np.sqrt(len(starts))
        print(f"{name}: {np.median(ours)} evaluations, {other} {np.median(counts)}; error of the ratio {error:.3f}")
        assert np.median(ours) <= (1.1 + 3 * error) * np.median(counts)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["Rosenbrock, 10", "Powell"])
def test_with_a_search_the_objective_never_rises(name):
    function, start = PROBLEMS[name]
    searched = (lbfgs(), gradtx.newton_cg(), gradtx.newton(1.0, 0.0, True, BACKTRACKING))
    for tx in searched:
        run = jax.jit(jax.vmap(lambda steps, tx=tx: minimize(function, jnp.asarray(start), tx, max_steps=steps).value))
        values = run(jnp.arange(30))
        assert values[-1] < 1e-2 * values[0]
        assert (np.diff(values) <= 0).all()


@pytest.mark.usefixtures("x64")
def test_exact_steps_end_in_as_many_as_there_are_dimensions():
    """And then the secant equation, H y = s, holds for each pair."""
    curvatures, tx = jnp.asarray([1.0, 3.0, 7.0]), gradtx.scale_by_lbfgs(5)
    x = jnp.asarray([1.0, -1.0, 2.0])
    state, update = tx.init(x), jax.jit(tx.update)
    for _ in range(4):
        grad = curvatures * x
        direction, state = update(grad, state, x)
        x = x - direction * jnp.vdot(direction, grad) / jnp.vdot(direction, curvatures * direction)
    assert jnp.abs(x).max() < 1e-12
    assert isinstance(state, ScaleByLBFGSState)
    assert state.pairs == 3
    for s, y in zip(state.diff_params_memory[:3], state.diff_updates_memory[:3], strict=True):
        np.testing.assert_allclose(precondition(y, state), s, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_the_two_loops_are_the_formula():
    rng, size = np.random.default_rng(0), 4
    tx = gradtx.scale_by_lbfgs(3)
    params, grads = rng.normal(size=(6, size)), rng.normal(size=(6, size))
    state, updates, update = tx.init(jnp.zeros(size)), jnp.zeros(size), jax.jit(tx.update)
    taken = []
    for t in range(6):
        updates, state = update(jnp.asarray(grads[t]), state, jnp.asarray(params[t]))
        if t and (params[t] - params[t - 1]) @ (grads[t] - grads[t - 1]) > 0:
            taken.append((params[t] - params[t - 1], grads[t] - grads[t - 1]))
    assert isinstance(state, ScaleByLBFGSState)
    assert 0 < len(taken) == state.pairs < 5  # some have a negative curvature
    inverse = np.eye(size) * float(state.scale)
    for s, y in taken[-3:]:
        left = np.eye(size) - np.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    np.testing.assert_allclose(updates, inverse @ grads[5], rtol=1e-10)


def value_and_slope(function, x, direction):
    value, grad = jax.value_and_grad(function)(x)
    return float(value), float(jnp.vdot(grad, direction))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("length", [1e-4, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("name", PROBLEMS)
def test_steps_meet_the_strong_wolfe_conditions(name, length):
    function, start = PROBLEMS[name]
    x = jnp.asarray(start)
    value, grad = jax.value_and_grad(function)(x)
    tx = gradtx.scale_by_zoom_linesearch(40, slope_rtol=1e-3, curv_rtol=0.1)
    direction = -length * grad / jnp.linalg.norm(grad)
    step, state = tx.update(direction, tx.init(x), x, value=value, grad=grad, value_fn=function)
    after, slope_after = value_and_slope(function, gradtx.apply_updates(x, step), direction)
    slope = float(jnp.vdot(grad, direction))
    assert state.outcome == Outcome.WOLFE
    assert after <= float(value) + 1e-3 * float(state.learning_rate) * slope
    assert abs(slope_after) <= 0.1 * abs(slope)
    assert float(state.value) == pytest.approx(after, rel=1e-12)


def stopped(function, start, tx=None, **options):
    found = minimize(function, jnp.asarray(start), lbfgs() if tx is None else tx, **options)
    assert jnp.isfinite(found.params).all()
    return Reason(int(found.reason)), found


@pytest.mark.slow
@pytest.mark.parametrize("tx", [lbfgs(), gradtx.newton_cg()], ids=["lbfgs", "newton_cg"])
@pytest.mark.parametrize(
    ("function", "reason"),
    {
        "NaN": (lambda x: jnp.sum(x) * jnp.nan, Reason.NOT_FINITE),
        "flat": (lambda x: jnp.sum(0 * x), Reason.CONVERGED),
        "unbounded": (lambda x: -jnp.sum(x), Reason.UNBOUNDED),
        "a kink": (lambda x: jnp.sum(jnp.abs(x - 0.3)), Reason.FAILED),
    }.values(),
    ids=["NaN", "flat", "unbounded", "a kink"],
)
def test_without_a_minimum_to_find_it_says_so(function, reason, tx):
    found, result = stopped(function, [1.0, 2.0], tx, max_steps=10**4)
    assert found == reason
    assert result.evaluations < 1000


def test_nan_along_the_way_is_a_step_too_long():
    """log has no value beyond 0; the first step goes there."""
    reason, found = stopped(lambda x: jnp.sum(x - 1e-3 * jnp.log(x)), [1.0], tol=1e-4)
    assert reason == Reason.CONVERGED
    np.testing.assert_allclose(found.params, 1e-3, rtol=1e-2)


def test_uphill_is_no_descent():
    uphill = gradtx.chain(gradtx.scale(1.0), gradtx.scale_by_zoom_linesearch(10))
    reason, found = stopped(lambda x: jnp.sum(x * x), [1.0, 2.0], uphill)
    assert reason == Reason.NO_DESCENT
    np.testing.assert_array_equal(found.params, [1.0, 2.0])


def test_a_strangers_pair_can_minimise():
    ours, theirs = (stopped(lambda x: jnp.sum(x * x), [1.0, 2.0], tx) for tx in (gradtx.sgd(0.1), optax.sgd(0.1)))
    assert ours[0] == theirs[0] == Reason.CONVERGED
    np.testing.assert_allclose(ours[1].params, theirs[1].params, rtol=1e-6)


def test_any_optimizer_can_minimise():
    reason, found = stopped(lambda x: jnp.sum(x * x), [1.0, 2.0], gradtx.sgd(0.1), tol=1e-3)
    assert reason == Reason.CONVERGED
    # The gradient is 2 * 2 * .8 ** k.
    assert int(found.steps) == np.ceil(np.log(1e-3 / 4) / np.log(0.8))
    assert found.evaluations == found.steps + 1
    assert stopped(lambda x: jnp.sum(x * x), [1.0], gradtx.sgd(0.1), max_steps=3)[0] == Reason.MAX_STEPS


@pytest.mark.slow
def test_lanes_that_have_converged_stay():
    starts = jnp.asarray([[-1.2, 1.0], [1.0, 1.0], [0.9, 0.8]])
    together = jax.jit(jax.vmap(lambda x: minimize(rosenbrock, x, lbfgs(), tol=1e-3)))(starts)
    assert together.steps[1] == 0 < together.steps[2] < together.steps[0]
    for i, start in enumerate(starts):
        alone = minimize(rosenbrock, start, lbfgs(), tol=1e-3)
        np.testing.assert_allclose(together.params[i], alone.params, rtol=1e-3)
        assert together.reason[i] == alone.reason == Reason.CONVERGED
    np.testing.assert_array_equal(together.params[1], starts[1])


@pytest.mark.slow
def test_a_tree_of_arrays_is_one_vector():
    rng = np.random.RandomState(0)
    matrix = jnp.asarray(np.vander(rng.uniform(size=12), 5), jnp.float32)
    target = matrix @ jnp.arange(5.0)

    def loss(params, matrix, target):
        flat = jnp.concatenate([params["a"], params["b"].ravel(), params["c"][None]])
        return jnp.mean((matrix @ flat - target) ** 2)

    start = {"a": jnp.zeros(2), "b": jnp.zeros((2, 1)), "c": jnp.zeros(())}
    whole = minimize(
        partial(lambda p, m, t: loss({"a": p[:2], "b": p[2:4, None], "c": p[4]}, m, t)),
        jnp.zeros(5),
        lbfgs(),
        args=(matrix, target),
        max_steps=20,
    )
    tree = minimize(loss, start, lbfgs(), args=(matrix, target), max_steps=20)
    np.testing.assert_allclose(tree.value, whole.value, rtol=1e-2, atol=1e-7)
    assert tree.evaluations == whole.evaluations


def test_a_constant_objective_has_converged():
    constant: Any = lambda x: 2.0  # noqa: E731
    found = gradtx.minimize(constant, jnp.ones(2), gradtx.lbfgs())
    assert (float(found.value), int(found.reason)) == (2.0, gradtx.Reason.CONVERGED)


def test_a_search_that_fails_in_the_last_step_says_so():
    found = gradtx.minimize(lambda x: -jnp.sum(x), jnp.ones(2), gradtx.lbfgs(), max_steps=1)
    assert int(found.reason) == gradtx.Reason.UNBOUNDED


UNITS = 2.0 ** np.array([-70, -40, 0, 40, 70])
"""From 1e-21 to 1e21. Powers of two, by which rounding is the same, so that paths are to the bit."""


def in_another_unit(x, unit):
    return unit * jnp.sum(jnp.asarray([1.0, 3.0, 10.0]) * jnp.cosh(x - 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "long_enough"),
    {
        # Of a gradient that is shorter than 1 the first step is another one.
        "lbfgs": (lambda unit: gradtx.lbfgs(), 2),
        "stochastic": (lambda unit: gradtx.stochastic_lbfgs(0.5, 5, 2, 0.01 * unit), 2),
        "newton_cg": (lambda unit: gradtx.newton_cg(), 0),
        "newton": (lambda unit: gradtx.newton(1.0, 0.0, True, BACKTRACKING), 0),
        "zoom behind Newton": (lambda unit: gradtx.newton(linesearch=gradtx.scale_by_zoom_linesearch(20)), 0),
    }.values(),
    ids=["lbfgs", "stochastic", "newton_cg", "newton", "zoom behind Newton"],
)
def test_the_objective_s_unit_does_not_matter(make, long_enough):
    """Not even one whose square is beyond float32."""

    def found(unit):
        start = jnp.asarray([-1.2, 1.5, 3.0])
        return minimize(in_another_unit, start, make(unit), args=(unit,), tol=1e-3 * unit, max_steps=200)

    ends = jax.jit(jax.vmap(found))(jnp.asarray(UNITS, jnp.float32))
    assert (ends.reason == Reason.CONVERGED).all()
    np.testing.assert_allclose(ends.params, 1, atol=1e-3)
    for alike in (slice(0, long_enough), slice(long_enough, None)):
        for leaf in (ends.params, ends.steps, ends.evaluations):
            np.testing.assert_array_equal(leaf[alike], jnp.broadcast_to(leaf[alike][:1], leaf[alike].shape))


def squares(x):
    return jnp.sum(x * x)


WRONG = {
    "two values": (
        {"value": jnp.ones(2)},
        TypeError,
        r"`value` must be one real number, got float32\[2\]; take the mean",
    ),
    "many values": ({"value_fn": lambda x: x}, TypeError, r"what `value_fn` returns must be .* got float32\[3\]"),
    "a pair": ({"value_fn": lambda x: (squares(x), x)}, TypeError, r"got float32\[\], float32\[3\]; give .* alone"),
    "a whole number": ({"value_fn": lambda x: jnp.argmax(x)}, TypeError, r"got int32\[\]; convert it to a float"),
    "another gradient": (
        {"grad": {"w": jnp.ones(3)}},
        ValueError,
        r"grad has nothing at its root, but params has float32",
    ),
    "a shorter one": ({"grad": jnp.ones(2)}, ValueError, r"grad has shape \(2,\), but params has shape \(3,\)"),
}


@pytest.mark.parametrize("search", [gradtx.scale_by_zoom_linesearch(5), BACKTRACKING], ids=["zoom", "backtracking"])
@pytest.mark.parametrize("name", WRONG)
def test_what_a_search_is_given_is_checked(name, search):
    wrong, error, message = WRONG[name]
    x = jnp.ones(3)
    given = {"value": squares(x), "grad": 2 * x, "value_fn": squares} | wrong
    with pytest.raises(error, match=message):
        search.update(-2 * x, search.init(x), x, **given)


@pytest.mark.slow
@pytest.mark.parametrize("tx", [gradtx.newton_cg(), gradtx.lbfgs(), gradtx.stochastic_lbfgs(0.1)], ids=str)
def test_a_state_can_be_donated(tx):
    x = jnp.ones(3)
    step = jax.jit(
        lambda state, x: tx.update(2 * x, state, x, value=squares(x), grad=2 * x, value_fn=squares), donate_argnums=0
    )
    updates, _ = step(tx.init(x), x)
    assert (updates < 0).all()


REFUSED = {
    "a whole number": ({"fun": lambda x: jnp.argmax(x)}, TypeError, r"got int32\[\]; convert it to a float"),
    "a string of steps": ({"max_steps": "3"}, TypeError, "max_steps must be a number, got '3'"),
    "no tolerance": ({"tol": None}, TypeError, "tol must be a number, got None"),
    "a flag for a tolerance": ({"tol": True}, TypeError, "tol must be a number, got True"),
    "half a step": ({"max_steps": jnp.float32(1.5)}, TypeError, "max_steps must be a whole number, got .*1.5"),
    "many tolerances": ({"tol": jnp.ones(2)}, ValueError, r"tol has shape \(2,\), expected one number; .* jax.vmap"),
    "a negative one": ({"tol": -1.0}, ValueError, "tol must be at least 0, got -1.0"),
    "NaN": ({"tol": float("nan")}, ValueError, "tol must be at least 0, got nan"),
    "whole params": ({"params": jnp.arange(3)}, TypeError, "params has dtype int32, expected a floating"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_minimize_refuses(name):
    wrong, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        inspect.unwrap(minimize)(**({"fun": squares, "params": jnp.ones(3), "tx": lbfgs()} | wrong))


@pytest.mark.parametrize("most", [2**31, 2**40, np.int64(2**33), np.uint32(2**32 - 1)])
def test_more_steps_than_can_be_counted_are_all_that_can(most):
    assert minimize(squares, jnp.ones(3), lbfgs(), max_steps=most).reason == Reason.CONVERGED
