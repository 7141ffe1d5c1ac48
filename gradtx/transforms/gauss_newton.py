r"""The Gauss-Newton direction, for losses of a model's outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.typing import ArrayLike

from .._core.arguments import NonNegative
from .._core.transformation import Transform, transformation
from . import curvature
from .newton_cg import NewtonCGState, begin, check_steps, step


@transformation(check=lambda max_cg_steps, **_: check_steps("scale_by_gauss_newton_cg", max_cg_steps))
def scale_by_gauss_newton_cg(max_cg_steps: int = 100, damping: NonNegative = 0.0, rtol: NonNegative = 0.5) -> Transform:
    r"""As `scale_by_newton_cg`, with the Gauss-Newton matrix for the Hessian: $(J^T H_L J + \lambda I)\, d = g$.

    J is the Jacobian of the model's outputs by the parameters, $H_L$ the Hessian of the loss by the outputs. What is
    left out of the Hessian is the curvature of the model itself; so the matrix is positive semidefinite for every loss
    that is convex in the outputs (squares, cross-entropy), and the direction is downhill. Near a minimum that fits the
    data the two are alike.

    Truncation, damping, state, units and derivatives: those of `scale_by_newton_cg`.

    Extra arguments: `value` at params; `outputs_fn`, of params; `loss_fn`, of outputs. Both are pure; their
    composition is the objective. `minimize` gives them for a `LossOfOutputs`.

    Args:
        max_cg_steps: Products with the matrix an update, at least 1. Each costs about two gradients.
        damping: lambda at first. Unit: the Hessian's.
        rtol: The residual that is always small enough, relative to the gradient.

    Raises:
        TypeError: Parameters are complex.
        ValueError: `max_cg_steps` is less than 1.

    Source: Schraudolph, 2002; Martens, 2010. Not in optax.
    """

    def update(
        updates: Any,
        state: NewtonCGState,
        params: Any,
        *,
        value: ArrayLike,
        outputs_fn: Callable[[Any], Any],
        loss_fn: Callable[[Any], jax.Array],
    ) -> tuple[Any, NewtonCGState]:
        curvature.check_aligned(updates, params)
        product = curvature.gauss_newton_product(outputs_fn, loss_fn, params)
        return step(product, updates, state, params, value, max_cg_steps, rtol)

    def init(params: Any) -> NewtonCGState:
        return begin("scale_by_gauss_newton_cg", params, damping)

    return Transform(init, update, state_type=NewtonCGState)
