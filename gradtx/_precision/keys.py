"""Random keys of a state."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def first_key(given: Any) -> jax.Array:
    """A key of one's own, of a key or a seed."""
    if jnp.issubdtype(jnp.result_type(given), jax.dtypes.prng_key) or jnp.ndim(given) == 1:
        # A copy: two owners of a buffer cannot both donate it.
        return jax.random.split(given, 1)[0]
    return jax.random.key(jnp.asarray(given).astype(jnp.uint32))
