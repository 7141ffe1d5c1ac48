"""Updates of one step, and of many."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def once(tx: Any, updates: Any, params: Any = None) -> Any:
    """The updates of a first step."""
    return tx.update(updates, tx.init(updates if params is None else params), params)[0]


def updates_of(tx: Any, params: Any, noise: Any) -> Any:
    """The updates of each step, stacked."""

    def step(state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return state, updates

    return jax.jit(lambda grads: jax.lax.scan(step, tx.init(params), grads)[1])(noise)


W = {"w": jnp.array([1.0, -2.0, 0.5])}


def gradients(*values: float) -> list[Any]:
    """Gradients for `W`, each of one value."""
    return [{"w": jnp.full(3, value)} for value in values]


def run(tx: Any, grads: list[Any], params: Any = W, **extra: Any) -> tuple[list[Any], Any]:
    """The updates of each call, and the last state."""
    state, path = tx.init(params), []
    for g in grads:
        updates, state = tx.update(g, state, params, **extra)
        path.append(updates)
    return path, state
