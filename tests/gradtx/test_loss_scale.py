"""The scale of a loss goes up and down, and its gradients live."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx

W = {"b": jnp.array(0.5), "w": jnp.array([1.0, -2.0, 0.5])}
GOOD = jax.tree.map(jnp.ones_like, W)


def stepped(tx: Any, params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
    updates, state = tx.update(grads, state, params)
    return gradtx.apply_updates(params, updates), state


def scaled_step(tx: Any, params: Any, state: Any, weight: Any) -> tuple[Any, Any]:
    """A step in float16: the loss is `weight` times the sum of the parameters, times the scale."""

    def loss(params: Any) -> jax.Array:
        total = weight * (jnp.sum(params["w"]) + params["b"])
        return gradtx.loss_scale(state).astype(jnp.float16) * total

    return stepped(tx, params, state, jax.grad(loss)(params))


def test_the_loss_scale_goes_up_and_down_as_specified() -> None:
    """In float16, where 2^15 times 2 is infinite."""
    tx = gradtx.dynamic_loss_scale(
        gradtx.sgd(1e-2), init_scale=2.0**13, growth_interval=3, growth_factor=4.0, backoff_factor=0.25, min_scale=512.0
    )
    params = jax.tree.map(lambda x: x.astype(jnp.float16), W)
    state, scales, moved = tx.init(params), [], []
    step = jax.jit(scaled_step)
    for weight in (1.0, 1.0, 1.0, 4.0, 1.0, 4.0, 4.0, 60000.0, 60000.0, 60000.0, 1.0, 1.0, 1.0):
        after, state = step(tx, params, state, jnp.float16(weight))
        moved.append(bool(after["w"][0] != params["w"][0]))
        scales.append(int(np.log2(float(state.scale))))
    assert scales == [13, 13, 15, 13, 13, 13, 15, 13, 11, 9, 9, 9, 11]
    assert moved == [True, True, True, False, True, True, True, False, False, False, True, True, True]
    assert int(state.total_notfinite) == 4
    assert int(gradtx.report(state)["loss_scale"]) == 2**11


def test_small_gradients_live_with_a_scale() -> None:
    """Of 1e-8 in float16 nothing is left without one; with one, steps are right to float16's digits."""
    params = jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float16), W)

    def first(tx: Any, scale: Any) -> float:
        state = tx.init(params)
        grads = jax.grad(lambda p: scale(state) * 1e-4 * 1e-4 * jnp.sum(p["w"].astype(jnp.float32)))(params)
        return float(tx.update(grads, state, params)[0]["w"][0])

    inner = gradtx.sgd(1e6)
    assert first(inner, lambda state: 1.0) == 0.0
    np.testing.assert_allclose(first(gradtx.dynamic_loss_scale(inner), gradtx.loss_scale), -1e-2, rtol=2e-3)


def test_the_scale_stays_finite() -> None:
    tx = gradtx.dynamic_loss_scale(gradtx.sgd(0.1), init_scale=2.0**126, growth_interval=1)
    state = tx.init(W)
    for _ in range(4):
        _, state = tx.update(GOOD, state, W)
    assert float(state.scale) == 2.0**127


def test_loss_scale_finds_the_one_in_a_state() -> None:
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.guard(gradtx.dynamic_loss_scale(gradtx.adam(0.1), 64.0)))
    assert float(gradtx.loss_scale(tx.init(W))) == 64.0
    with pytest.raises(ValueError, match="the state has no scales, expected that of one gradtx"):
        gradtx.loss_scale(gradtx.adam(0.1).init(W))
    with pytest.raises(ValueError, match="the state has 2 scales"):
        gradtx.loss_scale((tx.init(W), tx.init(W)))


def test_one_scale_inside_another_is_refused() -> None:
    tx = gradtx.dynamic_loss_scale(gradtx.chain(gradtx.dynamic_loss_scale(gradtx.sgd(0.1))))
    with pytest.raises(ValueError, match="loss_scale: the state has 2 scales, expected that of one"):
        gradtx.loss_scale(tx.init(W))
