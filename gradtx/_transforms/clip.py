r"""Bound the updates: each entry, the size of each leaf, or the norm of the whole tree."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .._core.contract import EmptyState, Stateless
from .._core.fields import NonNegative
from .._maths import abs_sq, safe_divisor, safe_sqrt
from .._trees.checks import checked_leaves
from .._trees.map import map_leaves
from .._trees.vectors import map_reduce, tree_vdot
from .._types import Leaf, Params, ScalarArray, Updates

_SMALL = 2**14
"""Entries of a leaf that a copy may be made of: 300 of them are 20 MB."""


def _clip(updates: Leaf, max_delta: ScalarArray) -> Leaf:
    if jnp.iscomplexobj(updates):
        raise TypeError("clip: complex updates have no order; use clip_by_global_norm")
    return jnp.clip(updates, -max_delta, max_delta)


def _sum_of_squares(updates: Leaf, factor: ScalarArray | float = 1.0) -> ScalarArray:
    return jnp.sum(abs_sq(factor * updates))


def divided(updates: Leaf, norm: ScalarArray) -> Leaf:
    """`updates / norm`, and 0 for a norm of 0."""
    return jnp.where(norm == 0, 0, updates / safe_divisor(norm))  # a NaN norm compares false and has to come through


def leaf_norm(updates: Leaf, axes: tuple[int, ...] | None = None) -> jax.Array:
    """The norm along some axes, which stay with a length of 1; along all: `None`. Squares may overflow."""
    return safe_sqrt(jnp.sum(abs_sq(updates), axis=axes, keepdims=True))


def _shrink_block(updates: Leaf, threshold: ScalarArray) -> Leaf:
    return shrink(updates, leaf_norm(updates) / max(updates.size, 1) ** 0.5, threshold)


def shrink(updates: Leaf, norm: jax.Array, max_norm: jax.Array) -> Leaf:
    """Updates whose norm is at most `max_norm`: as they are where it is, else divided by what it is over."""
    # A NaN norm compares false and has to come through, so the test is for what stays as it is. The branch that is not
    # taken is differentiated too: a norm of 0 would make the hypergradient NaN.
    return jnp.where(norm <= max_norm, updates, updates / safe_divisor(norm) * max_norm)


def global_norm(updates: Updates) -> jax.Array:
    r"""$\sqrt{\sum |g|^2}$ over all leaves; in float64 if one is float64 or complex128, else float32.

    0 for an empty tree. Entries may have any size: where squares leave the range of floats, they are summed again in
    another unit. Infinite where an entry is, or where the norm itself is beyond the largest float; NaN where an entry
    is. Second derivatives are right for norms below the root of the largest float (2e19 in float32).
    """
    checked_leaves(updates, "updates")
    return _compiled_norm(updates)


@jax.custom_jvp
def _norm(updates: Updates) -> jax.Array:
    total = map_reduce(_sum_of_squares, updates)
    # A sum that is not finite has lost what is large, and one near the least float what is small: XLA flushes squares
    # below that to 0, which for each of the entries may lose as much. Only then everything is read again, divided by a
    # power of two that brings squares from the far end well into the range: Blue, 1978, doi:10.1145/355769.355771.
    kind, size = jnp.finfo(total.dtype), sum(leaf.size for leaf in jax.tree.leaves(updates))
    is_exact = (total >= min(size, 2**50) * float(kind.tiny / kind.eps)) & jnp.isfinite(total)
    far = 2.0 ** (7 * kind.maxexp // 10)
    unit = jnp.where(jnp.isfinite(total), 1 / far, far).astype(total.dtype)

    def again() -> jax.Array:
        return unit * safe_sqrt(map_reduce(_sum_of_squares, _stacked(updates), 1 / unit))

    return jax.lax.cond(is_exact, lambda: safe_sqrt(total), again)


def _stacked(updates: Updates) -> list[jax.Array]:
    """Small leaves of one type as one array: a branch that hardly ever runs is not to be half of what is compiled."""
    groups: dict[Any, list[jax.Array]] = {}
    for i, leaf in enumerate(jax.tree.leaves(updates)):
        groups.setdefault(jax.typeof(leaf) if leaf.size <= _SMALL else i, []).append(leaf)
    return [jnp.stack(group) if len(group) > 1 else group[0] for group in groups.values()]


@_norm.defjvp
def _norm_jvp(primals: tuple[Updates], tangents: tuple[Updates]) -> tuple[jax.Array, jax.Array]:
    (updates,), (change,) = primals, tangents
    norm = _norm(updates)  # the rule has derivatives, too
    return norm, tree_vdot(map_leaves(divided, {"updates": updates}, norm=norm), change)


_compiled_norm = jax.jit(_norm, inline=True)


class clip(Stateless):
    r"""Clip each entry: $u_t = \min(\max(g_t, -d), d)$.

    State: `EmptyState()`. Units: as the gradient. Keeps its sign. Refuses complex updates. An infinite entry becomes d;
    NaN stays.

    Args:
        max_delta: d >= 0. Unit: gradient.

    Raises:
        ValueError: if `max_delta` is negative.
        TypeError: from `update`, if updates are complex.
    """

    max_delta: NonNegative

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        return map_leaves(_clip, {"updates": updates}, max_delta=self.max_delta), state


class clip_by_block_rms(Stateless):
    r"""Shrink each leaf whose root mean square exceeds a threshold.

    $$u_t = g_t \min(1, c / \mathrm{rms}(g_t)), \qquad \mathrm{rms}(g)^2 = \textstyle\frac1n \sum |g|^2$$

    State: `EmptyState()`. Units: as the gradient. Keeps the direction of each leaf. Where a square
    overflows (from 2e19 on in float32), its leaf becomes 0, as by a bound of 0. A leaf with an infinite entry becomes 0
    but for that entry, which becomes NaN; one with NaN becomes NaN.

    Args:
        threshold: c >= 0; at 0 updates are 0. Unit: gradient.

    Raises:
        ValueError: if `threshold` is negative.

    Source: Shazeer and Stern, 2018, section 6, where it clips updates.
    """

    threshold: NonNegative

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        return map_leaves(_shrink_block, {"updates": updates}, threshold=self.threshold), state


class clip_by_global_norm(Stateless):
    r"""Shrink all updates together so that their norm is at most `max_norm`.

    $$u_t = g_t \min(1, c / \lVert g_t \rVert), \qquad \lVert g \rVert^2 = \textstyle\sum_{leaves} |g|^2$$

    State: `EmptyState()`. Units: as the gradient. Keeps its direction. Entries may have any size: no square leaves the
    range of floats (see `global_norm`). Where the norm's reciprocal is no normal number (8e37 in float32), updates
    are 0. Derivatives are right for norms below the root of the largest float (2e19 in float32).

    What is not finite is not hidden: with one infinite entry the norm is infinite, that entry becomes NaN and all
    others 0; with a NaN all become NaN. `zero_nans` before it, or a guard around the optimizer, is for those.

    Args:
        max_norm: c >= 0; at 0 updates are 0. Unit: gradient.

    Raises:
        ValueError: if `max_norm` is negative.

    Source: Pascanu, Mikolov and Bengio, 2013.
    """

    max_norm: NonNegative

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        norm = global_norm(updates)
        return map_leaves(shrink, {"updates": updates}, norm=norm, max_norm=self.max_norm), state
