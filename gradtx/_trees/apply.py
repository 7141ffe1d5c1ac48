"""The step itself: parameters plus updates."""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._types import Params, Updates
from .checks import aligned
from .map import map_leaves
from .precision import compute_dtype

Array: TypeAlias = jax.Array | np.ndarray


def _add(params: jax.Array, updates: jax.Array) -> jax.Array:
    return params + updates


def apply_updates(params: Params, updates: Updates) -> Params:
    """`params + updates`, leaf by leaf, in the dtype of each parameter.

    Half-precision parameters are added to in float32 and rounded once. A `None` update leaves its parameter.

    Raises:
        ValueError: if the trees differ in structure or a leaf in shape; the path is named.
        TypeError: if a parameter is not floating or complex.
    """
    return map_leaves(_add, {"params": params}, reads={"updates": updates}, optional="updates")


def moved(params: Params, updates: Updates) -> Params:
    """The parameters that a training loop gets to with these updates, its roundings included.

    Inside a chain the updates of half-precision parameters are float32, and are rounded on their way out.

    Raises:
        ValueError: if the trees differ in structure or a leaf in shape; the path is named.
        TypeError: if a leaf is not floating or complex.
    """
    structure, rows, _ = aligned(("updates", "params"), (updates, params), 0)
    return apply_updates(params, structure.unflatten([_as_applied(u, p) for u, p in rows]))


def _as_applied(update: Array | None, param: Array | None) -> Array | None:
    if update is None or param is None:
        return update
    dtype = jnp.result_type(param)
    return update if compute_dtype(dtype) == dtype else update.astype(dtype)
