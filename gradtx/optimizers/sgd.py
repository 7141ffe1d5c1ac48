r"""Gradient descent: plain, with the heavy ball's momentum, and with Nesterov's as reformulated."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from .._core.arguments import Decay, DType
from .._core.chain import chain
from .._core.precision import step_dtype
from .._core.schedule import LearningRate, value_at
from .._core.transformation import Transform, identity, transformation
from .._core.tree import map_leaves
from ..transforms.momentum import momentum as momentum_
from ..transforms.scale import scale_by_learning_rate


def _step_back(params: jax.Array, trace: jax.Array, learning_rate: jax.Array, decay: jax.Array) -> jax.Array:
    return params + learning_rate * decay * trace


@transformation
def sgd(
    learning_rate: LearningRate,
    momentum: Decay | None = None,
    nesterov: bool = False,
    accumulator_dtype: DType = None,
) -> Transform:
    r"""(Stochastic) gradient descent.

    $$b_t = \gamma b_{t-1} + g_t, \qquad \theta_t = \theta_{t-1} - \eta\,b_t
    \quad\text{or, for Nesterov,}\quad \theta_{t-1} - \eta\,(g_t + \gamma b_t)$$

    With `nesterov` the parameters are the look-ahead points of Nesterov's method; `eval_params` gives its iterate
    $\theta + \eta\gamma b$: at a constant learning rate exactly that of `nag`, under a schedule not.

    State: (`TraceState` or `EmptyState`, `ScaleByLearningRateState`): one copy of `params`, or none.

    Args:
        learning_rate: eta >= 0, a number or a schedule.
        momentum: gamma, in [0, 1). `None`: no buffer.
        nesterov: Whether to use the reformulated Nesterov step; without `momentum` it changes nothing.
        accumulator_dtype: See `gradtx.momentum`.

    Raises:
        ValueError: `learning_rate` is negative, or `momentum` is outside [0, 1).

    Source: Polyak, 1964; Nesterov, 1983, in the form of Sutskever et al., 2013, and Bengio et al., 2013.
    """
    if momentum is None:
        return chain(identity(), scale_by_learning_rate(learning_rate)).transform()
    pair = chain(momentum_(momentum, nesterov, accumulator_dtype), scale_by_learning_rate(learning_rate)).transform()
    if not nesterov:
        return pair

    def eval_params(params: Any, state: Any) -> Any:
        buffer, scaling = state
        # The rate of the step that was taken last, which the buffer's look-ahead belongs to.
        last = (scaling.count - 1).clip(0)
        rate = value_at("learning_rate", learning_rate, last, step_dtype(params))
        return map_leaves(_step_back, [params], [rate, momentum], reads=[buffer.trace])

    return dataclasses.replace(pair, eval_params=eval_params)
