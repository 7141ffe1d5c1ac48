"""Loops and branches inside `jax.shard_map`, where an array's type says over which mesh axes it varies.

A loop's carry has to have one type. A count or a norm that begins as a constant is the same on all devices, and after
one step on values of a device's own it is not; `jax.shard_map` refuses that unless the constant is declared to vary,
which costs nothing (https://docs.jax.dev/en/latest/notebooks/shard_map.html#tracking-how-values-vary-over-manual-mesh-axes-and-check-vma-true).
Outside of `shard_map` nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax

from ._types import PyTree

T = TypeVar("T")


def inside_shard_map() -> bool:
    """Whether some mesh axes are manual here."""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def vary_with(tree: T, *others: PyTree) -> T:
    """The tree, declared to vary over all mesh axes that some leaf of the others varies over."""
    if not inside_shard_map():
        return tree
    axes = frozenset().union(*(_axes(leaf) for leaf in jax.tree.leaves(others)))
    return jax.tree.map(lambda leaf: _vary(leaf, axes), tree)


def while_loop(goes_on: Callable[[T], Any], step: Callable[[T], T], start: T) -> T:
    """`jax.lax.while_loop`, whose start is declared to vary as the steps' results do."""
    if not inside_shard_map():
        return jax.lax.while_loop(goes_on, step, start)
    settled = None
    while settled is None or jax.tree.map(_axes, settled) != jax.tree.map(_axes, start):
        settled = start
        start = _vary_as(settled, jax.eval_shape(step, settled))
    return jax.lax.while_loop(goes_on, lambda now: _vary_as(step(now), start), start)


def cond(condition: jax.Array, then: Callable[..., T], otherwise: Callable[..., T], *operands: PyTree) -> T:
    """`jax.lax.cond`, whose results are declared to vary as those of either branch do, and the condition."""
    if not inside_shard_map():
        return jax.lax.cond(condition, then, otherwise, *operands)
    branches = [jax.eval_shape(branch, *operands) for branch in (then, otherwise)]
    axes = jax.tree.map(lambda *leaves: frozenset().union(*map(_axes, (*leaves, condition))), *branches)

    def widened(branch: Callable[..., T]) -> Callable[..., T]:
        return lambda *operands: jax.tree.map(_vary, branch(*operands), axes)

    return jax.lax.cond(condition, widened(then), widened(otherwise), *operands)


def _vary_as(tree: T, like: PyTree) -> T:
    return jax.tree.map(lambda leaf, other: _vary(leaf, _axes(other)), tree, like)


def _axes(leaf: Any) -> frozenset[Any]:
    kind: Any = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    # Before JAX 0.9 the type has the set itself, and the declaration another name.
    varying = getattr(kind.manual_axis_type, "varying", None) if hasattr(kind, "manual_axis_type") else kind.vma
    return varying or frozenset()  # with check_vma=False a shape says nothing, and nothing has to


def _vary(leaf: Any, axes: frozenset[Any]) -> Any:
    further = tuple(axes - _axes(leaf))
    if not further:
        return leaf
    lax: Any = jax.lax
    return lax.pcast(leaf, further, to="varying") if hasattr(lax, "pcast") else lax.pvary(leaf, further)
