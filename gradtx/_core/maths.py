"""Maths on one array that several transformations share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .arguments import Number


@jax.custom_jvp
def safe_sqrt(x: jax.Array) -> jax.Array:
    """The square root, with derivative 0 at 0.

    A coordinate whose gradient is always zero has a zero second moment; the true derivative there is infinite and
    would turn a hypergradient into NaN for every hyperparameter.
    """
    return jnp.sqrt(x)


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    root = jnp.sqrt(x)
    positive = x > 0
    return root, jnp.where(positive, dx / jnp.where(positive, 2 * root, 1), 0)


def nonzero(x: Number) -> jax.Array:
    """A divisor: `x`, and 1 where it is 0, so that 0 / 0 is 0 in value and in derivative."""
    return jnp.where(jnp.asarray(x) == 0, jnp.ones_like(x), x)


def power(base: jax.Array, exponent: Number) -> jax.Array:
    """`base ** exponent` for a base >= 0; where the base is 0, no derivative (0 ** p has NaN there)."""
    return jnp.where(base > 0, nonzero(base) ** exponent, jnp.where(jnp.asarray(exponent) > 0, 0.0, 1.0))


# Less than the square of anything that matters, and normal in float32: no flushing to zero.
_TINY = float(np.finfo(np.float32).tiny)


def positive(eps: Any) -> Any:
    """`eps`, made positive: a divisor with it is never 0, and nothing else changes."""
    return eps + np.asarray(_TINY, eps.dtype)


def abs_sq(x: jax.Array) -> jax.Array:
    """|x|^2, real for complex `x`, and differentiable at 0."""
    if jnp.iscomplexobj(x):
        return jnp.square(x.real) + jnp.square(x.imag)
    return jnp.square(x)


def safe_increment(count: jax.Array | np.ndarray) -> jax.Array:
    """`count + 1`, staying at the largest int32 rather than wrapping to a negative step."""
    one = np.ones((), count.dtype)
    return jax.lax.min(count, np.iinfo(count.dtype).max - one) + one
