"""Batches of transformations: made of single ones, and taken apart again.

A lane's numbers are kept as the Python floats that they were given as: a batch is a NumPy array of float64, which JAX
brings to its own precision where it is used, and a lane that is taken out is equal to the transformation that went in.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._batch import batch_axes, is_batch, map_data
from .._core.data import PyTreeNode
from .._core.fields import own
from .._core.values import same, shortest
from .._types import PyTree
from .differences import difference


class Grid(NamedTuple):
    """A batch of transformations with one lane for each combination of the labels, the last label fastest."""

    txs: Any
    """All lanes: a transformation in which numbers that differ between lanes are arrays."""
    labels: dict[str, np.ndarray]
    """The values along each axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each axis has: `results.reshape(grid.shape)` has an axis for each label."""
        return tuple(map(len, self.labels.values()))


def stack(transforms: Sequence[PyTreeNode]) -> Any:
    """A batch of transformations that differ in numbers alone, for `sweep` or `vmap`.

        txs = gradtx.stack([gradtx.adam(rate, b1) for rate, b1 in samples])

    Numbers that differ become arrays (NumPy, float64, so that `lane` gives each back to the last digit). Those that all
    share stay single; if all share every number, each becomes an array. Of random keys, typed ones may differ.

    Args:
        transforms: Single transformations of one structure.

    Raises:
        ValueError: if there are none, or two differ in more than numbers; the place is named, and what to do.
        TypeError: if one is no transformation of gradtx.
    """
    return stacked("stack", list(transforms), "lane {}".format)


def stacked(owner: str, transforms: list[Any], name: Callable[[int], str]) -> Any:
    """`stack`, in whose messages `owner` speaks and lanes have names."""
    if not transforms:
        raise ValueError(f"{owner}: there is nothing to stack; give at least one transformation")
    lanes = [_single(owner, tx, name(i)) for i, tx in enumerate(transforms)]
    structure = jax.tree.structure(lanes[0])
    for i, tx in enumerate(lanes):
        if jax.tree.structure(tx) != structure:
            raise ValueError(f"{owner}: {difference(lanes[0], tx, name(0), name(i))}")
    columns = list(zip(*map(jax.tree.leaves, lanes), strict=True))
    is_number = jax.tree.leaves(map_data(lambda _, is_number: is_number, lanes[0]))
    differs = [not all(same(column[0], leaf) for leaf in column) for column in columns]
    if not any(differs):
        differs = is_number
    if not any(differs):
        raise ValueError(f"{owner}: {transforms[0]!r} holds no number, so that its lanes cannot differ")
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(lanes[0])]
    return structure.unflatten(
        [
            _column(owner, path, number, column) if batched else column[0]
            for path, number, column, batched in zip(paths, is_number, columns, differs, strict=True)
        ]
    )


def _single(owner: str, tx: object, name: str) -> Any:
    if not isinstance(tx, PyTreeNode):
        raise TypeError(
            f"{owner}: {name} must be a transformation of gradtx, whose numbers are data; got {tx!r} "
            f"({type(tx).__name__})"
        )

    def plain(leaf: PyTree, is_number: bool) -> Any:
        if is_number and getattr(leaf, "ndim", 0):
            raise ValueError(f"{owner}: {name} holds a batch already ({len(leaf)} values): {tx!r}; give single numbers")
        return plain_number(leaf) if is_number else leaf

    return map_data(plain, tx)


def plain_number(leaf: object) -> Any:
    """A number as a Python float, an array's by the shortest decimal that names it; a tracer stays one."""
    if isinstance(leaf, Tracer) or not hasattr(leaf, "dtype"):
        return leaf
    return shortest(np.asarray(leaf).ravel()[0])


def _column(owner: str, path: str, is_number: bool, column: Sequence[Any]) -> Any:
    if is_number and all(type(leaf) is float for leaf in column):
        return own(np.array(column, np.float64))
    if is_number or jnp.issubdtype(getattr(column[0], "dtype", float), jax.dtypes.prng_key):
        return jnp.stack([jnp.asarray(leaf) if is_number else leaf for leaf in column])
    raise ValueError(
        f"{owner}: lanes differ in `{path}`, which is no hyperparameter but weights (or a seed, a raw random key, or "
        "numbers of a plain function). Only numbers and typed random keys, jax.random.key(0), can be lanes; "
        "for weights write jax.vmap(lambda weights: train(tx.replace(weights=weights)))(stacked)"
    )


def lane(txs: PyTreeNode | Grid, index: SupportsIndex) -> Any:
    """One transformation out of a batch, with plain Python numbers.

    It is equal to the one that `stack` was given, or that `grid` made. Of a batch that was given as an array
    (`adam(jnp.array([0.1, 0.2]))`) a number is the shortest decimal that names the array's entry: 0.1, and not the
    0.10000000149011612 that a float32 of 0.1 is.

    Args:
        txs: A batch: what `grid` or `stack` returned, or a transformation made with arrays.
        index: Which, from 0; of a grid, the position among all combinations, as `numpy.argmin` of results has it.

    Raises:
        IndexError: if there is no such lane.
        ValueError: if nothing is a batch, or two batches differ in length.
    """
    txs, count = batch_of("lane", txs)
    i = operator.index(index)
    if not -count <= i < count:
        raise IndexError(f"lane: there are {count} lanes, 0 to {count - 1}; got {i}")

    def pick(leaf: PyTree, is_number: bool) -> Any:
        if is_batch(leaf, is_number):
            leaf = leaf[i]
        return plain_number(leaf) if is_number else leaf

    return map_data(pick, txs)


def take(txs: PyTreeNode | Grid, indices: PyTree) -> Any:
    """Some lanes of a batch, in the given order; one may come several times.

    State and parameters of the same lanes are `jax.tree.map(lambda leaf: leaf[indices], (params, state))`.

    Args:
        txs: A batch, as for `lane`.
        indices: Whole numbers, one for each lane of the result.

    Raises:
        IndexError: if there is no such lane.
        ValueError: if nothing is a batch, or two batches differ in length.
    """
    txs, count = batch_of("take", txs)
    if isinstance(indices, Tracer):
        return map_data(lambda leaf, number: jnp.asarray(leaf)[indices] if is_batch(leaf, number) else leaf, txs)
    chosen = np.asarray(indices)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not chosen.size:
        raise IndexError(f"take: expected a list of whole numbers, got {indices!r}")
    if chosen.min() < -count or chosen.max() >= count:
        raise IndexError(f"take: there are {count} lanes, 0 to {count - 1}; got {chosen.tolist()}")
    return map_data(lambda leaf, number: own(leaf[chosen]) if is_batch(leaf, number) else leaf, txs)


def batch_of(owner: str, txs: object) -> tuple[Any, int]:
    """The batched transformation, without labels, and the number of its lanes. Raises ValueError if it is none."""
    txs = txs.txs if isinstance(txs, Grid) else txs
    if not isinstance(txs, PyTreeNode):
        raise TypeError(
            f"{owner} takes a batch of transformations, made by gradtx.grid or gradtx.stack; got {txs!r} "
            f"({type(txs).__name__})"
        )
    axes = batch_axes(txs)
    lengths = jax.tree.leaves(
        jax.tree.map(lambda axis, leaf: None if axis is None else len(leaf), axes, txs, is_leaf=lambda x: x is None)
    )
    if not lengths:
        raise ValueError(
            f"{owner}: no number of {txs!r} is a batch. Make one with gradtx.grid(gradtx.adam, learning_rate=[...]) or "
            "gradtx.stack([...])"
        )
    return txs, lengths[0]
