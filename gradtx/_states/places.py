"""Places in a state: their names, what is at them, and whether a leaf from elsewhere fits there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Words: TypeAlias = tuple[str, ...]
"""A place in a state, in the same words for tuples, NamedTuples, and lists and dicts."""


def children(node: Any) -> list[tuple[str, Any]]:
    """What a plain container holds, by name; nothing for anything else."""
    if hasattr(node, "_fields"):
        return list(zip(node._fields, node, strict=True))
    if isinstance(node, Mapping):
        return [(str(key), child) for key, child in node.items()]
    return [(str(i), child) for i, child in enumerate(node)] if isinstance(node, (tuple, list)) else []


def fit(owner: str, value: object, spec: jax.ShapeDtypeStruct, words: Words) -> jax.Array:
    """`value` as an array of the dtype of `spec`, shared if it is one already.

    Raises:
        ValueError: if the shape is another.
        TypeError: if it is no array, or of another kind of number.
    """
    if not isinstance(value, (jax.Array, np.ndarray, np.generic, int, float, complex)):
        raise TypeError(f"{owner}: {at(words)} must be an array, got {value!r} ({type(value).__name__})")
    if np.shape(value) != spec.shape:
        raise ValueError(f"{owner}: {at(words)} has shape {np.shape(value)}, expected {spec.shape}")
    array = value if isinstance(value, jax.Array) else jnp.array(value)
    if array.dtype == spec.dtype and jnp.issubdtype(array.dtype, jax.dtypes.extended):
        return array  # a random key
    if jnp.iscomplexobj(array) and jnp.issubdtype(spec.dtype, jnp.floating) and not np.any(np.imag(array)):
        array = array.real  # optax starts the second moment of complex parameters as complex zeros
    kinds = (jnp.integer, jnp.floating, jnp.complexfloating, jnp.inexact)
    to_complex = jnp.issubdtype(spec.dtype, jnp.complexfloating)
    kind = jnp.inexact if to_complex else next((k for k in kinds if jnp.issubdtype(spec.dtype, k)), spec.dtype)
    if not jnp.issubdtype(array.dtype, kind):
        raise TypeError(f"{owner}: {at(words)} is {describe(array)}, expected {describe(spec)}")
    return array.astype(spec.dtype)


def at(words: Words) -> str:
    """A place, in a message."""
    return f"`{'.'.join(words)}`" if words else "its root"


def describe(leaf: Any) -> str:
    """Dtype and shape, in a message."""
    return f"{jnp.result_type(leaf)}{list(np.shape(leaf))}"


def listing(leaves: dict[Words, Any]) -> str:
    """The first places, in a message."""
    shown = [at(words) for words in list(leaves)[:4]]
    return ", ".join([*shown, "..."][: len(leaves)]) if shown else "no arrays at all"
