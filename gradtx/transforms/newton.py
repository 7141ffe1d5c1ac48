r"""Newton's direction by the whole Hessian: for a few thousand parameters at most."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core.arguments import NonNegative
from .._core.maths import nonzero
from .._core.precision import cast_like, scalar
from .._core.transformation import Transform, transformation
from . import curvature
from .ray import ValueFn


class NewtonState(NamedTuple):
    """Nothing is remembered but `negative`, int32: how many eigenvalues of the last Hessian were below 0."""

    negative: jax.Array


@transformation
def scale_by_newton(damping: NonNegative = 0.0, saddle_free: bool = False) -> Transform:
    r"""Multiply the gradient by the inverse Hessian, $(H + \lambda I)^{-1} g$; or by that of its absolute value.

    $$H = V \,\mathrm{diag}(w)\, V^T, \qquad d = V \,\mathrm{diag}\!\Big(\frac{1}{w + \lambda}\Big) V^T g
    \quad\text{or, saddle-free,}\quad V \,\mathrm{diag}\!\Big(\frac{1}{|w| + \lambda}\Big) V^T g$$

    Directions that are flat within rounding ($|w + \lambda|$ below $n \epsilon$ of the largest) are left out.

    Newton's method goes to the nearest point without slope, be it a minimum, a saddle or a maximum; it converges
    quadratically. Saddle-free, it goes away from saddles, always downhill. One update costs n Hessian-vector products
    and the eigenvalues of an n x n matrix, n the number of parameters: $O(n^3)$ time and $O(n^2)$ memory.

    State: `negative`, the number of negative eigenvalues of the last Hessian, int32. Units: parameter squared over
    objective, times the gradient's. Not negated; saddle-free, updates and gradient have a positive inner product.
    Derivatives take the Hessian's eigenvectors and eigenvalues for constants.

    Extra arguments: `value_fn`, a pure function of params, twice differentiable (forward over reverse).

    Args:
        damping: lambda, added to each eigenvalue (after its absolute value is taken). Unit: the Hessian's.
        saddle_free: Whether eigenvalues are taken as absolute values.

    Raises:
        TypeError: Parameters are complex.

    Source: Dauphin et al., 2014, for the absolute eigenvalues. Not in optax.
    """
    owner = "scale_by_newton"

    def init(params: Any) -> NewtonState:
        curvature.check_real(owner, params)
        return NewtonState(jnp.zeros([], jnp.int32))

    def update(updates: Any, state: NewtonState, params: Any, *, value_fn: ValueFn) -> tuple[Any, NewtonState]:
        curvature.check_real(owner, params)
        curvature.check_aligned(updates, params)
        gradient, back = curvature.flat(updates)
        if not gradient.size:
            return updates, state
        hessian = curvature.dense_hessian(value_fn, params).astype(gradient.dtype)
        values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(hessian))
        divisor = (jnp.abs(values) if saddle_free else values) + scalar(damping, values.dtype)
        size = jnp.abs(divisor)
        is_flat = size <= jnp.finfo(size.dtype).eps * size.shape[0] * jnp.max(size)
        parts = jnp.where(is_flat, 0, vectors.T @ gradient / nonzero(divisor))
        return cast_like(back(vectors @ parts), updates), NewtonState(jnp.sum(values < 0, dtype=jnp.int32))

    return Transform(init, update, state_type=NewtonState)
