r"""Memory of the gradient: the heavy ball's decaying sum and the exponential average."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._core.contract import GradientTransformation
from .._core.fields import Decay, DType, SumDecay
from .._maths import bias_weight, safe_increment
from .._trees.map import map_leaves, zeros_like
from .._trees.precision import step_dtype
from .._types import Count, Leaf, Params, ScalarArray, Updates


def _trace(updates: Leaf, trace: Leaf, decay: ScalarArray, *, nesterov: bool) -> tuple[Leaf, Leaf]:
    trace = updates + decay * trace
    return (updates + decay * trace if nesterov else trace), trace


def _ema(updates: Leaf, ema: Leaf, decay: ScalarArray, gain: ScalarArray, scale: ScalarArray) -> tuple[Leaf, Leaf]:
    ema = decay * ema + gain * updates
    return ema * scale, ema


@functools.partial(jax.jit, static_argnames=("debias", "dtype"), inline=True)
def _once_per_step(
    count: Count, decay: ArrayLike, *, debias: bool, dtype: DTypeLike
) -> tuple[Count, dict[str, ScalarArray]]:
    """The new count, and what is the same for every entry."""
    decay = jnp.asarray(decay).astype(dtype)
    count = safe_increment(count)
    scale = 1 / bias_weight(decay, count, dtype) if debias else jnp.ones([], dtype)
    return count, {"decay": decay, "gain": 1 - decay, "scale": scale}


class TraceState(NamedTuple):
    """State of `trace`."""

    trace: Updates
    """Decaying sum of updates, like the parameters."""


class EmaState(NamedTuple):
    """State of `ema`."""

    count: Count
    """Number of updates."""
    ema: Updates
    """Decaying mean of updates, like the parameters; not debiased."""


class trace(GradientTransformation):
    r"""A decaying sum of updates: momentum, the buffer of the heavy ball.

    $$b_t = \gamma b_{t-1} + g_t, \qquad u_t = b_t \quad\text{or, for Nesterov,}\quad u_t = g_t + \gamma b_t$$

    State: `trace`, like `params` (float32 for half-precision params): one copy.
    Units: as the gradient; $u_t$ grows to $1/(1-\gamma)$ of a constant gradient. Keeps the gradient's sign.
    With `nesterov` the parameters are the look-ahead points; `sgd(nesterov=True)` gives back the iterates.

    Args:
        decay: gamma, in [0, 1]; at 1 a sum without decay. Per step.
        nesterov: Whether to add the gradient to the decayed new buffer.
        accumulator_dtype: The dtype of `trace`, in place of the parameters' (float32 for half precision).

    Raises:
        ValueError: if `decay` is outside [0, 1].

    Source: Polyak, 1964; Sutskever et al., 2013, for the reformulated Nesterov step.
    Differs: the learning rate is outside the buffer, as in optax and PyTorch; Sutskever has it inside.
    """

    decay: SumDecay
    nesterov: bool = False
    accumulator_dtype: DType = None

    def init(self, params: Params) -> TraceState:
        return TraceState(zeros_like(params, self.accumulator_dtype))

    def update(self, updates: Updates, state: TraceState, params: Params | None = None) -> tuple[Updates, TraceState]:
        trees = {"updates": updates, "trace": state.trace}
        updates, buffer = map_leaves(_trace, trees, decay=self.decay, nesterov=self.nesterov)
        return updates, TraceState(buffer)


class ema(GradientTransformation):
    r"""A decaying average of updates.

    $$m_t = \rho m_{t-1} + (1-\rho) g_t, \qquad u_t = m_t / (1-\rho^t) \;\text{if debiased, else}\; m_t$$

    State: `count`, int32, and `ema`, like `params` (float32 for half-precision params): one copy.
    Units: as the gradient. Keeps the sign of $m_t$.

    Args:
        decay: rho, in [0, 1). Per step.
        debias: Whether to divide by the weight that the average has gathered.
        accumulator_dtype: The dtype of `ema`, in place of the parameters' (float32 for half precision).

    Raises:
        ValueError: if `decay` is outside [0, 1).
    """

    decay: Decay
    debias: bool = True
    accumulator_dtype: DType = None

    def init(self, params: Params) -> EmaState:
        return EmaState(jnp.zeros([], jnp.int32), zeros_like(params, self.accumulator_dtype))

    def update(self, updates: Updates, state: EmaState, params: Params | None = None) -> tuple[Updates, EmaState]:
        dtype = step_dtype(updates)
        count, factors = _once_per_step(state.count, self.decay, debias=self.debias, dtype=dtype)
        updates, mean = map_leaves(_ema, {"updates": updates, "ema": state.ema}, **factors)
        return updates, EmaState(count, mean)
