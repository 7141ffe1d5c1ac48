r"""Nesterov's accelerated gradient as printed: the gradient is taken at the look-ahead point."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from .._core.contract import GradientTransformation
from .._core.fields import DType, SumDecay
from .._core.schedule import LearningRate, value_at
from .._maths import safe_increment
from .._trees.map import map_leaves, zeros_like
from .._trees.precision import step_dtype
from .._types import Count, Leaf, OptState, Params, ScalarArray, Updates


def _nag(updates: Leaf, trace: Leaf, momentum: ScalarArray, learning_rate: ScalarArray) -> tuple[Leaf, Leaf]:
    trace = momentum * trace + learning_rate * updates
    return -trace, trace


def _look_ahead(params: Leaf, trace: Leaf, momentum: ScalarArray) -> Leaf:
    return params - momentum * trace


class NagState(NamedTuple):
    """State of `nag`."""

    count: Count
    """Number of updates."""
    trace: Updates
    """Velocity, like the parameters, in their unit."""


class nag(GradientTransformation):
    r"""Nesterov's accelerated gradient, with the true iterate as parameters.

    $$v_t = \gamma v_{t-1} + \eta_t \nabla f(\theta_{t-1} - \gamma v_{t-1}), \qquad \theta_t = \theta_{t-1} - v_t$$

    The loss must be differentiated at `tx.gradient_params(params, state)`, the look-ahead point. A loop that
    differentiates at `params` runs the heavy ball instead, silently: where the loop is not yours, use
    `sgd(momentum=..., nesterov=True)`, which needs no such point.

        grads = jax.grad(loss)(tx.gradient_params(params, state), batch)
        updates, state = tx.update(grads, state, params)

    In a chain it comes last, since it owns the learning rate and the sign.

    State: `count`, int32, and `trace`, the velocity, like `params` (float32 for half precision): one copy.
    Units: updates and velocity are in the parameters'.

    Args:
        learning_rate: eta >= 0, a number or a schedule; inside the velocity.
        momentum: gamma, in [0, 1]; at 1 a velocity without friction. Per step.
        accumulator_dtype: The dtype of `trace`, in place of the parameters' (float32 for half precision).

    Raises:
        ValueError: if `learning_rate` is negative, or `momentum` is outside [0, 1].

    Source: Nesterov, 1983, as in Sutskever et al., 2013. optax has the reformulated form only (`sgd`).
    """

    learning_rate: LearningRate
    momentum: SumDecay = 0.9
    accumulator_dtype: DType = None

    def init(self, params: Params) -> NagState:
        return NagState(jnp.zeros([], jnp.int32), zeros_like(params, self.accumulator_dtype))

    def update(self, updates: Updates, state: NagState, params: Params | None = None) -> tuple[Updates, NagState]:
        rate = value_at("learning_rate", self.learning_rate, state.count, step_dtype(updates))
        trees = {"updates": updates, "trace": state.trace}
        updates, trace = map_leaves(_nag, trees, momentum=self.momentum, learning_rate=rate)
        return updates, NagState(safe_increment(state.count), trace)

    def gradient_params(self, params: Params, state: OptState) -> Params:
        return map_leaves(_look_ahead, {"params": params}, reads={"trace": state.trace}, momentum=self.momentum)
