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
    root = safe_sqrt(x)  # not jnp.sqrt: a second derivative passes through here too
    positive = x > 0
    return root, jnp.where(positive, dx / jnp.where(positive, 2 * root, 1), 0)


def nonzero(x: Number) -> jax.Array:
    """A divisor: `x`, and 1 where it is 0, so that 0 / 0 is 0 in value and in derivative."""
    return jnp.where(jnp.asarray(x) == 0, jnp.ones_like(x), x)


def power(base: Number, exponent: Number) -> jax.Array:
    """`base ** exponent` for a base >= 0; where the base is 0, no derivative (0 ** p has NaN there)."""
    return jnp.where(jnp.asarray(base) > 0, nonzero(base) ** exponent, jnp.where(jnp.asarray(exponent) > 0, 0.0, 1.0))


# The least divisors, both normal in float32: below them subnormal numbers are flushed to 0. Outside a root the square
# has to be normal too, because the derivative of 1 / x has it.
_LEAST_INSIDE, _LEAST_OUTSIDE = float(np.finfo(np.float32).tiny), 2.0**-62


def positive(eps: Any, *, outside: bool = False) -> Any:
    """`eps`, or the least positive number in its place: a divisor with it is never 0.

    Args:
        eps: A scalar of a NumPy or JAX dtype.
        outside: Whether it is added to a divisor; otherwise to what a root is taken of.
    """
    least = np.asarray(_LEAST_OUTSIDE if outside else _LEAST_INSIDE, eps.dtype)
    return np.maximum(eps, least) if isinstance(eps, np.generic) else jnp.maximum(eps, least)


def abs_sq(x: jax.Array) -> jax.Array:
    """|x|^2, real for complex `x`, and differentiable at 0."""
    if jnp.iscomplexobj(x):
        return jnp.square(x.real) + jnp.square(x.imag)
    return jnp.square(x)


def safe_increment(count: jax.Array | np.ndarray) -> jax.Array:
    """`count + 1`, staying at the largest int32 rather than wrapping to a negative step."""
    one = np.ones((), count.dtype)
    return jax.lax.min(count, np.iinfo(count.dtype).max - one) + one
