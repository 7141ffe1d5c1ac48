"""Look-ahead against optax and NumPy, and target networks."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import OptState, Params, Updates

from .following import followed
from .problem import ALIKE, CURVATURE, assert_close, gradient, problem

STEPS = 50
# Rounding of 2^-53 an operation, some ten operations a step, 50 steps: 1e-13, and the gradient feeds it back.
RTOL = 1e-12
SMOOTH: Any = {"b1": 0.8, "b2": 0.95, "eps": 1e-3}


def optax_pairs(tx: Any, params: Any, noise: Any) -> Any:
    """The fast and the slow weights after each step."""

    def step(carry: Any, noise: Any) -> Any:
        pair, state = carry
        updates, state = tx.update(gradient(pair.fast, noise), state, pair)
        pair = optax.apply_updates(pair, updates)
        return (pair, state), pair

    pair = optax.LookaheadParams.init_synced(params)
    return jax.lax.scan(step, (pair, tx.init(pair)), noise)[1]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("reset_state", [False, True])
def test_lookahead_equals_optax(reset_state):
    params, noise = problem(STEPS)
    ours = gradtx.lookahead(gradtx.adam(0.05, **SMOOTH), 6, 0.4, reset_state)
    path, points, _ = followed(ours, params, noise)
    with jax.numpy_dtype_promotion("standard"):
        pairs = jax.jit(optax_pairs, static_argnums=0)(
            optax.lookahead(optax.adam(0.05, **SMOOTH), 6, 0.4, reset_state), params, noise
        )
    assert_close(path, pairs.fast, RTOL)
    assert_close(points, pairs.slow, RTOL)


@pytest.mark.usefixtures("x64")
def test_lookahead_with_an_outer_optimizer():
    """DiLoCo's outer step with Nesterov's momentum, and one that averages pseudo-gradients."""
    params, noise = problem(STEPS, leaves=ALIKE)
    rate, momentum, period = 0.7, 0.9, 5
    nesterov = gradtx.sgd(rate, momentum, nesterov=True)
    averaging = gradtx.chain(gradtx.ema(momentum, debias=False), gradtx.scale_by_learning_rate(rate))
    for outer in (nesterov, averaging):
        path, points, _ = followed(gradtx.lookahead(gradtx.sgd(0.05), period, 1.0, outer=outer), params, noise)
        for name in ALIKE:
            slow = fast = params[name]
            buffer = np.zeros_like(slow)
            for t in range(STEPS):
                fast = fast - 0.05 * (CURVATURE * fast + noise[name][t])
                if (t + 1) % period == 0:
                    pseudo = slow - fast
                    if outer is nesterov:
                        buffer = momentum * buffer + pseudo
                        slow = slow - rate * (pseudo + momentum * buffer)
                    else:
                        buffer = momentum * buffer + (1 - momentum) * pseudo
                        slow = slow - rate * buffer
                    fast = slow
                np.testing.assert_allclose(path[name][t], fast, rtol=RTOL)
                np.testing.assert_allclose(points[name][t], slow, rtol=RTOL)


def test_lookahead_starts_its_fast_optimizer_anew_from_the_slow_weights():
    class anchored(gradtx.GradientTransformation):
        """Remembers where it started."""

        def init(self, params: Params) -> OptState:
            return {"start": gradtx.apply_updates(params, jax.tree.map(jnp.zeros_like, params))}

        def update(self, updates: Updates, state: OptState, params: Params | None = None) -> tuple[Updates, OptState]:
            return updates, state

    tx = gradtx.lookahead(anchored(), 2, 0.5, reset_state=True)
    params, state = jnp.array([0.0]), tx.init(jnp.array([0.0]))
    for _ in range(2):
        updates, state = tx.update(jnp.array([4.0]), state, params)
        params = gradtx.apply_updates(params, updates)
    assert float(params[0]) == float(state.slow[0]) == float(state.fast_optimizer_state["start"][0]) == 4.0


# Target networks


@pytest.mark.usefixtures("x64")
def test_incremental_update_equals_optax():
    new, old = problem(1)[0], jax.tree.map(lambda leaf: leaf + 1.5, problem(1)[0])
    for size in (0.0, 0.005, 0.3, 1.0):
        with jax.numpy_dtype_promotion("standard"):
            expected = optax.incremental_update(new, old, size)
        assert_close(gradtx.incremental_update(new, old, size), expected, 1e-14)
    chex.assert_trees_all_equal(gradtx.incremental_update(new, old, 1.0), jax.tree.map(jnp.asarray, new))


def test_incremental_update_computes_in_float32_and_leaves_none_alone():
    old, new = jnp.full(2, 1.0, jnp.bfloat16), jnp.full(2, 3.0, jnp.bfloat16)
    result = gradtx.incremental_update({"a": new, "b": None}, {"a": old, "b": old}, 0.01)
    assert result["a"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(result["a"], jnp.asarray(1.02, jnp.bfloat16))
    np.testing.assert_array_equal(result["b"], old)
    with pytest.raises(ValueError, match=r"old_tensors has shape \(2,\), but new_tensors has shape \(3,\)"):
        gradtx.incremental_update(jnp.ones(3), jnp.ones(2), 0.1)
    slopes = jax.grad(lambda size: jnp.sum(gradtx.incremental_update(jnp.ones(2), jnp.zeros(2), size)))(0.3)
    assert float(slopes) == 2.0


def test_periodic_update_equals_optax():
    new, old = {"w": jnp.ones(2), "n": jnp.asarray(3)}, {"w": jnp.zeros(2), "n": jnp.asarray(1)}
    for steps in range(7):
        expected = optax.periodic_update(new, old, jnp.asarray(steps), 3)
        chex.assert_trees_all_equal(gradtx.periodic_update(new, old, jnp.asarray(steps), 3), expected)
    with pytest.raises(ValueError, match=r"new_tensors\['w'\] is float32\[3\], but old_tensors\['w'\] float32\[2\]"):
        gradtx.periodic_update({**new, "w": jnp.ones(3)}, old, 0, 3)
    with pytest.raises(ValueError, match="new_tensors have the structure"):
        gradtx.periodic_update({"w": jnp.ones(2)}, old, 0, 3)
