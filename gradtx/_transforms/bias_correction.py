r"""Correct a decaying average for its start at zero."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._core.contract import GradientTransformation
from .._core.fields import Decay
from .._maths import bias_weight, safe_increment
from .._trees.map import map_leaves, scaled
from .._trees.precision import step_dtype
from .._types import Count, Params, ScalarArray, Updates


@functools.partial(jax.jit, static_argnames="dtype", inline=True)
def _once_per_step(count: Count, decay: ArrayLike, dtype: DTypeLike) -> tuple[Count, ScalarArray]:
    """The new count, and the factor of every entry."""
    count = safe_increment(count)
    return count, 1 / bias_weight(decay, count, dtype)


class BiasCorrectionState(NamedTuple):
    """State of `bias_correction`."""

    count: Count
    """Number of updates."""


class bias_correction(GradientTransformation):
    r"""Divide by the weight that a decaying average has gathered: $u_t = g_t / (1 - \rho^t)$.

    Behind `ema(decay, debias=False)` it gives `ema(decay)`.

    State: `count`, int32. Units: as the gradient. Keeps its sign.

    Args:
        decay: rho, the average's, in [0, 1). Per step.

    Raises:
        ValueError: if `decay` is outside [0, 1).

    Source: Kingma and Ba, Adam, 2015, section 3.
    """

    decay: Decay

    def init(self, params: Params) -> BiasCorrectionState:
        return BiasCorrectionState(jnp.zeros([], jnp.int32))

    def update(
        self, updates: Updates, state: BiasCorrectionState, params: Params | None = None
    ) -> tuple[Updates, BiasCorrectionState]:
        count, factor = _once_per_step(state.count, self.decay, step_dtype(updates))
        return map_leaves(scaled, {"updates": updates}, factor=factor), BiasCorrectionState(count)
