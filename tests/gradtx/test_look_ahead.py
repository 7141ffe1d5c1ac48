"""Gradients ahead of the parameters: extragradient and EMA-Nesterov against closed forms and NumPy."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx

from .problem import assert_close, gradient, oracle_path, problem
from .test_points import two_calls

# As in test_oracles.py.
RTOL = 1e-12
STEPS = 50


def sgd_game(tx: Any, calls: int, steps: int = 300) -> float:
    """The distance from the solution of min over x, max over y of x y, after some steps from (1, 1)."""

    def step(carry: Any, _: Any) -> Any:
        params, state = carry
        for _ in range(calls):
            x, y = tx.gradient_params(params, state)
            updates, state = tx.update((y, -x), state, params)
            params = gradtx.apply_updates(params, updates)
        return (params, state), None

    params = jnp.ones([]), jnp.ones([])
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=steps)
    return float(jnp.hypot(*params))


@pytest.mark.usefixtures("x64")
def test_extragradient_converges_where_descent_goes_round() -> None:
    """On xy a step of extragradient is a rotation by (1 - eta^2, eta), whose length is known."""
    eta, steps = 0.3, 300
    sgd = gradtx.sgd(eta)
    assert sgd_game(sgd, 1) > 1e5
    expected = np.sqrt(2) * ((1 - eta**2) ** 2 + eta**2) ** (steps / 2)
    assert sgd_game(gradtx.extragradient(sgd), 2) == pytest.approx(expected, rel=1e-11)
    assert sgd_game(gradtx.extragradient(sgd, "past"), 1) < 1e-4


@pytest.mark.usefixtures("x64")
def test_extragradient_is_what_it_says_of_any_optimizer() -> None:
    """Of an optimizer with a state: from the old state, or, carried, from that of the trial step (ExtraAdam)."""
    params, noise = problem(STEPS)
    adam = gradtx.adam(gradtx.linear_schedule(0.1, 0.0, 200), eps=1e-3)
    for carry in (False, True):
        x, state, expected = params, adam.init(params), []
        for t in range(5):
            n = jax.tree.map(lambda leaf, t=t: leaf[t], noise)
            trial, tried = adam.update(gradient(x, n), state, x)
            grads = gradient(gradtx.apply_updates(x, trial), n)
            step, state = adam.update(grads, tried if carry else state, x)
            x = gradtx.apply_updates(x, step)
            expected.append(x)
        path = jax.jit(two_calls)(gradtx.extragradient(adam, carry=carry), params, noise)
        for t, x in enumerate(expected):
            assert_close(jax.tree.map(lambda leaf, t=t: leaf[t], path), x, RTOL)


@pytest.mark.usefixtures("x64")
def test_extragradient_of_the_past_is_optimistic_descent() -> None:
    """In terms of the points: y' = y - 2 eta g(y) + eta g(last y) (Daskalakis et al., 2018)."""
    eta, curvature = 0.1, np.array([1.0, 3.0])
    tx, x = gradtx.extragradient(gradtx.sgd(eta), "past"), jnp.array([1.0, -2.0])
    state, points = tx.init(x), []
    for _ in range(20):
        y = tx.gradient_params(x, state)
        points.append(y)
        updates, state = tx.update(curvature * y, state, x)
        x = gradtx.apply_updates(x, updates)
    expected = [points[0], points[0] - 2 * eta * curvature * points[0]]
    for _ in range(18):
        y, last = expected[-1], expected[-2]
        expected.append(y - 2 * eta * curvature * y + eta * curvature * last)
    np.testing.assert_allclose(points, expected, rtol=1e-13)


def ema_nesterov_oracle(x: Any, gradient: Any, rates: Any, gamma: float, betas: Any, moves: bool) -> Any:
    """The loop of the record: weights are moved to the point, stepped from there and, if it moves, left there."""
    e = np.zeros_like(x)
    for t, (rate, beta) in enumerate(zip(rates, betas, strict=True), start=1):
        point = x + beta * e
        new = (point if moves else x) - rate * gradient(t, point)
        e, x = gamma * e + (1 - gamma) * (new - x), new
        yield x


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("moves", [True, False])
def test_ema_nesterov_is_the_records(moves: bool) -> None:
    params, noise = problem(STEPS)
    schedule = gradtx.linear_schedule(0.0, 0.9, 20)
    betas = 0.9 * np.minimum(np.arange(STEPS), 20) / 20
    tx = gradtx.ema_nesterov(gradtx.sgd(0.05), 0.8, schedule, moves)
    path = jax.jit(lambda tx, p, n: two_calls(tx, p, n, 1))(tx, params, noise)
    arguments = jax.tree.map(lambda leaf: {"gamma": 0.8, "betas": betas, "moves": moves}, params)
    assert_close(path, oracle_path(ema_nesterov_oracle, params, noise, [0.05] * STEPS, arguments), RTOL)


@pytest.mark.usefixtures("x64")
def test_ema_nesterov_without_memory_is_nesterov() -> None:
    """With gamma of 0 the average is the last step, and beta its momentum: `nag` at a constant rate."""
    params, noise = problem(STEPS)
    run = jax.jit(lambda tx: two_calls(tx, params, noise, 1))
    assert_close(run(gradtx.ema_nesterov(gradtx.sgd(0.05), 0.0, 0.9)), run(gradtx.nag(0.05, 0.9)), RTOL)
    chex.assert_trees_all_equal(run(gradtx.ema_nesterov(gradtx.adam(0.05), 0.9, 0.0)), run(gradtx.adam(0.05)))


def test_the_inner_optimizer_decays_the_look_ahead_point() -> None:
    tx = gradtx.ema_nesterov(
        gradtx.chain(gradtx.add_decayed_weights(1.0), gradtx.scale_by_learning_rate(1.0)), 0.0, 0.5
    )
    x, state = jnp.array([4.0]), None
    state = tx.init(x)
    updates, state = tx.update(jnp.array([1.0]), state, x)
    np.testing.assert_allclose(updates, [-5.0])
    x = x + updates
    # The point is -1 - 0.5 * 5 = -3.5: from there, without a gradient, to 0.
    np.testing.assert_allclose(tx.gradient_params(x, state), [-3.5])
    updates, _ = tx.update(jnp.zeros(1), state, x)
    np.testing.assert_allclose(x + updates, [0.0], atol=1e-7)


def test_current_reports_how_far_it_looks() -> None:
    tx = gradtx.ema_nesterov(gradtx.sgd(0.1), beta=gradtx.linear_schedule(0.0, 1.0, 4))
    _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2))
    now = gradtx.current(tx, state)
    assert float(now["beta"]) == 0.25
    assert float(now["learning_rate"]) == pytest.approx(0.1)
