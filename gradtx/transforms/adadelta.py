r"""Adadelta: steps in the unit of the parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from .._core.arguments import Decay, NonNegative
from .._core.maths import abs_sq, positive, safe_sqrt
from .._core.transformation import Transform, transformation
from .._core.tree import map_leaves, zeros_like


def _adadelta(
    updates: jax.Array, e_g: jax.Array, e_x: jax.Array, rho: jax.Array, eps: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    e_g = rho * e_g + (1 - rho) * abs_sq(updates)
    updates = safe_sqrt(e_x + eps) / safe_sqrt(e_g + positive(eps)) * updates
    return updates, e_g, rho * e_x + (1 - rho) * abs_sq(updates)


class ScaleByAdaDeltaState(NamedTuple):
    """Decaying means of squared gradients and of squared updates, each like `params`."""

    e_g: Any
    e_x: Any


@transformation
def scale_by_adadelta(rho: Decay = 0.9, eps: NonNegative = 1e-6) -> Transform:
    r"""Multiply by the ratio of the running sizes of updates and of gradients.

    $$E_t = \rho E_{t-1} + (1-\rho)|g_t|^2, \quad u_t = \frac{\sqrt{X_{t-1}+\epsilon}}{\sqrt{E_t+\epsilon}}\,g_t,
    \quad X_t = \rho X_{t-1} + (1-\rho)|u_t|^2$$

    State: `e_g` and `e_x`, like `params` (float32 for half-precision, real for complex params): two copies.
    Units: the parameter's, by way of eps: the first step is about $\sqrt{\epsilon/(1-\rho)}$. Keeps the
    gradient's sign.

    Args:
        rho: In [0, 1). A step.
        eps: Inside both roots. It starts the motion; with 0 nothing ever moves.

    Raises:
        ValueError: `rho` is outside [0, 1), or `eps` is negative.

    Source: Zeiler, 2012.
    """

    def init(params: Any) -> ScaleByAdaDeltaState:
        return ScaleByAdaDeltaState(zeros_like(params, real=True), zeros_like(params, real=True))

    def update(updates: Any, state: ScaleByAdaDeltaState, params: Any = None) -> tuple[Any, ScaleByAdaDeltaState]:
        updates, e_g, e_x = map_leaves(_adadelta, [updates, state.e_g, state.e_x], [rho, eps])
        return updates, ScaleByAdaDeltaState(e_g, e_x)

    return Transform(init, update, state_type=ScaleByAdaDeltaState)
