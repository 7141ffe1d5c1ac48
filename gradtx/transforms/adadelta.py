r"""Adadelta: steps in the unit of the parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from .._core.arguments import Decay, NonNegative
from .._core.maths import abs_sq, positive, safe_sqrt
from .._core.precision import scalar, step_dtype
from .._core.transformation import Transform, transformation
from .._core.tree import map_leaves, zeros_like


def _adadelta(
    updates: jax.Array,
    e_g: jax.Array,
    e_x: jax.Array,
    rho: jax.Array,
    gain: jax.Array,
    eps: jax.Array,
    divisor_eps: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    e_g = rho * e_g + gain * abs_sq(updates)
    # One root of the ratio, which keeps the compiled step from storing two.
    updates = safe_sqrt((e_x + eps) / (e_g + divisor_eps)) * updates
    return updates, e_g, rho * e_x + gain * abs_sq(updates)


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
        dtype = step_dtype(updates)
        decay, epsilon = scalar(rho, dtype), scalar(eps, dtype)
        factors = [decay, 1 - decay, epsilon, positive(epsilon, outside=True)]
        updates, e_g, e_x = map_leaves(_adadelta, [updates, state.e_g, state.e_x], factors)
        return updates, ScaleByAdaDeltaState(e_g, e_x)

    return Transform(init, update, state_type=ScaleByAdaDeltaState)
