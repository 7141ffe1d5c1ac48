"""A float of 8 bits per entry, in blocks with a scale, so that the largest entry of a block is the largest float."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._trees.precision import compute_dtype
from .blocks import gathered, join, scaled, size_for, split, spread, tiles, tiles_of


class Float8Blocks(NamedTuple):
    """A leaf of state in blocks of float8."""

    codes: jax.Array
    """float8, of the leaf's shape: entries over their scale, or the roots of these where none is negative."""
    scales: jax.Array
    """Of each block, in the leaf's dtype; negative where entries have both signs."""

    def decode(self) -> jax.Array:
        """The leaf."""
        return decode(self.codes, self.scales)

    def another(self, leaf: jax.Array) -> Float8Blocks:
        """Another leaf in such blocks."""
        return encode(leaf, self.codes.dtype, size_for(self.codes.shape, self.scales.shape))


@partial(jax.jit, static_argnames=("dtype", "block_size"))
def encode(leaf: jax.Array, dtype: np.dtype, block_size: int) -> Float8Blocks:
    """A leaf in blocks. A block with a NaN or an infinite entry decodes to NaN and infinities."""
    into, kind = tiles(leaf.shape, block_size), jnp.finfo(dtype)
    share, size, has_negative = scaled(leaf, into)
    share = jnp.clip(share, -1, 1)  # the size may have been rounded
    top, low = float(kind.max), float(kind.smallest_subnormal)
    root = jnp.sqrt(jnp.maximum(share, 0)) * top
    # What is not 0 does not become 0 where no entry is negative: it may be a divisor.
    codes = jnp.where(has_negative, share * top, jnp.where(share > 0, jnp.maximum(root, low), 0)).astype(dtype)
    codes = jax.lax.optimization_barrier(codes)  # as in `int8.encode`
    return Float8Blocks(join(codes, into, leaf), gathered(jnp.where(has_negative, -size, size), into))


@jax.jit
def decode(codes: jax.Array, scales: jax.Array) -> jax.Array:
    """The leaf that was encoded, in the dtype of the scales."""
    into = tiles_of(codes.shape, scales.shape)
    dtype = scales.dtype
    scales = spread(scales, into).astype(compute_dtype(dtype))
    share = split(codes, into).astype(jnp.float32) / float(jnp.finfo(codes.dtype).max)
    share = jnp.where(scales < 0, share, share * share).astype(scales.dtype)
    return join((share * jnp.abs(scales)).astype(dtype), into, codes)
