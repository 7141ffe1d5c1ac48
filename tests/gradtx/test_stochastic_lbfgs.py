"""L-BFGS on mini-batches: its pairs by hand, their damping, and that it stays where the naive one does not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx._curvature.stochastic_lbfgs import MIN_CURVATURE_FRACTION, StochasticLBFGSState

CURVATURES = ("products", "gradients")


def followed(tx: Any, function: Any, points: Any) -> StochasticLBFGSState:
    """The state after updates at these points, wherever the updates would lead."""
    update = jax.jit(lambda state, x: tx.update(jax.grad(function)(x), state, x, value_fn=function)[1])
    state = tx.init(points[0])
    for x in points:
        state = update(state, x)
    return state


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("curvature", CURVATURES)
def test_pairs_are_between_means_and_of_one_function(curvature):
    rng = np.random.default_rng(0)
    scales, points = np.array([1.0, 3.0, 9.0]), rng.normal(size=(9, 3))
    tx = gradtx.scale_by_stochastic_lbfgs(2, 3, 1e-3, curvature)
    state = followed(tx, lambda x: jnp.sum(scales * x * x) / 2, jnp.asarray(points))
    means = points.reshape(3, 3, 3).mean(1)
    s = np.diff(means, axis=0)
    assert state.pairs == 2
    np.testing.assert_allclose(state.diff_params_memory, s)
    np.testing.assert_allclose(state.diff_updates_memory, scales * s)  # well curved, so that nothing is damped
    np.testing.assert_allclose(state.scale, (scales * s[1]) @ s[1] / np.sum((scales * s[1]) ** 2))
    np.testing.assert_array_equal(state.total, 0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("curvature", CURVATURES)
def test_a_pair_of_negative_curvature_is_damped_until_it_is_positive(curvature):
    points = np.random.default_rng(0).normal(size=(4, 3))
    tx = gradtx.scale_by_stochastic_lbfgs(2, 2, 0.5, curvature)
    state = followed(tx, lambda x: -jnp.sum(x * x), jnp.asarray(points))
    s, y = state.diff_params_memory[0], state.diff_updates_memory[0]
    assert state.pairs == 1
    np.testing.assert_allclose(s @ y, MIN_CURVATURE_FRACTION / state.scale * (s @ s))
    # 1 / scale is the greater of damping and the one before, by which a first gradient has a length of at most 1.
    assert 1 / state.scale >= 0.5
    updates, _ = tx.update(s, state, s, value_fn=lambda x: jnp.sum(x))
    assert updates @ s > 0


@pytest.mark.slow
@pytest.mark.parametrize("curvature", CURVATURES)
def test_a_batch_that_is_not_finite_teaches_nothing(curvature):
    tx = gradtx.scale_by_stochastic_lbfgs(2, 2, 0.5, curvature)
    points = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)
    state = followed(tx, lambda x: jnp.sum(x * x), points[:4])
    after = followed_by(tx, state, points[4:], lambda x: jnp.sum(x * x) * jnp.nan)
    assert state.pairs == after.pairs == 1
    for leaf in jax.tree.leaves(after):
        assert jnp.isfinite(leaf).all()


def followed_by(tx: Any, state: Any, points: Any, function: Any) -> StochasticLBFGSState:
    for x in points:
        _, state = tx.update(x, state, x, value_fn=function)
    return state


def last_losses(tx: Any, seeds: int = 5, steps: int = 400) -> np.ndarray:
    """Of a noisy linear fit of condition 1e3 on batches of 8, as a multiple of the least, by seed."""
    rng = np.random.default_rng(0)
    data = jnp.asarray(rng.normal(size=(512, 8)) * np.logspace(0, -1.5, 8), jnp.float32)
    target = data @ jnp.ones(8) + jnp.asarray(rng.normal(size=512), jnp.float32)

    def loss(w: jax.Array, data: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(data @ w - target)) / 2

    def run(key: jax.Array) -> jax.Array:
        def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
            w, state = carry
            rows = jax.random.choice(key, 512, (8,))

            def of_batch(w: jax.Array) -> jax.Array:
                return loss(w, data[rows], target[rows])

            updates, state = tx.update(jax.grad(of_batch)(w), state, w, value_fn=of_batch)
            return (gradtx.apply_updates(w, updates), state), None

        start = jnp.zeros(8), tx.init(jnp.zeros(8))
        (w, _), _ = jax.lax.scan(step, start, jax.random.split(key, steps))
        return loss(w, data, target)

    least = np.linalg.lstsq(np.asarray(data), np.asarray(target))[1][0] / 512 / 2
    return np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), seeds))) / least


def rated(direction: Any, rate: float) -> Any:
    return gradtx.chain(direction, gradtx.scale_by_learning_rate(rate))


@pytest.mark.slow
@pytest.mark.parametrize("curvature", CURVATURES)
def test_it_gains_on_mini_batches_at_rates_a_decade_apart(curvature):
    for rate in (0.03, 0.3):
        losses = last_losses(gradtx.stochastic_lbfgs(rate, curvature=curvature))
        print(rate, losses)
        assert (losses < 1.25).all()  # they begin at 2.4


@pytest.mark.slow
def test_naive_pairs_are_made_of_noise():
    """Pairs of two batches: without those of negative curvature it hardly moves; with them, as optax, it is thrown."""
    stalled = last_losses(rated(gradtx.scale_by_lbfgs(), 0.03))
    thrown = last_losses(rated(optax.scale_by_lbfgs(), 0.3))
    print(stalled, thrown)
    assert (stalled > 2).all()
    assert not (thrown < 1e3).any()  # NaN is not less either
