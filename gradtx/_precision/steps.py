"""Steps of half-precision parameters that lead to a given point, and not to one near it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def step_to(target: jax.Array, params: jax.Array, half: np.dtype) -> jax.Array:
    """What `apply_updates` is to add to `params` so that it gives `target`, both numbers of `half`; in float32.

    It is a number of `half` too, where one leads there: always, if the two have one sign and neither is more than twice
    the other (Sterbenz, 1974), and mostly otherwise. Else it is the float32 difference, which leads there unless the
    target is 2^15 times smaller than the parameter; rounded to `half` it leads to within a rounding of the step.
    """
    kind = jnp.finfo(half)

    # Not astype and back, which XLA leaves out as a loss of precision that nobody can want.
    def rounded(x: jax.Array) -> jax.Array:
        return jax.lax.reduce_precision(x, kind.nexp, kind.nmant)

    target, params = target.astype(jnp.float32), params.astype(jnp.float32)
    exact = target - params
    first = rounded(exact)
    missed = target - rounded(params + first)
    second = rounded(first + missed)
    hits = rounded(params + second) == target
    return jnp.where(missed == 0, first, jnp.where(hits, second, exact))


def lands_at(params: jax.Array, step: jax.Array, updates_dtype: np.dtype) -> jax.Array:
    """Where `apply_updates` goes from half-precision `params` with a step in the dtype of the updates."""
    kind, own = jnp.finfo(params.dtype), jnp.finfo(updates_dtype)
    step = step if updates_dtype.itemsize >= 4 else jax.lax.reduce_precision(step, own.nexp, own.nmant)
    moved = params.astype(jnp.float32) + step
    return jax.lax.reduce_precision(moved, kind.nexp, kind.nmant)


def is_none(leaf: object) -> bool:
    """For `jax.tree.flatten`, so that what is absent has a place."""
    return leaf is None


def dtype_of(leaf: ArrayLike) -> np.dtype:
    """An array's dtype, or the one that a Python number gets."""
    return np.dtype(jnp.result_type(leaf))
