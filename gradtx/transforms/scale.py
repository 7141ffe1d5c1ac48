r"""Scale updates: by a number, by a schedule, by the learning rate.

Only `scale_by_learning_rate` flips the sign; every other part keeps the gradient's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core.arguments import Scalar
from .._core.checks import checked_leaves
from .._core.maths import safe_increment
from .._core.precision import step_dtype
from .._core.schedule import LearningRate, ScalarOrSchedule, value_at
from .._core.transformation import Transform, memoryless, transformation
from .._core.tree import map_leaves


def _scale(updates: jax.Array, factor: jax.Array) -> jax.Array:
    return factor * updates


def _zero(updates: jax.Array) -> jax.Array:
    return jnp.zeros_like(updates)


class ScaleByScheduleState(NamedTuple):
    """How many updates there were."""

    count: jax.Array


class ScaleByLearningRateState(NamedTuple):
    """How many updates there were; kept for a constant rate too, so that the structure is one."""

    count: jax.Array


@transformation
def scale(step_size: Scalar) -> Transform:
    r"""Multiply by a number: $u_t = s\,g_t$.

    State: `EmptyState()`. Keeps the gradient's sign for positive `step_size`.

    Args:
        step_size: s. Any finite number.
    """
    return memoryless(lambda updates, params: map_leaves(_scale, [updates], [step_size]))


@transformation
def scale_by_schedule(step_size_fn: ScalarOrSchedule) -> Transform:
    r"""Multiply by a function of the step: $u_t = s(t)\,g_t$, with $t = 0$ at the first update.

    State: `count`, int32. `gradtx.current` reads `step_size`.

    Args:
        step_size_fn: s, a schedule, a plain function of the count, or a number.
    """

    def init(params: Any) -> ScaleByScheduleState:
        return ScaleByScheduleState(jnp.zeros([], jnp.int32))

    def update(updates: Any, state: ScaleByScheduleState, params: Any = None) -> tuple[Any, ScaleByScheduleState]:
        factor = value_at("step_size_fn", step_size_fn, state.count, step_dtype(updates))
        return map_leaves(_scale, [updates], [factor]), ScaleByScheduleState(safe_increment(state.count))

    def current(state: ScaleByScheduleState) -> dict[str, jax.Array]:
        return {"step_size": value_at("step_size_fn", step_size_fn, state.count, jnp.result_type(float))}

    return Transform(init, update, state_type=ScaleByScheduleState, current=current)


@transformation
def scale_by_learning_rate(learning_rate: LearningRate, *, flip_sign: bool = True) -> Transform:
    r"""Step against the gradient: $u_t = -\eta_t\,g_t$, with $t = 0$ at the first update.

    State: `count`, int32, for a number as for a schedule. `gradtx.current` reads `learning_rate`.
    Units: parameter, if the incoming update has none.

    Args:
        learning_rate: eta >= 0, a number or a schedule.
        flip_sign: Whether to descend; without it the updates ascend.

    Raises:
        ValueError: `learning_rate` is negative or not finite.
        TypeError: From `init`: a parameter is not floating or complex.
    """

    def init(params: Any) -> ScaleByLearningRateState:
        checked_leaves(params, "params")
        return ScaleByLearningRateState(jnp.zeros([], jnp.int32))

    def update(
        updates: Any, state: ScaleByLearningRateState, params: Any = None
    ) -> tuple[Any, ScaleByLearningRateState]:
        rate = value_at("learning_rate", learning_rate, state.count, step_dtype(updates))
        factor = -rate if flip_sign else rate
        return map_leaves(_scale, [updates], [factor]), ScaleByLearningRateState(safe_increment(state.count))

    def current(state: ScaleByLearningRateState) -> dict[str, jax.Array]:
        return {"learning_rate": value_at("learning_rate", learning_rate, state.count, jnp.result_type(float))}

    return Transform(init, update, state_type=ScaleByLearningRateState, current=current)


@transformation
def set_to_zero() -> Transform:
    """Updates of zero: parameters stay. State: `EmptyState()`.

    A NaN in the gradient does not come through.
    """
    return memoryless(lambda updates, params: map_leaves(_zero, [updates]))
