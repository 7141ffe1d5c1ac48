"""Arithmetic on trees as vectors, for methods whose steps are more than one array's."""

from typing import Any

import jax
from jax.typing import ArrayLike

from .tree import map_leaves


def subtract(a: Any, b: Any) -> Any:
    """`a - b`."""
    return map_leaves(_subtract, [a], reads=[b])


def times(a: Any, factor: ArrayLike) -> Any:
    """`factor * a`."""
    return map_leaves(_times, [a], [factor])


def add_scaled(a: Any, factor: ArrayLike, b: Any) -> Any:
    """`a + factor * b`."""
    return map_leaves(_add_scaled, [a], [factor], reads=[b])


def _subtract(updates: jax.Array, params: jax.Array) -> jax.Array:
    return updates - params


def _times(updates: jax.Array, factor: jax.Array) -> jax.Array:
    return factor * updates


def _add_scaled(updates: jax.Array, params: jax.Array, factor: jax.Array) -> jax.Array:
    return updates + factor * params
