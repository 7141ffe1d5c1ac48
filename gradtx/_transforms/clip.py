r"""Bound the updates: each entry, or the norm of the whole tree."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from .._core.checks import checked_leaves
from .._core.contract import EmptyState, Stateless
from .._core.fields import Positive
from .._core.tree import map_leaves
from .._core.types import Leaf, Params, ScalarArray, Updates
from .._maths import abs_sq, safe_divisor, safe_sqrt
from .._vectors import map_reduce


def _clip(updates: Leaf, max_delta: ScalarArray) -> Leaf:
    if jnp.iscomplexobj(updates):
        raise TypeError("clip: complex updates have no order; use clip_by_global_norm")
    return jnp.clip(updates, -max_delta, max_delta)


def _sum_of_squares(updates: Leaf) -> ScalarArray:
    return jnp.sum(abs_sq(updates))


def _shrink(updates: Leaf, norm: ScalarArray, max_norm: ScalarArray) -> Leaf:
    # A NaN norm compares false and has to come through, so the test is for what stays as it is. The branch that is not
    # taken is differentiated too: a norm of 0 would make the hypergradient NaN.
    return jnp.where(norm <= max_norm, updates, updates / safe_divisor(norm) * max_norm)


def global_norm(updates: Updates) -> jax.Array:
    r"""$\sqrt{\sum |g|^2}$ over all leaves; float64 if a leaf is 64-bit, else float32. 0 for an empty tree.

    Infinite where a square overflows (entries of 1e20 in float32).
    """
    checked_leaves(updates, "updates")
    return _norm(updates)


@functools.partial(jax.jit, inline=True)
def _norm(updates: Updates) -> jax.Array:
    # One pass over the gradients. `_vectors.tree_norm` takes entries of any size, as line searches need, which
    # can step anywhere; it divides by the largest entry first, and so reads everything twice. Here that would double
    # the cost of clipping, in every step of every training run, to clip a gradient of 1e20 to other than 0.
    return safe_sqrt(map_reduce(_sum_of_squares, updates))


class clip(Stateless):
    r"""Clip each entry: $u_t = \min(\max(g_t, -d), d)$.

    State: `EmptyState()`. Units: as the gradient. Keeps its sign. Refuses complex updates.

    Args:
        max_delta: d > 0. Unit: gradient.

    Raises:
        ValueError: if `max_delta` is not positive.
        TypeError: from `update`, if updates are complex.
    """

    max_delta: Positive

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        return map_leaves(_clip, {"updates": updates}, max_delta=self.max_delta), state


class clip_by_global_norm(Stateless):
    r"""Shrink all updates together so that their norm is at most `max_norm`.

    $$u_t = g_t \min(1, c / \lVert g_t \rVert), \qquad \lVert g \rVert^2 = \textstyle\sum_{leaves} |g|^2$$

    State: `EmptyState()`. Units: as the gradient. Keeps its direction. A NaN or infinite gradient is not hidden.
    Entries whose squares overflow (1e20 in float32) make the norm infinite and the updates 0.

    Args:
        max_norm: c > 0. Unit: gradient.

    Raises:
        ValueError: if `max_norm` is not positive.

    Source: Pascanu, Mikolov and Bengio, 2013.
    """

    max_norm: Positive

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        norm = global_norm(updates)
        return map_leaves(_shrink, {"updates": updates}, norm=norm, max_norm=self.max_norm), state
