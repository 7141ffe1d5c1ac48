"""Arithmetic on trees as vectors, for methods whose steps are more than one array's."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .maths import nonzero, safe_sqrt
from .precision import step_dtype
from .tree import inner, map_leaves


def subtract(a: Any, b: Any) -> Any:
    """`a - b`."""
    return map_leaves(_subtract, [a], reads=[b])


def times(a: Any, factor: ArrayLike) -> Any:
    """`factor * a`."""
    return map_leaves(_times, [a], [factor])


def add_scaled(a: Any, factor: ArrayLike, b: Any) -> Any:
    """`a + factor * b`."""
    return map_leaves(_add_scaled, [a], [factor], reads=[b])


def largest(tree: Any) -> jax.Array:
    """The largest absolute value of an entry, 0 of none; in float64 if any leaf is 64-bit, else float32."""
    dtype = step_dtype(tree)
    leaves = [_largest(leaf).astype(dtype) for leaf in jax.tree.leaves(tree)]
    return jnp.max(jnp.stack(leaves)) if leaves else jnp.zeros([], dtype)


@partial(jax.jit, inline=True)
def unit(size: jax.Array) -> jax.Array:
    """The power of two nearest to a size (1 where it is 0 or not finite), a constant to derivatives.

    What is divided by it can be squared without leaving the range of floats, which in float32 begins at 1e-38. It is a
    power of two so that dividing rounds nothing: what is in range comes out as it does without.
    """
    kind = jnp.finfo(size.dtype)
    power = jax.lax.reduce_precision(jax.lax.stop_gradient(size), kind.nexp, 0)
    # The last powers have no reciprocal, and sizes below the least one are 0.
    power = jnp.clip(power, kind.tiny, 1 / kind.tiny)
    return jnp.where((size >= kind.tiny) & jnp.isfinite(size), power, 1)


def norm(tree: Any) -> jax.Array:
    """The root of the sum of squares, for entries of any size; its derivative at 0 is 0."""
    size = unit(largest(tree))
    scaled = times(tree, 1 / size)
    return size * safe_sqrt(inner(scaled, scaled))


class Products(NamedTuple):
    """Inner products of a step s and the gradient's difference y along it; for <y, y>, y is multiplied by `unit`.

    The unit is a power of two near <s, s> / <s, y>. With it y is of the step's size, whatever unit the objective is
    measured in. Never divide by it twice: XLA would multiply the divisors first, which leaves the range of floats.
    """

    ss: jax.Array
    sy: jax.Array
    yy: jax.Array
    unit: jax.Array


def products(s: Any, y: Any) -> Products:
    """All three."""
    ss, sy = inner(s, s), inner(s, y)
    y_unit = unit(ss / nonzero(jnp.abs(sy)))
    scaled = times(y, y_unit)
    return Products(ss, sy, inner(scaled, scaled), y_unit)


@jax.jit
def _largest(leaf: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(leaf), initial=0)


def _subtract(updates: jax.Array, params: jax.Array) -> jax.Array:
    return updates - params


def _times(updates: jax.Array, factor: jax.Array) -> jax.Array:
    return factor * updates


def _add_scaled(updates: jax.Array, params: jax.Array, factor: jax.Array) -> jax.Array:
    return updates + factor * params
