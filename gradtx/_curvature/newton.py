r"""Newton's direction by the whole Hessian: for a few thousand parameters at most."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._core.contract import GradientTransformation
from .._core.fields import NonNegative
from .._manual_axes import vary_with
from .._maths import safe_divisor
from .._trees.checks import check_real
from .._trees.precision import cast_like, scalar
from .._types import Count, Params, Updates, ValueFn
from .hessian import WHY_REAL, check_aligned, dense_hessian, flatten_to_vector


class NewtonState(NamedTuple):
    """State of `scale_by_newton`, which remembers nothing that it needs."""

    negative: Count
    """How many eigenvalues of the last Hessian were below 0."""


class scale_by_newton(GradientTransformation):
    r"""Multiply the gradient by the inverse Hessian, $(H + \lambda I)^{-1} g$; or by that of its absolute value.

    $$H = V \,\mathrm{diag}(w)\, V^T, \qquad d = V \,\mathrm{diag}\!\Big(\frac{1}{w + \lambda}\Big) V^T g
    \quad\text{or, saddle-free,}\quad V \,\mathrm{diag}\!\Big(\frac{1}{|w| + \lambda}\Big) V^T g$$

    Directions that are flat within rounding ($|w + \lambda|$ below $n \epsilon$ of the largest) are left out.

    Newton's method goes to the nearest stationary point, be it a minimum, a saddle or a maximum; it converges
    quadratically. Saddle-free, it goes away from saddles, always downhill. One update costs n Hessian-vector products
    and the eigenvalues of an n x n matrix, n the number of parameters: $O(n^3)$ time and $O(n^2)$ memory.

    State: `negative`, the number of negative eigenvalues of the last Hessian, int32. Needs `params`.
    Units: parameter squared over objective, times the gradient's. Not negated; saddle-free, updates and gradient have
    a positive inner product. Derivatives take the Hessian's eigenvectors and eigenvalues for constants.

    Extra arguments: `value_fn`, a pure function of params, twice differentiable (forward over reverse).

    Args:
        damping: lambda, added to each eigenvalue (after its absolute value is taken). Unit: the Hessian's.
        saddle_free: Whether eigenvalues are taken as absolute values.

    Raises:
        TypeError: from `init`, if a parameter is complex.

    Source: Dauphin et al., 2014, for the absolute eigenvalues. Not in optax.
    """

    damping: NonNegative = 0.0
    saddle_free: bool = False

    def init(self, params: Params) -> NewtonState:
        check_real("scale_by_newton", "params", params, WHY_REAL)
        return vary_with(NewtonState(jnp.zeros([], jnp.int32)), params)

    def update(
        self, updates: Updates, state: NewtonState, params: Params, *, value_fn: ValueFn
    ) -> tuple[Updates, NewtonState]:
        check_real("scale_by_newton", "params", params, WHY_REAL)
        check_aligned(updates, params)
        gradient, back = flatten_to_vector(updates)
        if not gradient.size:
            return updates, state
        hessian = dense_hessian(value_fn, params).astype(gradient.dtype)
        eigenvalues, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(hessian))
        damping = scalar(self.damping, eigenvalues.dtype)
        divisor = (jnp.abs(eigenvalues) if self.saddle_free else eigenvalues) + damping
        # The bound of `numpy.linalg.matrix_rank`: eigenvalues below it are rounding of the largest.
        size = jnp.abs(divisor)
        is_flat = size <= jnp.finfo(size.dtype).eps * size.shape[0] * jnp.max(size)
        parts = jnp.where(is_flat, 0, vectors.T @ gradient / safe_divisor(divisor))
        return cast_like(back(vectors @ parts), updates), NewtonState(jnp.sum(eigenvalues < 0, dtype=jnp.int32))
