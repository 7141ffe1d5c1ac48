r"""The Gauss-Newton direction, for losses of a model's outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.typing import ArrayLike

from .._core.contract import GradientTransformation
from .._core.fields import AtLeastOne, NonNegative
from .._types import Params, Updates
from .hessian import check_aligned, gauss_newton_vector_product
from .newton_cg import NewtonCGState, init_state, step


class scale_by_gauss_newton_cg(GradientTransformation):
    r"""Solve $(J^T H_L J + \lambda_t I)\, d = g$: `scale_by_newton_cg` with the Gauss-Newton matrix for the Hessian.

    J is the Jacobian of the model's outputs by the parameters, $H_L$ the Hessian of the loss by the outputs. What is
    left out of the Hessian is the curvature of the model itself; so the matrix is positive semidefinite for every loss
    that is convex in the outputs (squares, cross-entropy), and the direction is downhill. Near a minimum that fits the
    data the two are alike.

    Truncation, damping, state, units and derivatives: those of `scale_by_newton_cg`.

    Extra arguments: `value` at params; `outputs_fn`, of params; `loss_fn`, of outputs. Both are pure; their
    composition is the objective. `minimize` gives them for a `CompositeLoss`.

    Args:
        max_cg_steps: Products with the matrix per update, at least 1. Each costs about two gradients.
        damping: lambda at first. Unit: the Hessian's.
        rtol: The residual that is always small enough, relative to the gradient.

    Raises:
        TypeError: from `init`, if a parameter is complex.
        ValueError: if `max_cg_steps` is less than 1.

    Source: Schraudolph, 2002; Martens, 2010. Not in optax.
    """

    max_cg_steps: AtLeastOne = 100
    damping: NonNegative = 0.0
    rtol: NonNegative = 0.5

    def init(self, params: Params) -> NewtonCGState:
        return init_state("scale_by_gauss_newton_cg", params, self.damping)

    def update(
        self,
        updates: Updates,
        state: NewtonCGState,
        params: Params,
        *,
        value: ArrayLike,
        outputs_fn: Callable[[Any], Any],
        loss_fn: Callable[[Any], jax.Array],
    ) -> tuple[Updates, NewtonCGState]:
        check_aligned(updates, params)
        product = gauss_newton_vector_product(outputs_fn, loss_fn, params)
        return step(product, updates, state, params, value, self.max_cg_steps, self.rtol)
