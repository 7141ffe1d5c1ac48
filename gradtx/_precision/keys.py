"""Random keys of a state, for rounding."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def first_key(given: Any) -> jax.Array:
    """A new key from a key or a seed. Raises TypeError for anything else."""
    if given is None or not (
        jnp.issubdtype(jnp.result_type(given), jnp.integer)
        or jnp.issubdtype(jnp.result_type(given), jax.dtypes.prng_key)
    ):
        raise TypeError(f"`key` must be a random key or a seed, a whole number; got {given!r}")
    if jnp.issubdtype(jnp.result_type(given), jax.dtypes.prng_key) or jnp.ndim(given) == 1:
        # A copy: two owners of a buffer cannot both donate it.
        return jax.random.split(given, 1)[0]
    return jax.random.key(jnp.asarray(given).astype(jnp.uint32))


def check_rounding(tx: Any, random: np.dtype) -> None:
    """Raise ValueError if rounding is stochastic and there is no key, or a dtype that is rounded to nearest only."""
    if tx.rounding == "nearest":
        return
    owner = type(tx).__name__
    if tx.key is None:
        raise ValueError(f"{owner}: rounding='stochastic' needs `key`: a seed, or jax.random.key(0)")
    for rule, dtype in tx.dtypes:
        if dtype not in (None, random):
            raise ValueError(
                f"{owner}: rounding='stochastic' is for {random.name}, got {dtype.name} for {rule!r}; leave that to "
                "another wrapper around this one, or use rounding='nearest'"
            )
