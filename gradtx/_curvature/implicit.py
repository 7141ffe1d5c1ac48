"""Derivatives of a minimum by what the objective depends on, without those of the way that led there."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .._core.precision import restore, step_dtype, widen
from .._core.types import Params, PyTree, ValueFn
from .._objective import value_and_gradient
from .conjugate_gradients import solve
from .hessian import MatrixVectorProduct, on_widened

CG_STEPS = 10
"""Products with the Hessian for each parameter, at most. As many as there are parameters would do without rounding."""
RESIDUAL = 10
"""The residual that is small enough, in roundings of the right side."""


def differentiable_minimum(objective: ValueFn, params: Params) -> Params:
    r"""Return the params, a minimum of the objective, with its derivatives by whatever the objective has closed over.

    By the implicit function theorem, from $\nabla_\theta f(\theta^*(a), a) = 0$,

    $$\frac{d\theta^*}{da} = -\big(\nabla^2_{\theta\theta} f\big)^{-1}\, \nabla^2_{\theta a} f,$$

    solved by conjugate gradients, in forward and in reverse mode. They are those of a minimum only: where params are
    none, they are of no use. Half precision is computed in float32; a complex parameter counts as two real ones.

    Source: as `jax.lax.custom_root`; Blondel et al., Efficient and Modular Implicit Differentiation, 2022,
    https://arxiv.org/abs/2105.15183.
    """
    wide = widen(params)
    start = _as_real(wide)
    count = sum(leaf.size for leaf in jax.tree.leaves(start))
    if not count:
        return params
    rtol = jnp.asarray(RESIDUAL * jnp.finfo(step_dtype(wide)).eps, step_dtype(wide))

    def gradient(real: PyTree) -> PyTree:
        return _as_real(value_and_gradient(on_widened(objective, params))(_as_like(real, wide))[1])

    def tangent_solve(product: MatrixVectorProduct, target: PyTree) -> PyTree:
        return solve(product, target, rtol, CG_STEPS * count)[0]

    root: Any = jax.lax.custom_root(gradient, start, lambda _, found: found, tangent_solve)
    return restore(_as_like(root, wide), params)


def _as_real(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: (jnp.real(x), jnp.imag(x)) if jnp.iscomplexobj(x) else jnp.asarray(x), tree)


def _as_like(real: PyTree, like: PyTree) -> PyTree:
    return jax.tree.map(lambda x, r: jax.lax.complex(*r) if jnp.iscomplexobj(x) else r, like, real)
