r"""Gradient descent: plain, with the heavy ball's momentum, and with Nesterov's as reformulated."""

from __future__ import annotations

from typing import cast

import jax.numpy as jnp

from .._core.chain import chain
from .._core.contract import Recipe
from .._core.fields import DType, SumDecay
from .._core.schedule import LearningRate, value_at
from .._transforms.identity import identity
from .._transforms.scale import scale_by_learning_rate
from .._transforms.trace import trace
from .._trees.map import map_leaves
from .._trees.precision import step_dtype
from .._types import Leaf, OptState, Params, ScalarArray


def _step_back(params: Leaf, trace: Leaf, learning_rate: ScalarArray, decay: ScalarArray) -> Leaf:
    return params + learning_rate * decay * trace


class _nesterov(chain):
    """The two parts of Nesterov's reformulated method; what to evaluate is the iterate, not the look-ahead point."""

    def __init__(self, momentum: trace, descent: scale_by_learning_rate) -> None:
        super().__init__(momentum, descent)

    def eval_params(self, params: Params, state: OptState) -> Params:
        momentum, descent = cast(tuple[trace, scale_by_learning_rate], self.transforms)
        buffer, scaling = state
        # The rate of the step that was taken last, which the buffer's look-ahead belongs to.
        last = jnp.maximum(scaling.count, 1) - 1
        rate = value_at("learning_rate", descent.learning_rate, last, step_dtype(params))
        return map_leaves(
            _step_back, {"params": params}, reads={"trace": buffer.trace}, learning_rate=rate, decay=momentum.decay
        )


class sgd(Recipe):
    r"""(Stochastic) gradient descent: `trace` if there is `momentum`, then `scale_by_learning_rate`.

    $$b_t = \gamma b_{t-1} + g_t, \qquad \theta_t = \theta_{t-1} - \eta\,b_t
    \quad\text{or, for Nesterov,}\quad \theta_{t-1} - \eta\,(g_t + \gamma b_t)$$

    With `nesterov` the parameters are the look-ahead points of Nesterov's method; `eval_params` gives its iterate
    $\theta + \eta\gamma b$: at a constant learning rate exactly that of `nag`, under a schedule not.

    State: (`TraceState` or `EmptyState`, `ScaleByLearningRateState`): one copy of `params`, or none.

    Args:
        learning_rate: eta >= 0, a number or a schedule.
        momentum: gamma, in [0, 1]; see `gradtx.trace`. `None`: no buffer.
        nesterov: Whether to use the reformulated Nesterov step; without `momentum` it changes nothing.

    Raises:
        ValueError: if `learning_rate` is negative, or `momentum` is outside [0, 1].

    Source: Polyak, 1964; Nesterov, 1983, in the form of Sutskever et al., 2013, and Bengio et al., 2013.
    """

    learning_rate: LearningRate
    momentum: SumDecay | None = None
    nesterov: bool = False
    accumulator_dtype: DType = None

    def parts(self) -> chain:
        descent = scale_by_learning_rate(self.learning_rate)
        if self.momentum is None:
            return chain(identity(), descent)
        buffer = trace(self.momentum, self.nesterov, self.accumulator_dtype)
        return _nesterov(buffer, descent) if self.nesterov else chain(buffer, descent)
