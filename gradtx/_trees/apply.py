"""The step itself: parameters plus updates."""

import jax

from .._types import Params, Updates
from .map import map_leaves


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
