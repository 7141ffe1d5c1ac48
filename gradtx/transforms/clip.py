r"""Bound the updates: each entry, or the norm of the whole tree."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .._core.arguments import Positive
from .._core.maths import abs_sq, safe_sqrt
from .._core.transformation import Transform, memoryless, transformation
from .._core.tree import map_leaves, map_reduce


def _clip(updates: jax.Array, max_delta: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(updates):
        raise TypeError("clip: complex updates have no order; use clip_by_global_norm")
    return jnp.clip(updates, -max_delta, max_delta)


def _sum_of_squares(updates: jax.Array) -> jax.Array:
    return jnp.sum(abs_sq(updates))


def _shrink(updates: jax.Array, norm: jax.Array, max_norm: jax.Array) -> jax.Array:
    # A NaN norm compares false and has to come through, so the test is for what stays as it is.
    return jnp.where(norm <= max_norm, updates, updates / norm * max_norm)


def global_norm(updates: Any) -> jax.Array:
    r"""$\sqrt{\sum |g|^2}$ over all leaves; float64 if a leaf is 64-bit, else float32. 0 for an empty tree."""
    return safe_sqrt(map_reduce(_sum_of_squares, updates))


@transformation
def clip(max_delta: Positive) -> Transform:
    r"""Clip each entry: $u_t = \min(\max(g_t, -d), d)$.

    State: `EmptyState()`. Units: as the gradient. Keeps its sign. Refuses complex updates.

    Args:
        max_delta: d > 0. Unit: gradient.

    Raises:
        ValueError: `max_delta` is not positive.
        TypeError: Updates are complex.
    """
    return memoryless(lambda updates, params: map_leaves(_clip, [updates], [max_delta]))


@transformation
def clip_by_global_norm(max_norm: Positive) -> Transform:
    r"""Shrink all updates together so that their norm is at most `max_norm`.

    $$u_t = g_t \min(1, c / \lVert g_t \rVert), \qquad \lVert g \rVert^2 = \textstyle\sum_{leaves} |g|^2$$

    State: `EmptyState()`. Units: as the gradient. Keeps its direction. A NaN or infinite gradient is not hidden.
    Entries whose squares overflow (1e20 in float32) make the norm infinite and the updates 0.

    Args:
        max_norm: c > 0. Unit: gradient.

    Raises:
        ValueError: `max_norm` is not positive.

    Source: Pascanu, Mikolov and Bengio, 2013.
    """
    return memoryless(lambda updates, params: map_leaves(_shrink, [updates], [global_norm(updates), max_norm]))
