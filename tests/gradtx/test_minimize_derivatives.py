"""Derivatives of a minimum, by what its objective depends on: those of the implicit function, whatever led there."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx import lbfgs, minimize

pytestmark = pytest.mark.usefixtures("x64")

METHODS = {
    "lbfgs": lbfgs(),
    "newton": gradtx.newton(),
    "newton, searched": gradtx.newton(linesearch=gradtx.scale_by_backtracking_linesearch(20)),
    "newton_cg": gradtx.newton_cg(),
    "adam": gradtx.adam(0.1),
    "descent": gradtx.chain(gradtx.sgd(1.0), gradtx.scale_by_zoom_linesearch(20)),
}


def cosh(x: jax.Array, a: jax.Array) -> jax.Array:
    """Minimal where sinh x = 1 / a."""
    return jnp.sum(a * jnp.cosh(x) - x)


def exact(a: Any) -> Any:
    return jnp.arcsinh(1 / a)


def at(tx: Any) -> Any:
    return lambda a: minimize(cosh, jnp.zeros(2), tx, args=(a,), tol=1e-9, max_steps=5000).params[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_forward_reverse_and_second(name: str) -> None:
    minimum = at(METHODS[name])
    expected = jax.grad(exact)(0.3)
    np.testing.assert_allclose(jax.jvp(minimum, (0.3,), (1.0,))[1], expected, rtol=1e-7)
    np.testing.assert_allclose(jax.grad(minimum)(0.3), expected, rtol=1e-7)
    np.testing.assert_allclose(jax.grad(jax.grad(minimum))(0.3), jax.grad(jax.grad(exact))(0.3), rtol=1e-6)


def test_under_vmap_and_jit() -> None:
    rates = jnp.asarray([0.3, 0.5, 2.0])
    slopes = jax.jit(jax.vmap(jax.grad(at(lbfgs()))))(rates)
    np.testing.assert_allclose(slopes, jax.vmap(jax.grad(exact))(rates), rtol=1e-7)


def test_what_is_closed_over_counts_as_args() -> None:
    def closed(a: jax.Array) -> jax.Array:
        return minimize(lambda x: cosh(x, a), jnp.zeros(2), lbfgs(), tol=1e-9).params[0]

    np.testing.assert_allclose(jax.jit(jax.grad(closed))(0.3), jax.grad(exact)(0.3), rtol=1e-7)


def test_the_value_moves_as_the_objective_does() -> None:
    def value(a: jax.Array) -> jax.Array:
        return minimize(cosh, jnp.zeros(2), lbfgs(), args=(a,), tol=1e-9).value

    np.testing.assert_allclose(jax.grad(value)(0.3), 2 * np.cosh(exact(0.3)), rtol=1e-9)


@pytest.mark.slow
def test_a_regression_s_weights_by_its_data() -> None:
    """Against the closed form, over a tree, with a `CompositeLoss`, and the data's labels whole numbers."""
    x = jax.random.normal(jax.random.key(0), (20, 3))
    labels = jnp.arange(20) % 3
    fit = gradtx.CompositeLoss(
        outputs=lambda p, x, labels, ridge: x @ p["w"] + p["b"],
        loss=lambda out, x, labels, ridge: jnp.mean((out - labels.astype(out.dtype)) ** 2),
    )

    def ridge_loss(p: Any, x: Any, labels: Any, ridge: Any) -> jax.Array:
        return fit(p, x, labels, ridge) + ridge * (jnp.sum(p["w"] ** 2) + p["b"] ** 2)

    def closed(ridge: jax.Array) -> jax.Array:
        design = jnp.concatenate([x, jnp.ones((20, 1))], axis=1)
        return jnp.linalg.solve(design.T @ design / 20 + ridge * jnp.eye(4), design.T @ labels.astype(float) / 20)

    start = {"w": jnp.zeros(3), "b": jnp.zeros(())}

    def found(ridge: jax.Array) -> jax.Array:
        p = minimize(ridge_loss, start, lbfgs(), args=(x, labels, ridge), tol=1e-11).params
        return jnp.concatenate([p["w"], p["b"][None]])

    np.testing.assert_allclose(jax.jacrev(found)(0.1), jax.jacfwd(closed)(0.1), rtol=1e-7)
    slopes = jax.grad(lambda x: minimize(fit, start, gradtx.gauss_newton_cg(), args=(x, labels, 0.0)).value)(x)
    p = minimize(fit, start, lbfgs(), args=(x, labels, 0.0), tol=1e-11).params
    np.testing.assert_allclose(slopes, jax.grad(lambda x: fit(p, x, labels, 0.0))(x), atol=1e-5)


def test_complex_parameters_move_as_pairs_of_real_ones() -> None:
    def moved(t: jax.Array) -> jax.Array:
        target = t * (1 + 1j)

        def distance(z: jax.Array) -> jax.Array:
            return jnp.sum(jnp.real((z - target**2) * jnp.conj(z - target**2)))

        z = minimize(distance, jnp.zeros(1, complex), lbfgs()).params
        return jnp.concatenate([jnp.real(z), jnp.imag(z)])

    for derivative in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(derivative(moved)(1.5), [0.0, 6.0], atol=1e-7)


def test_half_precision_and_nothing_at_all() -> None:
    def minimum(a: jax.Array) -> jax.Array:
        start = jnp.zeros(2, jnp.bfloat16)
        found = minimize(lambda x: jnp.sum((x.astype(jnp.float32) - a) ** 2), start, lbfgs(), tol=1e-2)
        return found.params.astype(jnp.float32).sum()

    np.testing.assert_allclose(jax.grad(minimum)(jnp.float32(1.0)), 2.0, rtol=1e-2)
    empty = minimize(lambda p: jnp.zeros(()), {}, lbfgs())
    assert empty.params == {}


def test_the_start_and_the_optimizer_do_not_matter() -> None:
    def minimum(start: jax.Array, rate: jax.Array) -> jax.Array:
        return minimize(cosh, start, gradtx.sgd(rate), args=(0.5,), tol=1e-6).params[0]

    slopes = jax.grad(minimum, argnums=(0, 1))(jnp.ones(2), 0.1)
    np.testing.assert_array_equal(slopes[0], 0)
    assert slopes[1] == 0
