"""Which leaves of a transformation are a batch, for `jax.vmap`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ._core.data import PyTreeNode, layout, restored_node


def batch_axes(tx: PyTreeNode) -> Any:
    """`in_axes` for `jax.vmap` over a batch of hyperparameters: 0 for numbers given as arrays, `None` for single ones.

    Arrays of weights are not batched, nor raw random keys; of typed keys, an array of several is a batch.

    >>> import jax, jax.numpy as jnp, gradtx
    >>> def first_step(tx):
    ...     return tx.update(jnp.ones(()), tx.init(jnp.zeros(())))[0]
    >>> txs = gradtx.sgd(jnp.array([0.1, 0.2]))
    >>> jax.vmap(first_step, in_axes=(gradtx.batch_axes(txs),))(txs)
    Array([-0.1, -0.2], dtype=float32)

    `jax.lax.map` and `scan` know no `in_axes`; give them the numbers that vary:

    >>> tx = gradtx.sgd(0.0, momentum=0.9)
    >>> jax.lax.map(lambda rate: first_step(tx.replace(learning_rate=rate)), jnp.array([0.1, 0.2]))
    Array([-0.1, -0.2], dtype=float32)

    Raises:
        ValueError: if two batches differ in length; both are named.
    """
    axes = _axes(tx)
    lengths: dict[int, str] = {}
    sizes = jax.tree.map(lambda axis, leaf: axis if axis is None else len(leaf), axes, tx, is_leaf=lambda x: x is None)
    for path, size in jax.tree.leaves_with_path(sizes):
        lengths.setdefault(size, jax.tree_util.keystr(path, simple=True, separator="."))
    if len(lengths) > 1:
        listed = " and ".join(f"`{name}` has {length} entries" for length, name in lengths.items())
        raise ValueError(
            f"batch_axes: {listed}: expected one length for all. For every combination use gradtx.grid(...); for "
            "one vmap inside another, write the in_axes of each by hand"
        )
    return axes


def _axes(tx: PyTreeNode) -> Any:
    return map_data(lambda leaf, is_number: 0 if is_batch(leaf, is_number) else None, tx)


def is_batch(leaf: object, is_number: bool) -> bool:
    """Whether a leaf of a transformation holds a value for each lane."""
    is_key = jnp.issubdtype(getattr(leaf, "dtype", float), jax.dtypes.prng_key)
    return (is_number or is_key) and getattr(leaf, "ndim", 0) > 0


def map_data(function: Callable[[Any, bool], Any], value: object, is_number: bool = False) -> Any:
    """`function(leaf, is_number)` of every leaf of a transformation; weights and random keys are no numbers."""
    if isinstance(value, PyTreeNode):
        data = [field for field in layout(type(value)).fields if field.spec.kind == "data"]
        mapped = {field.name: map_data(function, value.__dict__[field.name], not field.spec.free) for field in data}
        return restored_node(type(value), {**value._values(), **mapped})
    if not jax.tree_util.all_leaves([value]):
        return jax.tree.map(
            lambda part: map_data(function, part, is_number), value, is_leaf=lambda part: part is not value
        )
    return function(value, is_number)
