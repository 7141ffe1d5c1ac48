"""The training loop of tests that look at evaluation points."""

from typing import Any

import jax

import gradtx

from .problem import gradient


def follow(tx: Any, params: Any, noise: Any) -> Any:
    """Parameters and evaluation points after each step, stacked, and the last state."""

    def step(carry: Any, noise: Any) -> Any:
        params, state = carry
        updates, state = tx.update(gradient(tx.gradient_params(params, state), noise), state, params)
        params = gradtx.apply_updates(params, updates)
        return (params, state), (params, tx.eval_params(params, state))

    (_, state), (path, points) = jax.lax.scan(step, (params, tx.init(params)), noise)
    return path, points, state


followed = jax.jit(follow)
