"""Updates of one step, and of many."""

from __future__ import annotations

from typing import Any

import jax


def once(tx: Any, updates: Any, params: Any = None) -> Any:
    """The updates of a first step."""
    return tx.update(updates, tx.init(updates if params is None else params), params)[0]


def updates_of(tx: Any, params: Any, noise: Any) -> Any:
    """The updates of each step, stacked."""

    def step(state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return state, updates

    return jax.jit(lambda grads: jax.lax.scan(step, tx.init(params), grads)[1])(noise)
