"""Newton's methods against dense algebra, the orders at which they converge, and what they do at saddles."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx
from gradtx import CompositeLoss, Outcome, Reason, minimize
from gradtx._curvature import conjugate_gradients, hessian
from gradtx.interop import as_optax
from tests.gradtx.minima import PROBLEMS, quadratic

HALVING = {"decrease_factor": 0.5, "increase_factor": 2.0, "store_grad": True, "approx_dec_rtol": 1e-6}
BACKTRACKING = gradtx.scale_by_backtracking_linesearch(30, **HALVING)
X64 = pytest.mark.usefixtures("x64")


def symmetric(eigenvalues, seed=0):
    size = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    return jnp.asarray(basis @ np.diag(eigenvalues) @ basis.T)


def saddle(x):
    """A saddle at 0, minima at (0, 1) and (0, -1)."""
    return x[0] ** 2 - 2 * x[1] ** 2 + x[1] ** 4


def direction(tx, function, params, **extra):
    value, grad = jax.value_and_grad(function)(params)
    return tx.update(grad, tx.init(params), params, value=value, grad=grad, value_fn=function, **extra)


@X64
@pytest.mark.parametrize("saddle_free", [False, True])
def test_newton_is_the_dense_formula_on_a_tree(saddle_free):
    eigenvalues = np.array([-3.0, -0.1, 0.5, 2.0, 7.0])
    matrix = symmetric(eigenvalues)

    def function(tree):
        x = jnp.concatenate([tree["a"], tree["b"].ravel()])
        return x @ matrix @ x / 2

    params = {"a": jnp.asarray([1.0, 2.0]), "b": jnp.asarray([[0.5], [-1.0], [3.0]])}
    x = np.concatenate([params["a"], np.ravel(params["b"])])
    whole = symmetric(np.abs(eigenvalues) if saddle_free else eigenvalues)
    expected = np.linalg.solve(whole + 0.25 * np.eye(5), matrix @ x)
    updates, state = direction(gradtx.scale_by_newton(0.25, saddle_free), function, params)
    np.testing.assert_allclose(updates["a"], expected[:2], rtol=1e-10)
    np.testing.assert_allclose(updates["b"].ravel(), expected[2:], rtol=1e-10)
    assert state.negative == 2


def test_a_flat_direction_is_left_alone():
    updates, _ = direction(gradtx.scale_by_newton(), lambda x: x[0] ** 2 + 0 * x[1], jnp.asarray([3.0, 5.0]))
    np.testing.assert_allclose(updates, [3.0, 0.0])


@pytest.mark.slow
@X64
def test_newton_converges_quadratically_and_gradient_descent_linearly():
    scales = jnp.asarray([1.0, 2.0, 3.0])

    def function(x):
        return jnp.sum(jnp.exp(scales * x) - 2 * scales * x)  # least at log(2) / scales

    def errors(tx, steps):
        x, found = jnp.zeros(3), []
        state = tx.init(x)
        for _ in range(steps):
            updates, state = tx.update(jax.grad(function)(x), state, x, value_fn=function)
            x = gradtx.apply_updates(x, updates)
            found.append(float(jnp.abs(x - jnp.log(2) / scales).max()))
        return np.log(found)

    newton = errors(gradtx.newton(), 4)
    order = np.diff(newton)[1:] / np.diff(newton)[:-1]
    assert order[-1] == pytest.approx(2, abs=0.1)
    # At the minimum the curvatures are 2 scales^2: 2, 8, 18. The slowest part shrinks by 1 - 2 a a step.
    rate = np.exp(np.diff(errors(gradtx.sgd(0.05), 60)))
    assert rate[-1] == pytest.approx(1 - 0.05 * 2, abs=1e-3)


@pytest.mark.slow
@X64
def test_newton_converges_to_the_saddle_and_saddle_free_newton_leaves_it():
    start = jnp.asarray([0.5, 0.1])
    to_saddle = minimize(saddle, start, gradtx.newton(), tol=1e-9)
    assert to_saddle.reason == Reason.CONVERGED
    np.testing.assert_allclose(to_saddle.params, 0, atol=1e-9)
    assert to_saddle.state[0].negative == 1
    for tx in (gradtx.newton(saddle_free=True), gradtx.newton_cg(), gradtx.newton(1.0, 0.1, True, BACKTRACKING)):
        away = minimize(saddle, start, tx, tol=1e-9)
        assert away.reason == Reason.CONVERGED
        np.testing.assert_allclose(jnp.abs(away.params), [0, 1], atol=1e-6)
    searched = minimize(saddle, start, gradtx.newton(linesearch=BACKTRACKING))
    assert searched.reason == Reason.NO_DESCENT  # said, not followed


@X64
@pytest.mark.parametrize("most", [1, 3, 6])
def test_conjugate_gradients_are_those_of_the_textbook(most):
    matrix = symmetric([0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
    target = jnp.asarray(np.random.default_rng(1).normal(size=6))
    x, r = np.zeros(6), np.asarray(target)
    d = r
    for _ in range(most):
        length = r @ r / (d @ matrix @ d)
        x, new = x + length * d, r - length * (matrix @ d)
        d, r = new + new @ new / (r @ r) * d, new
    found, info = conjugate_gradients.solve(lambda v: matrix @ v, target, jnp.zeros(()), most)
    np.testing.assert_allclose(found, x, rtol=1e-8)
    np.testing.assert_allclose(info.curvature, x @ matrix @ x, rtol=1e-8)
    assert info.hvps == most
    assert not info.negative_curvature
    if most == 6:
        np.testing.assert_allclose(found, np.linalg.solve(matrix, target), rtol=1e-8)


@X64
def test_negative_curvature_ends_conjugate_gradients_downhill():
    target = jnp.asarray([1.0, 1.0])
    # The first direction, the target itself, has a curvature of -2; then it has 2, and the second one, (6, 2), has -24.
    for eigenvalues, products, expected in (([-3.0, 1.0], 1, [1.0, 1.0]), ([-1.0, 3.0], 2, [3.0, 5 / 3])):
        matrix = jnp.diag(jnp.asarray(eigenvalues))
        found, info = conjugate_gradients.solve(lambda v, m=matrix: m @ v, target, jnp.zeros(()), 10)
        assert info.negative_curvature
        assert info.hvps == products
        assert found @ target > 0
        np.testing.assert_allclose(found, expected)  # along each as far as its residual over the absolute value
        np.testing.assert_allclose(info.curvature, found @ matrix @ found)
    found, info = conjugate_gradients.solve(lambda v: v * jnp.nan, target, jnp.zeros(()), 10)
    assert info.hvps == 1
    np.testing.assert_allclose(found, target)


@pytest.mark.slow
@X64
def test_products_are_those_of_the_dense_matrices():
    rng = np.random.default_rng(0)
    data, vector = jnp.asarray(rng.normal(size=(7, 3))), jnp.asarray(rng.normal(size=3))

    def outputs(x):
        return jnp.tanh(data @ x)

    def loss(out):
        return jnp.sum(jnp.exp(out))

    x = jnp.asarray([0.3, -0.2, 0.5])
    matrix = hessian.dense_hessian(lambda x: loss(outputs(x)), x)
    np.testing.assert_allclose(hessian.hessian_vector_product(lambda x: loss(outputs(x)), x)(vector), matrix @ vector)
    jacobian = jax.jacobian(outputs)(x)
    dense = jacobian.T @ jax.hessian(loss)(outputs(x)) @ jacobian
    np.testing.assert_allclose(hessian.gauss_newton_vector_product(outputs, loss, x)(vector), dense @ vector)
    assert np.abs(dense - matrix).max() > 0.1


@pytest.mark.slow
@X64
def test_a_linear_fit_takes_one_gauss_newton_step_and_a_curved_one_is_found():
    rng = np.random.default_rng(0)
    data, target = jnp.asarray(rng.normal(size=(20, 4))), jnp.asarray(rng.normal(size=20))
    squares = CompositeLoss(
        lambda x, data, target: data @ x, lambda out, data, target: jnp.mean(jnp.square(out - target))
    )
    found = minimize(squares, jnp.zeros(4), gradtx.gauss_newton_cg(rtol=0.0), args=(data, target), tol=1e-10)
    assert found.reason == Reason.CONVERGED
    assert found.steps == 1
    np.testing.assert_allclose(found.params, np.linalg.lstsq(data, target)[0], rtol=1e-9)
    times, truth = jnp.linspace(0, 2, 30), jnp.asarray([1.5, -0.7])
    decay = CompositeLoss(
        lambda x, times, seen: x[0] * jnp.exp(x[1] * times), lambda out, times, seen: jnp.mean(jnp.square(out - seen))
    )
    seen = truth[0] * jnp.exp(truth[1] * times)
    found = minimize(decay, jnp.zeros(2) + 0.1, gradtx.gauss_newton_cg(), args=(times, seen), tol=1e-10)
    assert found.reason == Reason.CONVERGED
    np.testing.assert_allclose(found.params, truth, rtol=1e-8)


@pytest.mark.slow
@X64
@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("tx", [gradtx.newton_cg(), gradtx.newton(1.0, 0.0, True, BACKTRACKING)], ids=["cg", "dense"])
def test_they_converge(tx, name):
    function, start = PROBLEMS[name]
    found = minimize(function, jnp.asarray(start), tx, max_steps=1000, tol=1e-5)
    assert found.reason == Reason.CONVERGED
    np.testing.assert_allclose(found.value, function(found.params), rtol=1e-6, atol=1e-12)


@pytest.mark.slow
@X64
@pytest.mark.usefixtures("standard_promotion")
def test_on_an_ill_conditioned_quadratic_products_are_worth_their_price():
    start = jnp.ones(10)
    cg = minimize(quadratic, start, gradtx.newton_cg(), tol=1e-5)
    lbfgs = minimize(quadratic, start, gradtx.lbfgs(), tol=1e-5)
    assert cg.reason == lbfgs.reason == Reason.CONVERGED
    # A product costs about two gradients.
    assert cg.evaluations + 2 * cg.state[0].hvps < 0.5 * lbfgs.evaluations


@pytest.mark.slow
@X64
def test_damping_follows_how_well_the_model_fits():
    def damping(value):
        """After a step of minus the direction on x^2 from 2, at which the objective is said to be `value`."""
        tx = gradtx.scale_by_newton_cg(damping=1.0)
        x = jnp.asarray([2.0])
        updates, state = direction(tx, lambda x: jnp.sum(x * x), x)
        np.testing.assert_allclose(updates, 4 / 3)  # g / (H + 1)
        _, state = tx.update(updates, state, x - updates, value=value, value_fn=lambda x: jnp.sum(x * x))
        return float(state.damping)

    # From 4, the model promises 4/3 * 4 - 2 * (4/3)^2 / 2 = 32/9.
    assert damping(4 - 32 / 9) == 0.25
    assert damping(4 - 0.5 * 32 / 9) == 1.0
    assert damping(4 - 0.2 * 32 / 9) == 4.0
    assert damping(5.0) == 4.0
    assert damping(jnp.nan) == 4.0


@pytest.mark.slow
@X64
@pytest.mark.parametrize("make", [gradtx.scale_by_newton, lambda damping: gradtx.scale_by_newton_cg(damping=damping)])
def test_the_derivative_by_damping_is_that_of_the_exact_solution(make):
    matrix, x = symmetric([1.0, 2.0, 5.0]), jnp.asarray([1.0, -2.0, 0.5])

    def first(damping):
        tx = make(damping).replace(**({"rtol": 0.0} if "rtol" in repr(make(damping)) else {}))
        return direction(tx, lambda x: x @ matrix @ x / 2, x)[0]

    found = jax.jacobian(first)(0.5)
    damped = matrix + 0.5 * jnp.eye(3)
    np.testing.assert_allclose(found, -jnp.linalg.solve(damped, jnp.linalg.solve(damped, matrix @ x)), rtol=1e-6)


@pytest.mark.slow
def test_lanes_are_runs_of_their_own():
    starts = jnp.asarray([[0.5, 0.1], [0.0, 1.0], [0.9, -0.8]])
    together = jax.jit(jax.vmap(lambda x: minimize(saddle, x, gradtx.newton_cg(), tol=1e-3)))(starts)
    for i, start in enumerate(starts):
        alone = minimize(saddle, start, gradtx.newton_cg(), tol=1e-3)
        np.testing.assert_allclose(together.params[i], alone.params, rtol=1e-4, atol=1e-5)
        assert together.reason[i] == Reason.CONVERGED
    np.testing.assert_array_equal(together.params[1], starts[1])


def backtracked(updates, function=lambda x: jnp.sum(x * x), start=(1.0,), **options) -> tuple[Any, Any]:
    tx = gradtx.scale_by_backtracking_linesearch(10, **(HALVING | options))
    x = jnp.asarray(start)
    value, grad = jax.value_and_grad(function)(x)
    return tx.update(jnp.asarray(updates), tx.init(x), x, value=value, grad=grad, value_fn=function)


def test_backtracking_takes_the_first_step_that_decreases_enough():
    step, state = backtracked([-1.0])
    assert (float(step[0]), int(state.evaluations), state.outcome) == (-1.0, 1, Outcome.DECREASED)
    # From 1 along -6: 1, .5 and .25 are beyond -1 or no lower; .25 / 2 is.
    step, state = backtracked([-8.0], decrease_factor=0.5, slope_rtol=0.25)
    assert (float(step[0]), int(state.evaluations), float(state.learning_rate)) == (-1.0, 4, 0.125)
    assert float(state.value) == 0.0
    step, state = backtracked([-8.0], lambda x: jnp.sum(x - jnp.log(x)), slope_rtol=0.0, start=(2.0,))
    assert float(step[0]) == -1.0  # 1, .5 and .25 have no value there
    assert float(state.value) == 1.0


def test_backtracking_begins_longer_than_it_ended_but_not_too_long():
    tx = gradtx.scale_by_backtracking_linesearch(10, increase_factor=4.0, max_learning_rate=0.75, store_grad=True)
    x = jnp.asarray([1.0])
    arguments = {"value": 1.0, "grad": jnp.asarray([2.0]), "value_fn": lambda x: jnp.sum(x * x)}
    for last, tried in ((0.125, 0.5), (0.5, 0.75)):
        state = tx.init(x)._replace(learning_rate=jnp.asarray(last))
        assert float(tx.update(jnp.asarray([-1.0]), state, x, **arguments)[0][0]) == -tried


def test_backtracking_says_what_it_did_not_find():
    step, state = backtracked([1.0])
    assert (float(step[0]), int(state.evaluations), state.outcome) == (0.0, 0, Outcome.NO_DESCENT)
    step, state = backtracked([-1.0], lambda x: jnp.where(x[0] == 1, x[0], x[0] + 2))
    assert (float(step[0]), int(state.evaluations), state.outcome) == (0.0, 11, Outcome.FAILED)
    assert float(state.value) == 1.0


def fit(params):
    """Badly scaled, and coupled; it wants whole params."""
    assert params["w"].shape == (3,)
    w = jnp.sum(jnp.asarray([1.0, 10.0, 100.0]) * jnp.square(params["w"] - jnp.arange(3.0)))
    return w + jnp.square(params["b"] - 2) + params["b"] * params["w"][0] / 2


def whole_start():
    return {"w": jnp.zeros(3), "b": jnp.zeros(())}


BOTH = {"w": "fast", "b": "slow"}
MASKED = {
    "masked": lambda lbfgs: optax.masked(lbfgs, {"w": True, "b": False}),
    "two methods": lambda lbfgs: optax.multi_transform({"fast": lbfgs, "slow": optax.scale(0.5)}, BOTH),
}


@pytest.mark.slow
@pytest.mark.parametrize("search", [gradtx.scale_by_zoom_linesearch(20), BACKTRACKING], ids=["zoom", "backtracking"])
@pytest.mark.parametrize("name", MASKED)
def test_what_masks_stands_before_the_search_which_sees_all(name, search):
    parts = MASKED[name](as_optax(gradtx.scale_by_lbfgs()))
    tx = gradtx.chain(parts, gradtx.scale_by_learning_rate(1.0), search)
    found = minimize(fit, whole_start(), tx, tol=1e-3)
    expected = minimize(fit, whole_start(), gradtx.lbfgs(), tol=1e-3)
    assert found.reason == expected.reason == Reason.CONVERGED
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), found.params, expected.params)


def test_a_frozen_part_stays_and_the_rest_goes_as_far_as_it_can():
    frozen = optax.multi_transform({"fast": as_optax(gradtx.scale_by_lbfgs()), "slow": optax.set_to_zero()}, BOTH)
    tx = gradtx.chain(frozen, gradtx.scale_by_learning_rate(1.0), gradtx.scale_by_zoom_linesearch(20))
    found = minimize(fit, whole_start(), tx)
    assert found.reason in (Reason.NO_DESCENT, Reason.FAILED)  # the gradient of b never vanishes
    assert found.params["b"] == 0
    np.testing.assert_allclose(found.params["w"], [0, 1, 2], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("tx", [gradtx.lbfgs(memory_size=3), gradtx.newton_cg()], ids=["lbfgs", "cg"])
def test_sharded_params_stay_so_and_end_where_others_do(tx, kind):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    place = NamedSharding(mesh, PartitionSpec("x", None))
    start = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), jnp.float32)

    def function(x):
        return jnp.sum(jnp.cosh(x - 1)) + jnp.square(jnp.sum(x)) / 100

    alone = minimize(function, start, tx, tol=1e-3)
    with jax.set_mesh(mesh):
        found = minimize(function, jax.device_put(start, place), tx, tol=1e-3)
    assert found.reason == alone.reason == Reason.CONVERGED
    np.testing.assert_allclose(found.params, alone.params, atol=1e-3)
    for leaf in (found.params, found.grad):
        assert leaf.sharding.is_equivalent_to(place, 2)


@pytest.mark.slow
@pytest.mark.parametrize("tx", [gradtx.newton(), gradtx.newton_cg(), gradtx.lbfgs()], ids=["dense", "cg", "lbfgs"])
def test_trees_with_holes_without_leaves_and_of_half_precision(tx):
    def squares(params):
        return sum((jnp.sum(jnp.square(leaf - 1)) for leaf in jax.tree.leaves(params)), start=jnp.zeros(()))

    found = minimize(squares, {"w": jnp.zeros(2), "none": None, "empty": jnp.zeros((0, 3))}, tx)
    assert found.reason == Reason.CONVERGED
    np.testing.assert_allclose(found.params["w"], 1, rtol=1e-6)
    assert found.params["none"] is None
    assert minimize(squares, {}, tx).reason == Reason.CONVERGED
    half = minimize(lambda x: jnp.sum(jnp.square(x.astype(jnp.float32) - 1)), jnp.zeros(2, jnp.bfloat16), tx)
    assert half.reason == Reason.CONVERGED
    assert half.params.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.scale_by_newton(),
        gradtx.scale_by_newton_cg(),
        gradtx.scale_by_gauss_newton_cg(),
        gradtx.scale_by_stochastic_lbfgs(),
    ],
    ids=lambda tx: type(tx).__name__,
)
def test_a_parameter_without_a_gradient_is_refused_by_name(tx):
    params = {"a": jnp.ones(2), "b": jnp.ones(3), "c": None}

    def value_fn(params):
        return jnp.sum(params["a"] ** 2) + jnp.sum(params["b"] ** 2)

    extra = {"value": value_fn(params), "value_fn": value_fn, "outputs_fn": lambda p: p, "loss_fn": value_fn}
    with pytest.raises(ValueError, match=r"updates\['b'\] is None, but params\['b'\] is not"):
        tx.update({**params, "b": None}, tx.init(params), params, **extra)
