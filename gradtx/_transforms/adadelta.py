r"""Adadelta: steps in the unit of the parameters."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._core.contract import GradientTransformation
from .._core.fields import Decay, NonNegative
from .._maths import abs_sq, floor_eps, safe_sqrt
from .._trees.map import map_leaves, zeros_like
from .._trees.precision import step_dtype
from .._types import Leaf, Params, RealLeaf, ScalarArray, Updates


def _adadelta(
    updates: Leaf,
    e_g: RealLeaf,
    e_x: RealLeaf,
    rho: ScalarArray,
    gain: ScalarArray,
    eps: ScalarArray,
    divisor_eps: ScalarArray,
) -> tuple[Leaf, RealLeaf, RealLeaf]:
    e_g = rho * e_g + gain * abs_sq(updates)
    # One root of the ratio, which keeps the compiled step from storing two.
    updates = safe_sqrt((e_x + eps) / (e_g + divisor_eps)) * updates
    return updates, e_g, rho * e_x + gain * abs_sq(updates)


@functools.partial(jax.jit, static_argnames="dtype", inline=True)
def _once_per_step(rho: ArrayLike, eps: ArrayLike, dtype: DTypeLike) -> dict[str, ScalarArray]:
    """All that is the same for every entry."""
    rho, eps = jnp.asarray(rho).astype(dtype), jnp.asarray(eps).astype(dtype)
    # It stands inside a root, but inside a quotient too, whose derivative has its square: see `floor_eps`.
    return {"rho": rho, "gain": 1 - rho, "eps": eps, "divisor_eps": floor_eps(eps, outside=True)}


class ScaleByAdaDeltaState(NamedTuple):
    """State of `scale_by_adadelta`."""

    e_g: Updates
    """Decaying mean of squared gradients, like the parameters, real."""
    e_x: Updates
    """Decaying mean of squared updates, like the parameters, real."""


class scale_by_adadelta(GradientTransformation):
    r"""Multiply by the ratio of the running sizes of updates and of gradients.

    $$E_t = \rho E_{t-1} + (1-\rho)|g_t|^2, \quad u_t = \frac{\sqrt{X_{t-1}+\epsilon}}{\sqrt{E_t+\epsilon}}\,g_t,
    \quad X_t = \rho X_{t-1} + (1-\rho)|u_t|^2$$

    State: `e_g` and `e_x`, like `params` (float32 for half-precision, real for complex params): two copies.
    Units: the parameter's, by way of eps: the first step is about $\sqrt{\epsilon/(1-\rho)}$. Keeps the
    gradient's sign.
    Where a square overflows (from 2e19 on in float32), its mean is infinite and updates are 0 from then on.

    Args:
        rho: Decay of both means, in [0, 1). Per step.
        eps: Inside both roots. It starts the motion; with 0 nothing ever moves.

    Raises:
        ValueError: if `rho` is outside [0, 1), or `eps` is negative.

    Source: Zeiler, 2012.
    """

    rho: Decay = 0.9
    eps: NonNegative = 1e-6

    def init(self, params: Params) -> ScaleByAdaDeltaState:
        return ScaleByAdaDeltaState(zeros_like(params, real=True), zeros_like(params, real=True))

    def update(
        self, updates: Updates, state: ScaleByAdaDeltaState, params: Params | None = None
    ) -> tuple[Updates, ScaleByAdaDeltaState]:
        factors = _once_per_step(self.rho, self.eps, step_dtype(updates))
        trees = {"updates": updates, "e_g": state.e_g, "e_x": state.e_x}
        updates, e_g, e_x = map_leaves(_adadelta, trees, **factors)
        return updates, ScaleByAdaDeltaState(e_g, e_x)
