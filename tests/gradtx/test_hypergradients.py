"""Derivatives of a training run in its hyperparameters, against central differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx

from . import table
from .problem import CURVATURE, iterate, problem
from .table import each_optimizer_costly

pytestmark = pytest.mark.usefixtures("x64")

STEPS = 20


def small_problem():
    """One leaf has an entry, another nothing else, whose gradient is zero at every step."""
    params, noise = problem(STEPS)
    live, noise = params["big"][0].copy(), noise["big"][:, 0] / 100
    live[0], noise[:, 0] = 0.0, 0.0
    return {"live": live, "dead": np.zeros(())}, {"live": noise, "dead": np.zeros((STEPS,))}


def objective(tx, params, noise):
    """The squared size of the last iterate."""
    path, _ = iterate(tx, params, noise)
    return sum(jnp.sum(jnp.square(leaf[-1])) for leaf in jax.tree.leaves(path))


value = jax.jit(objective)
derivative = jax.jit(jax.grad(objective, argnums=(0, 1)))


def differences(tx, params, noise):
    """Slopes, and a bound of their rounding error. Central; one-sided of second order at 0, the edge of the range."""
    leaves, structure = jax.tree.flatten(tx)

    def at(i, change):
        return float(value(structure.unflatten([*leaves[:i], leaves[i] + change, *leaves[i + 1 :]]), params, noise))

    here, slopes, bounds = float(value(tx, params, noise)), [], []
    for i, leaf in enumerate(leaves):
        h = 1e-5 * leaf if leaf else 1e-7
        slopes.append((at(i, h) - at(i, -h) if leaf else 4 * at(i, h) - at(i, 2 * h) - 3 * here) / (2 * h))
        # Some 100 roundings of 1e-16 on the way to the value.
        bounds.append(1e-14 * here / h)
    return np.array(slopes), np.array(bounds)


def check(tx):
    params, noise = small_problem()
    in_tx, in_params = derivative(tx, params, noise)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(in_params))
    found = np.array(jax.tree.leaves(in_tx))
    expected, bounds = differences(tx, params, noise)
    assert np.all(np.isfinite(found))
    # The error of the difference itself: h^2 = 1e-10 times a third derivative.
    np.testing.assert_array_less(np.abs(found - expected), 1e-7 * np.abs(expected) + bounds)
    return found


@each_optimizer_costly
def test_hypergradient_is_the_slope(row):
    assert np.all(check(row.make()) != 0)


@pytest.mark.parametrize(
    "schedule",
    [
        gradtx.cosine_decay_schedule(0.05, 18.5, 0.1),
        gradtx.warmup_cosine_decay_schedule(0.01, 0.06, 5.5, 18.5, 0.01),
        gradtx.polynomial_schedule(0.05, 0.01, 1.5, 12.5, 3.25),
        gradtx.exponential_decay(0.05, 6.0, 0.5, 2.5),
        gradtx.join_schedules([gradtx.linear_schedule(0.01, 0.05, 7.25, 0.5), 0.04], [8.5]),
    ],
    ids=lambda schedule: repr(schedule).partition("(")[0],
)
def test_hypergradient_in_a_schedule(schedule):
    found = check(gradtx.sgd(schedule, momentum=0.8))
    assert np.count_nonzero(found) >= 2


@pytest.mark.parametrize("factory", [gradtx.adam, gradtx.nag])
def test_hypergradient_of_others_in_a_schedule(factory):
    assert np.all(check(factory(gradtx.cosine_decay_schedule(0.05, 18.5, 0.1))) != 0)


@pytest.mark.parametrize("name", ["nag", "adagrad-from-0", "adam"])
def test_forward_mode_agrees(name):
    """With the defaults, where eps is small against all but the dead coordinates."""
    params, noise = small_problem()
    leaves, structure = jax.tree.flatten(getattr(gradtx, table.BY_NAME[name].public_name)(0.05))
    forward = jax.jit(jax.jacfwd(lambda leaves: objective(structure.unflatten(leaves), params, noise)))(leaves)
    reverse = jax.tree.leaves(derivative(structure.unflatten(leaves), params, noise)[0])
    # The same chain rule in the other order, through 20 steps that divide by a root of 1e-8.
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)


def test_hypergradient_of_descent_in_closed_form():
    """x_k = x_0 (1 - hq)^k, so d(x_k^2)/dh = -2 k q x_0^2 (1 - hq)^(2k - 1)."""
    x0, h, q = 1.5, 0.1, CURVATURE
    slope = jax.grad(objective)(gradtx.sgd(h), jnp.asarray(x0), jnp.zeros((STEPS,))).learning_rate
    assert slope == pytest.approx(-2 * STEPS * q * x0**2 * (1 - h * q) ** (2 * STEPS - 1), rel=1e-13)


def test_optax_has_nan_where_we_have_none():
    """Why `safe_sqrt` is there; should optax mend it, the comparison in the documentation is out of date."""
    import optax

    def last(rate, library):
        tx, x = library.adam(rate), jnp.zeros(())
        state = tx.init(x)
        for _ in range(2):
            # A gradient that depends on the parameter and is always zero.
            updates, state = tx.update(x, state, x)
            x = x + updates
        return x

    slope = jax.jit(jax.grad(last), static_argnums=1)
    with jax.numpy_dtype_promotion("standard"):
        assert np.isnan(slope(0.1, optax))
    assert slope(0.1, gradtx) == 0


def test_second_derivatives_are_finite_with_a_dead_coordinate():
    def loss(rate):
        tx, params = gradtx.adam(rate), jnp.array([0.0, 1.0])
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(params, state)
            params = gradtx.apply_updates(params, updates)
        return jnp.sum(jnp.square(params))

    assert jnp.isfinite(jax.jit(jax.hessian(loss))(jnp.float32(0.1)))
