"""Blocks of a few hundred neighbouring entries, each with a scale of its own.

A block is a tile of the array: whole last axes as far as they go into it, a part of the axis before them, and one index
of all others. So codes have the array's own shape and the scales its rank, and both are sharded as the array is; for a
vector, or where the last axis is long, these are the runs of entries that other libraries take.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec, reshard

from .._trees.precision import compute_dtype


class Tiles(NamedTuple):
    """How an array falls into blocks: axes before `axis` by single indices, those after it whole."""

    axis: int
    count: int
    """Blocks along the axis."""
    length: int
    """Indices of a block along it; the last block may be shorter."""


def tiles(shape: tuple[int, ...], size: int) -> Tiles:
    """Blocks of at most `size` entries, and of more than a half of that unless the array is smaller.

    Args:
        shape: Of an array with at least one axis and one entry.
        size: At least 1.
    """
    axis, inner = len(shape) - 1, 1
    while axis > 0 and inner * shape[axis] <= size:
        inner *= shape[axis]
        axis -= 1
    most, extent = size // inner, shape[axis]
    if extent <= most:
        return Tiles(axis, 1, extent)
    # A length that divides the axis needs no padding.
    exact = [length for length in range(most, most // 2, -1) if extent % length == 0]
    length = exact[0] if exact else math.ceil(extent / math.ceil(extent / most))
    return Tiles(axis, math.ceil(extent / length), length)


def tiles_of(shape: tuple[int, ...], scales: tuple[int, ...]) -> Tiles:
    """The blocks of an array, from the shape of its scales."""
    axis = next((i for i, (own, other) in enumerate(zip(shape, scales, strict=True)) if own != other), len(shape) - 1)
    return Tiles(axis, scales[axis], math.ceil(shape[axis] / scales[axis]))


def size_for(shape: tuple[int, ...], scales: tuple[int, ...]) -> int:
    """A size for which `tiles` makes blocks whose scales have this shape."""
    blocks = tiles_of(shape, scales)
    entries = blocks.length * math.prod(shape[blocks.axis + 1 :])

    def made(size: int) -> tuple[int, ...]:
        axis, count, _ = tiles(shape, size)
        return (*shape[:axis], count, *[1] * (len(shape) - axis - 1))

    return next(size for size in range(entries, 2 * entries + 1) if made(size) == scales)


def split(array: jax.Array, into: Tiles) -> jax.Array:
    """The array with its axis as two, blocks and the indices in a block; zeros fill the last block."""
    axis, count, length = into
    if count == 1:
        return jnp.expand_dims(array, axis)
    if length == 1:
        return jnp.expand_dims(array, axis + 1)
    array = _whole(array, into)
    missing = count * length - array.shape[axis]
    if missing:
        array = jnp.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)])
    return array.reshape(*array.shape[:axis], count, length, *array.shape[axis + 1 :])


def join(array: jax.Array, into: Tiles, like: Any) -> jax.Array:
    """Undo `split`: an array of the shape and sharding of `like`."""
    axis, count, length = into
    if count == 1 or length == 1:
        return jnp.squeeze(array, axis if count == 1 else axis + 1)
    joined = array.reshape(*array.shape[:axis], count * length, *array.shape[axis + 2 :])
    joined = jax.lax.slice_in_dim(joined, 0, like.shape[axis], axis=axis)
    spec = _explicit_spec(like)
    return joined if spec is None or spec == _explicit_spec(joined) else reshard(joined, spec)


def _whole(array: jax.Array, into: Tiles) -> jax.Array:
    """The array with its axis on one device, where a mesh of explicit axes would cut through blocks."""
    spec = _explicit_spec(array)
    if spec is None or spec[into.axis] is None:
        return array
    names = spec[into.axis] if isinstance(spec[into.axis], tuple) else (spec[into.axis],)
    parts = math.prod(jax.sharding.get_abstract_mesh().shape[name] for name in names)
    if into.count % parts == 0 and into.count * into.length == array.shape[into.axis]:
        return array
    return reshard(array, PartitionSpec(*(None if i == into.axis else axis for i, axis in enumerate(spec))))


def _explicit_spec(array: Any) -> PartitionSpec | None:
    """How the array lies on a mesh of explicit axes; `None` where it is on none."""
    mesh = jax.sharding.get_abstract_mesh()
    if AxisType.Explicit not in mesh.axis_types:
        return None
    spec = tuple(jax.typeof(array).sharding.spec)
    return PartitionSpec(*spec, *[None] * (array.ndim - len(spec)))


def spread(scales: jax.Array, into: Tiles) -> jax.Array:
    """Scales in the shape to compute with what `split` made."""
    return jnp.expand_dims(scales, into.axis + 1)


def gathered(scales: jax.Array, into: Tiles) -> jax.Array:
    """Undo `spread`."""
    return jnp.squeeze(scales, into.axis + 1)


def scaled(leaf: jax.Array, into: Tiles) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A leaf as shares of its blocks' largest entries, as `split` lays them out.

    Returns:
        The shares, float32 in -1 to 1 but for the rounding of the size to the leaf's dtype; the size of each block, its
        largest absolute value, in that dtype; and whether the block has a negative entry, or a NaN.
    """
    blocks = split(jax.lax.stop_gradient(leaf).astype(compute_dtype(leaf.dtype)), into)
    axes = tuple(range(into.axis + 1, blocks.ndim))
    least, most = (of(blocks, axis=axes, keepdims=True) for of in (jnp.min, jnp.max))
    size = jnp.maximum(-least, most)
    # XLA flushes smaller ones to 0.
    size = jnp.where(size < jnp.finfo(size.dtype).tiny, 0, size).astype(leaf.dtype)
    # Not `least < 0`: a NaN is to count as of both signs.
    return _shares(blocks, size), size, ~(least >= 0)


def _shares(blocks: jax.Array, size: jax.Array) -> jax.Array:
    # XLA multiplies by the reciprocal of what is the same for many, and that of the largest floats is flushed to 0.
    unit = jnp.where(size > 1, 2.0**-32, 1).astype(blocks.dtype)
    share = (blocks * unit) / jnp.where(size == 0, 1, size.astype(blocks.dtype) * unit)
    return share.astype(jnp.float32)
