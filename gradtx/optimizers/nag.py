r"""Nesterov's accelerated gradient as printed: the gradient is taken at the look-ahead point."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core.arguments import Decay, DType
from .._core.maths import safe_increment
from .._core.precision import step_dtype
from .._core.schedule import LearningRate, value_at
from .._core.transformation import Transform, transformation
from .._core.tree import map_leaves, zeros_like


def _nag(
    updates: jax.Array, trace: jax.Array, momentum: jax.Array, learning_rate: jax.Array
) -> tuple[jax.Array, jax.Array]:
    trace = momentum * trace + learning_rate * updates
    return -trace, trace


def _look_ahead(params: jax.Array, trace: jax.Array, momentum: jax.Array) -> jax.Array:
    return params - momentum * trace


class NagState(NamedTuple):
    """The number of updates, and the velocity, like `params`, in their unit."""

    count: jax.Array
    trace: Any


@transformation
def nag(learning_rate: LearningRate, momentum: Decay = 0.9, accumulator_dtype: DType = None) -> Transform:
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
        momentum: gamma, in [0, 1). A step.
        accumulator_dtype: The dtype of `trace`, in place of the parameters' (float32 for half precision).

    Raises:
        ValueError: `learning_rate` is negative, or `momentum` is outside [0, 1).

    Source: Nesterov, 1983, as in Sutskever et al., 2013. optax has the reformulated form only (`sgd`).
    """

    def init(params: Any) -> NagState:
        return NagState(jnp.zeros([], jnp.int32), zeros_like(params, accumulator_dtype))

    def update(updates: Any, state: NagState, params: Any = None) -> tuple[Any, NagState]:
        rate = value_at("learning_rate", learning_rate, state.count, step_dtype(updates))
        updates, trace = map_leaves(_nag, [updates, state.trace], [momentum, rate])
        return updates, NagState(safe_increment(state.count), trace)

    def gradient_params(params: Any, state: NagState) -> Any:
        return map_leaves(_look_ahead, [params], [momentum], reads=[state.trace])

    def current(state: NagState) -> dict[str, jax.Array]:
        return {"learning_rate": value_at("learning_rate", learning_rate, state.count, jnp.result_type(float))}

    return Transform(init, update, gradient_params, state_type=NagState, current=current)
