r"""Memory of the gradient: the heavy ball's sum and the exponential average."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core.arguments import Decay, DType
from .._core.maths import safe_increment
from .._core.precision import scalar, step_dtype
from .._core.transformation import Transform, transformation
from .._core.tree import map_leaves, zeros_like
from .bias_correction import correction


def _momentum(updates: jax.Array, trace: jax.Array, decay: jax.Array, *, nesterov: bool) -> tuple[jax.Array, jax.Array]:
    trace = updates + decay * trace
    return (updates + decay * trace if nesterov else trace), trace


def _ema(
    updates: jax.Array, ema: jax.Array, decay: jax.Array, gain: jax.Array, scale: jax.Array
) -> tuple[jax.Array, jax.Array]:
    ema = decay * ema + gain * updates
    return ema * scale, ema


class TraceState(NamedTuple):
    """The decaying sum of updates, like `params`."""

    trace: Any


class EmaState(NamedTuple):
    """The number of updates, and their decaying average, like `params`."""

    count: jax.Array
    ema: Any


@transformation
def momentum(decay: Decay, nesterov: bool = False, accumulator_dtype: DType = None) -> Transform:
    r"""A decaying sum of updates: the heavy ball's buffer.

    $$b_t = \gamma b_{t-1} + g_t, \qquad u_t = b_t \quad\text{or, for Nesterov,}\quad u_t = g_t + \gamma b_t$$

    State: `trace`, like `params` (float32 for half-precision params): one copy.
    Units: as the gradient; $u_t$ grows to $1/(1-\gamma)$ of a constant gradient. Keeps the gradient's sign.
    With `nesterov` the parameters are the look-ahead points; `sgd(nesterov=True)` gives back the iterates.

    Args:
        decay: gamma, in [0, 1). A step.
        nesterov: Whether to add the gradient to the decayed new buffer.
        accumulator_dtype: The dtype of `trace`, in place of the parameters' (float32 for half precision).

    Raises:
        ValueError: `decay` is outside [0, 1).

    Source: Polyak 1964; Sutskever et al. 2013 for the reformulated Nesterov step.
    Differs: the learning rate is outside the buffer, as in optax and PyTorch; Sutskever has it inside.
    """

    def init(params: Any) -> TraceState:
        return TraceState(zeros_like(params, accumulator_dtype))

    def update(updates: Any, state: TraceState, params: Any = None) -> tuple[Any, TraceState]:
        updates, trace = map_leaves(_momentum, [updates, state.trace], [decay], nesterov=nesterov)
        return updates, TraceState(trace)

    return Transform(init, update, state_type=TraceState)


trace = momentum  # optax's name


@transformation
def ema(decay: Decay, debias: bool = True, accumulator_dtype: DType = None) -> Transform:
    r"""A decaying average of updates.

    $$m_t = \rho m_{t-1} + (1-\rho) g_t, \qquad u_t = m_t / (1-\rho^t) \;\text{if debiased, else}\; m_t$$

    State: `count`, int32, and `ema`, like `params` (float32 for half-precision params): one copy.
    Units: as the gradient. Keeps its sign.

    Args:
        decay: rho, in [0, 1). A step.
        debias: Whether to divide by the weight that the average has gathered.
        accumulator_dtype: The dtype of `ema`, in place of the parameters' (float32 for half precision).

    Raises:
        ValueError: `decay` is outside [0, 1).
    """

    def init(params: Any) -> EmaState:
        return EmaState(jnp.zeros([], jnp.int32), zeros_like(params, accumulator_dtype))

    def update(updates: Any, state: EmaState, params: Any = None) -> tuple[Any, EmaState]:
        count = safe_increment(state.count)
        dtype = step_dtype(updates)
        rho = scalar(decay, dtype)
        scale = 1 / correction(rho, count, dtype) if debias else 1.0
        updates, average = map_leaves(_ema, [updates, state.ema], [rho, 1 - rho, scale])
        return updates, EmaState(count, average)

    return Transform(init, update, state_type=EmaState)
