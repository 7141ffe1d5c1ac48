"""Half precision: rounded to nearest, rounded at random, or with the rounding error kept beside it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Rounded(NamedTuple):
    """A float32 leaf of state in fewer bits."""

    value: jax.Array
    """Of the leaf's shape."""

    def decode(self) -> jax.Array:
        """The leaf, in float32."""
        return jnp.asarray(self.value).astype(jnp.float32)

    def another(self, leaf: jax.Array) -> Rounded | RoundedDouble:
        """Another leaf, rounded to nearest."""
        return rounded(leaf, self.value.dtype)


class RoundedDouble(NamedTuple):
    """A float64 leaf of state in fewer bits."""

    value: jax.Array
    """Of the leaf's shape."""

    def decode(self) -> jax.Array:
        """The leaf, in float64."""
        return jnp.asarray(self.value).astype(jnp.float64)

    def another(self, leaf: jax.Array) -> Rounded | RoundedDouble:
        """Another leaf, rounded to nearest."""
        return rounded(leaf, self.value.dtype)


class Bfloat16WithRest(NamedTuple):
    """A float32 leaf of state as bfloat16 and a byte of the rounding error: 24 bits."""

    high: jax.Array
    """bfloat16, of the leaf's shape: the leaf rounded to nearest."""
    rest: jax.Array
    """int8, of the leaf's shape: leaf minus `high`, in units of 2^-8 of the last place of `high`."""

    def decode(self) -> jax.Array:
        """The leaf."""
        return with_rest(self.high, self.rest)

    def another(self, leaf: jax.Array) -> Bfloat16WithRest:
        """Another leaf, encoded in the same way."""
        return encode_with_rest(leaf)


@partial(jax.jit, static_argnames="dtype")
def rounded(leaf: jax.Array, dtype: np.dtype) -> Rounded | RoundedDouble:
    """A leaf rounded to nearest in a narrower dtype."""
    kind = RoundedDouble if leaf.dtype == np.float64 else Rounded
    return kind(jax.lax.stop_gradient(leaf).astype(dtype))


@jax.jit
def rounded_at_random(leaf: jax.Array, key: jax.Array) -> Rounded | RoundedDouble:
    """A leaf rounded to bfloat16, up or down at random, so that the mean is the leaf."""
    kind = RoundedDouble if leaf.dtype == np.float64 else Rounded
    return kind(at_random(jax.lax.stop_gradient(leaf).astype(jnp.float32), key).astype(jnp.bfloat16))


def at_random(x: jax.Array, key: jax.Array) -> jax.Array:
    """float32 rounded to numbers of bfloat16: to a neighbour with the probability that makes the mean exact.

    A random 16-bit number is added to the bits, and the low 16 are cut off: the sum carries with just that probability.
    NaN and infinities stay.
    """
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    bits = (jax.lax.bitcast_convert_type(x, jnp.uint32) + noise) & np.uint32(0xFFFF0000)
    return jnp.where(jnp.isfinite(x), jax.lax.bitcast_convert_type(bits, jnp.float32), x)


@jax.jit
def encode_with_rest(leaf: jax.Array) -> Bfloat16WithRest:
    """A float32 leaf as bfloat16 and the rounding error; it decodes to within 2^-15 of itself."""
    leaf = jax.lax.stop_gradient(leaf)
    high = leaf.astype(jnp.bfloat16)
    # Floats of one sign follow each other as integers do: the rest is a difference of bits, across powers of two, too.
    left = _bits(leaf) - _bits(high.astype(jnp.float32))
    # Not -128, which is a tie: what it decodes to could round to the neighbour of `high`.
    rest = jnp.clip((left + 128) >> 8, -127, 127)
    return Bfloat16WithRest(high, jnp.where(jnp.isnan(leaf), 0, rest).astype(jnp.int8))


@jax.jit
def with_rest(high: jax.Array, rest: jax.Array) -> jax.Array:
    """The float32 leaf that `encode_with_rest` made the two of."""
    bits = _bits(high.astype(jnp.float32)) + (rest.astype(jnp.int32) << 8)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


@jax.jit
def low_bits(master: jax.Array, high: jax.Array) -> jax.Array:
    """Bits of a float32 minus those of a bfloat16 near it, as int16: `with_low_bits` gives the float32 back exactly.

    If the two are farther apart than half a unit in the last place of bfloat16, it gives the nearest one that is not.
    """
    left = _bits(master) - _bits(high.astype(jnp.float32))
    # Across 0 bits do not follow each other; then the low bits say nothing but the sign, and are left out.
    same_sign = (_bits(master) < 0) == (_bits(high.astype(jnp.float32)) < 0)
    left = jnp.where(same_sign & ~jnp.isnan(master), jnp.clip(left, -(2**15), 2**15 - 1), 0)
    return left.astype(jnp.int16)


@jax.jit
def with_low_bits(high: jax.Array, low: jax.Array) -> jax.Array:
    """The float32 whose `low_bits` these are."""
    return jax.lax.bitcast_convert_type(_bits(high.astype(jnp.float32)) + low.astype(jnp.int32), jnp.float32)


def nearest_away(x: jax.Array) -> jax.Array:
    """float32 rounded to numbers of bfloat16, ties away from 0: the rounding error then always fits in 16 bits.

    With ties to even it needs one bit more, as a tie may lie half a place above as well as below.
    """
    bits = (jax.lax.bitcast_convert_type(x, jnp.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)
    return jnp.where(jnp.isfinite(x), jax.lax.bitcast_convert_type(bits, jnp.float32), x)


def _bits(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, jnp.int32)
