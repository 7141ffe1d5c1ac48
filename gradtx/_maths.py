"""Maths on one array that several transformations share."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from ._types import Count, Number


@jax.custom_jvp
def safe_sqrt(x: jax.Array) -> jax.Array:
    """The square root, with derivative 0 at 0.

    A coordinate whose gradient is always zero has a zero second moment; the true derivative there is infinite and
    would turn a hypergradient into NaN for every hyperparameter: 0 * inf in the chain rule. A `where` around the root
    does not help, because both of its branches are differentiated
    (https://docs.jax.dev/en/latest/faq.html#gradients-contain-nan-where-using-where); the rule below does.
    """
    return jnp.sqrt(x)


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    root = safe_sqrt(x)  # not jnp.sqrt: a second derivative passes through here too
    positive = x > 0
    return root, jnp.where(positive, dx / jnp.where(positive, 2 * root, 1), 0)


def safe_divisor(x: Number) -> jax.Array:
    """`x`, and 1 where it is 0, so that 0 / 0 is 0 in value and in derivative."""
    return jnp.where(jnp.asarray(x) == 0, jnp.ones_like(x), x)


def safe_power(base: Number, exponent: Number) -> jax.Array:
    """`base ** exponent` for a base >= 0; where the base is 0, the derivative is 0 (that of 0 ** p is NaN)."""
    at_zero = jnp.where(jnp.asarray(exponent) > 0, 0.0, 1.0)
    return jnp.where(jnp.asarray(base) > 0, safe_divisor(base) ** exponent, at_zero)


# The least divisors that an eps of 0 leaves. XLA flushes subnormal numbers to 0 on CPU and TPU, and the derivative of
# 1 / d has 1 / d ** 2 times a cotangent, which has to stay below 2 ** 128: with d = 2 ** -60, up to cotangents of
# 2 ** 8. Inside a root the number is the square of d.
_LEAST_INSIDE, _LEAST_OUTSIDE = 2.0**-120, 2.0**-60


def floor_eps(eps: Any, *, outside: bool = False) -> Any:
    """`eps`, or a least number in its place, so that a divisor it is added to is never 0.

    With it an `eps` of 0 is legal: 0 / (0 + eps) is 0, where 0 / 0 would be NaN. Done once per step on a scalar, it
    spares a select in every entry.

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


def bias_weight(decay: ArrayLike, count: Count, dtype: DTypeLike) -> jax.Array:
    r"""$1 - \rho^t$, the weight that a decaying average has gathered after `count` updates; a scalar of `dtype`.

    The decay and the count are converted to `dtype` before the power. In optax 1 - b2 is a double and 1 - b2 ** t a
    float32, so that the first step of Adam is 6e-6 too short: 1 - .999 is .001 in one, .00100002 in the other.
    """
    return 1 - jnp.asarray(decay).astype(dtype) ** jnp.asarray(count).astype(dtype)


@functools.partial(jax.jit, inline=True)
def safe_increment(count: Count) -> jax.Array:
    """`count + 1`, staying at the largest int32 rather than wrapping to a negative step.

    A count may come from outside as another integer, or as a float (which stays where it has no next whole number, for
    float32 at 2^24); it keeps its dtype.
    """
    count = jnp.asarray(count)
    if jnp.issubdtype(count.dtype, jnp.floating):
        return count + np.ones((), count.dtype)
    one = np.ones((), count.dtype)
    return jax.lax.min(count, np.iinfo(count.dtype).max - one) + one
