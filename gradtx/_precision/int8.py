r"""One byte per entry: blocks with a scale, and in them the dynamic map, whose levels lie densely at both ends.

The map has seven decades, $10^{-7}$ to 1 of the block's largest entry, each in twice as many equal parts as the one
below. In a byte the place of the leading 1 is then the decade, and what follows is the part: Dettmers' dynamic tree.
A block with entries of both signs has 127 levels for each; one without negative entries (of a mean of squares) has all
254 for the *root* of its entries, and so twice as many decades. The sign of the scale says which it is.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._trees.precision import compute_dtype
from .blocks import gathered, join, scaled, size_for, split, spread, tiles, tiles_of

DECADES = 7
"""Of the map: 8 bits are a sign and 7 that the leading 1 can be in (Dettmers et al., 2022, section 2.2)."""


class Int8Blocks(NamedTuple):
    """A leaf of state in blocks of one byte per entry."""

    codes: jax.Array
    """int8, of the leaf's shape."""
    scales: jax.Array
    """The largest absolute value of each block, in the leaf's dtype; negative where entries have both signs."""

    def decode(self) -> jax.Array:
        """The leaf."""
        return decode(self.codes, self.scales)

    def another(self, leaf: jax.Array) -> Int8Blocks:
        """Another leaf in such blocks."""
        return encode(leaf, size_for(self.codes.shape, self.scales.shape))


@partial(jax.jit, static_argnames="block_size")
def encode(leaf: jax.Array, block_size: int, key: jax.Array | None = None) -> Int8Blocks:
    """A leaf in blocks; with a key an entry takes one of its two levels at random, so that its mean is right.

    A block with a NaN or an infinite entry decodes to NaN and infinities.
    """
    into = tiles(leaf.shape, block_size)
    share, size, has_negative = scaled(leaf, into)
    random = None if key is None else split(jax.random.uniform(key, leaf.shape, jnp.float32), into)
    codes = _codes(share, has_negative, random)
    scales = jnp.where(has_negative, -size, size)
    # Else the rearrangement, which costs nothing by itself, becomes divisions of indices in the kernel of the codes.
    codes = jax.lax.optimization_barrier(codes)
    return Int8Blocks(join(codes, into, leaf), gathered(scales, into))


@jax.jit
def decode(codes: jax.Array, scales: jax.Array) -> jax.Array:
    """The leaf that was encoded, in the dtype of the scales."""
    into = tiles_of(codes.shape, scales.shape)
    dtype = scales.dtype
    scales = spread(scales, into).astype(compute_dtype(dtype))
    has_negative = scales < 0
    code = split(codes, into).astype(jnp.int32)
    # The byte as it is without a sign, and moved so that its leading 1 is the decade here, too.
    unsigned = jnp.where(code < 0, code + 256, code)
    level = jnp.where(has_negative, jnp.abs(code), jnp.where(unsigned > 0, unsigned + 1, 0))
    share = _share(level, jnp.where(has_negative, 1, 2).astype(scales.dtype))
    share = jnp.where(has_negative, jnp.where(code < 0, -share, share), share * share)
    return join((share * jnp.abs(scales)).astype(dtype), into, codes)


def _codes(share: jax.Array, has_negative: jax.Array, random: jax.Array | None) -> jax.Array:
    """The codes of entries as a share of the largest, in -1 to 1."""
    parts = jnp.where(has_negative, 1.0, 2.0).astype(jnp.float32)
    size = jnp.where(has_negative, jnp.abs(share), jnp.sqrt(jnp.maximum(share, 0))) * _top(parts)
    # What brings a decade to the topmost one, and the number of its parts: by selects, which vector units do several of
    # in the time of one look into a table.
    up, count = jnp.full_like(size, 10.0 ** (DECADES - 1)), parts + jnp.zeros_like(size)
    for decade in range(1, DECADES):
        # The middle between its least level and the topmost of the decade below.
        above = size >= (0.1 + 0.18 / (parts * 2.0**decade)) * 10.0 ** (decade + 1 - DECADES)
        up = jnp.where(above, 10.0 ** (DECADES - 1 - decade), up)
        count = jnp.where(above, parts * 2.0**decade, count)
    place = (size * up - 0.1) * (count * (1 / 0.9))
    if random is None:
        # Half of the least level is nearer to it than to 0.
        least = 0.5 * (0.1 + 0.45 / parts) * 10.0 ** (1 - DECADES)
        level = jnp.where(size >= least, count + jnp.clip(jnp.floor(place), 0, count - 1), 0)
    else:
        below, nearest = place - 0.5, jnp.round(place - 0.5)
        # What is on a level but for roundings stays, so that encoding again what was decoded changes nothing.
        below = jnp.where(jnp.abs(below - nearest) < 1e-3, nearest, below)
        # Levels are counted through from decade to decade, so that a neighbour may be in the next one.
        level = jnp.minimum(count + jnp.clip(jnp.floor(below + random), -1, count), parts * 2.0**DECADES - 1)
    level = level.astype(jnp.int32)
    signed = jnp.where(share < 0, -level, jnp.where(share > 0, level, 0))
    # What is not 0 does not become 0 where no entry is negative: it may be a divisor.
    byte = jnp.where(share > 0, jnp.maximum(level - 1, 1), 0)
    return jnp.where(has_negative, signed, jnp.where(byte > 127, byte - 256, byte)).astype(jnp.int8)


def _share(level: jax.Array, parts: jax.Array) -> jax.Array:
    """The middle of a part, as a share of the topmost one's, in the dtype of `parts`."""
    bits = jax.lax.bitcast_convert_type(level.astype(jnp.float32), jnp.int32)
    # One over the power of two below the level: over the parts of its decade.
    part = jax.lax.bitcast_convert_type((254 << 23) - (bits & (255 << 23)), jnp.float32).astype(parts.dtype)
    number = level.astype(parts.dtype)
    share = (0.9 * ((number + 0.5) * part) - 0.8) / _top(parts)
    unit = jnp.full_like(number, 10.0 ** (1 - DECADES))
    for decade in range(1, DECADES):
        unit = jnp.where(number >= parts * 2.0**decade, 10.0 ** (decade + 1 - DECADES), unit)
    # Exactly 1 at the top, so that encoding again what was decoded changes nothing.
    return jnp.where(level > 0, jnp.where(number == 2.0**DECADES * parts - 1, 1, unit * share), 0)


def _top(parts: jax.Array) -> jax.Array:
    """The middle of the topmost part, which stands for the block's largest entry, so that this one is exact."""
    return 1 - 0.45 / (parts * 2.0 ** (DECADES - 1))
