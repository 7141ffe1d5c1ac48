r"""What a decaying average that began at zero is short of."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._core.arguments import Decay
from .._core.maths import safe_increment
from .._core.precision import step_dtype
from .._core.transformation import Transform, transformation
from .._core.tree import map_leaves


@functools.partial(jax.jit, static_argnames="dtype", inline=True)
def correction(decay: ArrayLike, count: jax.Array, dtype: DTypeLike) -> jax.Array:
    """$1 - \\rho^t$, the weight that an average has gathered after `count` updates; a scalar of `dtype`."""
    return 1 - jnp.asarray(decay).astype(dtype) ** count.astype(dtype)


def _scale(updates: jax.Array, scale: jax.Array) -> jax.Array:
    return scale * updates


class BiasCorrectionState(NamedTuple):
    """How many updates there were."""

    count: jax.Array


@transformation
def bias_correction(decay: Decay) -> Transform:
    r"""Divide by the weight that a decaying average has gathered: $u_t = g_t / (1 - \rho^t)$.

    Behind `ema(decay, debias=False)` it gives `ema(decay)`.

    State: `count`, int32. Units: as the gradient. Keeps its sign.

    Args:
        decay: rho, in [0, 1). A step; the average's.

    Raises:
        ValueError: `decay` is outside [0, 1).

    Source: Kingma and Ba, Adam, 2015, section 3.
    """

    def init(params: Any) -> BiasCorrectionState:
        return BiasCorrectionState(jnp.zeros([], jnp.int32))

    def update(updates: Any, state: BiasCorrectionState, params: Any = None) -> tuple[Any, BiasCorrectionState]:
        count = safe_increment(state.count)
        scale = 1 / correction(decay, count, step_dtype(updates))
        return map_leaves(_scale, [updates], [scale]), BiasCorrectionState(count)

    return Transform(init, update, state_type=BiasCorrectionState)
