"""The step itself: parameters plus updates."""

from typing import Any

import jax

from .tree import map_leaves


def _add(params: jax.Array, updates: jax.Array) -> jax.Array:
    return params + updates


def apply_updates(params: Any, updates: Any) -> Any:
    """`params + updates`, leaf by leaf, in the dtype of each parameter.

    Half-precision parameters are added to in float32 and rounded once. A `None` update leaves its parameter.

    Raises:
        ValueError: The trees differ in structure or a leaf in shape; the path is named.
        TypeError: A parameter is not floating or complex.
    """
    return map_leaves(_add, [params], reads=[updates], optional=1)
