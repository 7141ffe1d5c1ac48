"""Derivatives of a minimum by what the objective depends on, without those of the way that led there."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .._objective import value_and_gradient
from .._trees.precision import cast_like, step_dtype, widen
from .._types import Params, PyTree
from .conjugate_gradients import solve
from .hessian import on_widened

CG_STEPS = 10
"""Products with the Hessian for each parameter, at most. As many as there are parameters would do without rounding."""
RESIDUAL = 10
"""The residual that is small enough, in roundings of the right side."""


def minimum_tangent(objective: Callable[..., jax.Array], params: Params, given: PyTree, tangent: PyTree) -> Params:
    r"""How a minimum moves when what is `given` to the objective moves along its `tangent`.

    By the implicit function theorem, from $\nabla_\theta f(\theta^*(a), a) = 0$,

    $$d\theta^* = -\big(\nabla^2_{\theta\theta} f\big)^{-1}\, \nabla^2_{\theta a} f\; da,$$

    solved by conjugate gradients; linear in the tangent, so that it has a transpose. It holds at a minimum only. Half
    precision is computed in float32; a complex parameter counts as two real ones.

    Args:
        objective: A function of params and what is given.
        params: Where it has a minimum.
        given: What else it depends on.
        tangent: The direction in which that moves, as of `jax.jvp`.

    Source: Blondel et al., Efficient and Modular Implicit Differentiation, 2022, https://arxiv.org/abs/2105.15183.
    """
    wide = widen(params)
    here = _as_real(wide)
    count, dtype = sum(leaf.size for leaf in jax.tree.leaves(here)), step_dtype(wide)

    def gradient(real: PyTree, given: PyTree) -> PyTree:
        at = _as_like(real, wide)
        return _as_real(value_and_gradient(on_widened(lambda p: objective(p, given), params))(at)[1])

    def hessian_product(vector: PyTree) -> PyTree:
        return jax.jvp(lambda real: gradient(real, given), (here,), (vector,))[1]

    _, turned = jax.jvp(lambda given: gradient(here, given), (given,), (tangent,))
    rtol = jnp.asarray(RESIDUAL * jnp.finfo(dtype).eps, dtype)
    back, _ = solve(hessian_product, jax.tree.map(jnp.negative, turned), rtol, max(CG_STEPS * count, 1))
    return cast_like(_as_like(back, wide), params)


def _as_real(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: (jnp.real(x), jnp.imag(x)) if jnp.iscomplexobj(x) else jnp.asarray(x), tree)


def _as_like(real: PyTree, like: PyTree) -> PyTree:
    return jax.tree.map(lambda x, r: jax.lax.complex(*r) if jnp.iscomplexobj(x) else r, like, real)
