"""Complex parameters are pairs of real ones: a rotated real problem gives rotated results."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx import GradientTransformation, Reason, apply_updates, minimize

from .minima import rosenbrock

pytestmark = pytest.mark.usefixtures("x64")

TURN = np.exp(0.7j)
"""A rotation of the plane."""
START = np.array([-1.2, 1.0, 0.5])


def turned(z: jax.Array) -> jax.Array:
    """Rosenbrock's function along the turned axis, and a parabola across it."""
    back = z / TURN
    return rosenbrock(jnp.real(back)) + jnp.sum(jnp.imag(back) ** 2)


METHODS = {
    "lbfgs": gradtx.lbfgs(),
    "lbfgs, backtracking": gradtx.lbfgs(linesearch=gradtx.scale_by_backtracking_linesearch(30, store_grad=True)),
    "descent, zoom": gradtx.chain(gradtx.sgd(1.0), gradtx.scale_by_zoom_linesearch(20)),
    "descent, backtracking": gradtx.chain(gradtx.sgd(1.0), gradtx.scale_by_backtracking_linesearch(30)),
    "sgd": gradtx.sgd(1e-3, 0.9),
    "nag": gradtx.nag(1e-3, 0.9),
    "adam": gradtx.adam(0.1),
    "rmsprop": gradtx.rmsprop(0.01),
}


@pytest.mark.parametrize("name", METHODS)
def test_minimize_turns_with_the_problem(name: str) -> None:
    straight = minimize(rosenbrock, jnp.asarray(START), METHODS[name], max_steps=20)
    turn = minimize(turned, jnp.asarray(START * TURN), METHODS[name], max_steps=20)
    assert (turn.reason, turn.steps, turn.evaluations) == (straight.reason, straight.steps, straight.evaluations)
    # The paths part by what the products with the turn are rounded by, which twenty steps on Rosenbrock's enlarge.
    np.testing.assert_allclose(turn.params / TURN, straight.params, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(turn.grad / TURN, straight.grad, rtol=1e-4, atol=1e-4)
    assert turn.value == pytest.approx(float(straight.value), rel=1e-6)


@pytest.mark.parametrize("dtype", [jnp.complex64, jnp.complex128])
@pytest.mark.parametrize("tx", [gradtx.lbfgs(), gradtx.sgd(0.1), gradtx.adam(0.3)], ids=["lbfgs", "sgd", "adam"])
def test_a_distance_is_minimised(tx: GradientTransformation, dtype: Any) -> None:
    target = jnp.asarray([1 + 2j, -1 + 0.5j], dtype)
    found = minimize(lambda z: jnp.sum(jnp.abs(z - target) ** 2), jnp.zeros(2, dtype), tx, tol=1e-3)
    assert found.reason == Reason.CONVERGED
    assert found.params.dtype == dtype
    np.testing.assert_allclose(found.params, target, atol=1e-3)


@pytest.mark.parametrize("name", ["sgd", "nag", "adam", "rmsprop"])
def test_the_loop_of_the_contract_conjugates_once(name: str) -> None:
    tx = METHODS[name]

    def last(function: Any, params: jax.Array) -> Any:
        state = tx.init(params)
        for _ in range(20):
            grads = jnp.conj(jax.grad(function)(tx.gradient_params(params, state)))
            updates, state = tx.update(grads, state, params)
            params = apply_updates(params, updates)
        return params

    turn, straight = last(turned, jnp.asarray(START * TURN)), last(rosenbrock, jnp.asarray(START))
    np.testing.assert_allclose(turn / TURN, straight, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_search_hands_on_the_direction_of_ascent() -> None:
    tx, pair = gradtx.lbfgs(), gradtx.value_and_grad_from_state(turned)
    params: Any = jnp.asarray(START * TURN)
    state = tx.init(params)
    for _ in range(3):
        value, grad = pair(params, state=state)
        np.testing.assert_allclose(grad, jnp.conj(jax.grad(turned)(params)), rtol=1e-12)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=turned)
        params = apply_updates(params, updates)
    assert turned(params) < 0.5 * turned(jnp.asarray(START * TURN))


def test_copies_of_complex_parameters_have_the_complex_form_of_a_dtype() -> None:
    params = {"w": jnp.ones(2, jnp.complex64), "b": jnp.ones(2)}
    for dtype in ("float32", "complex64"):
        average = gradtx.average(gradtx.sgd(0.1), accumulator_dtype=dtype).init(params).average
        assert {name: leaf.dtype.name for name, leaf in average.items()} == {"w": "complex64", "b": "float32"}
    with pytest.raises(TypeError, match=r"params\['w'\] is complex, .*bfloat16 \(`accumulator_dtype`, `state_dtype`\)"):
        gradtx.average(gradtx.sgd(0.1), accumulator_dtype="bfloat16").init(params)
