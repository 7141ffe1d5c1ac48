r"""Scale updates: by a number, by a schedule, by the learning rate.

Only `scale_by_learning_rate` flips the sign; every other part keeps the gradient's.
"""

from __future__ import annotations

import functools
from dataclasses import KW_ONLY
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._core.contract import EmptyState, GradientTransformation, Stateless
from .._core.fields import Scalar
from .._core.schedule import LearningRate, ScalarOrSchedule, Schedule, value_at
from .._maths import safe_increment
from .._trees.checks import check_rank, checked_leaves
from .._trees.map import map_leaves, scaled
from .._trees.precision import step_dtype
from .._types import Count, Leaf, Params, ScalarArray, Updates


def _zero(updates: Leaf) -> Leaf:
    return jnp.zeros_like(updates)


def _once_per_step(
    name: str, factor: ScalarOrSchedule, count: Count, dtype: DTypeLike, *, sign: int = 1
) -> tuple[Count, ScalarArray]:
    """The new count, and the signed factor of every entry."""
    if isinstance(factor, Schedule):
        factor = value_at(name, factor, count, dtype)
    check_rank(name, factor)
    return _advance(count, factor, sign=sign, dtype=dtype)


@functools.partial(jax.jit, static_argnames=("dtype", "sign"), inline=True)
def _advance(count: Count, factor: ArrayLike, *, sign: int, dtype: DTypeLike) -> tuple[Count, ScalarArray]:
    return safe_increment(count), sign * jnp.asarray(factor).astype(dtype)


class ScaleByScheduleState(NamedTuple):
    """State of `scale_by_schedule`."""

    count: Count
    """Number of updates."""


class ScaleByLearningRateState(NamedTuple):
    """State of `scale_by_learning_rate`, for a constant rate too, so that there is one structure."""

    count: Count
    """Number of updates."""


class scale(Stateless):
    r"""Multiply by a number: $u_t = s\,g_t$.

    State: `EmptyState()`. Keeps the gradient's sign for positive `step_size`.

    Args:
        step_size: s. Any finite number.
    """

    step_size: Scalar

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        return map_leaves(scaled, {"updates": updates}, factor=self.step_size), state


class scale_by_schedule(GradientTransformation):
    r"""Multiply by a function of the step: $u_t = s(t)\,g_t$, with $t = 0$ at the first update.

    State: `count`, int32.

    Args:
        step_size_fn: s, a schedule, a plain function of the count, or a number.
    """

    step_size_fn: ScalarOrSchedule

    def init(self, params: Params) -> ScaleByScheduleState:
        return ScaleByScheduleState(jnp.zeros([], jnp.int32))

    def update(
        self, updates: Updates, state: ScaleByScheduleState, params: Params | None = None
    ) -> tuple[Updates, ScaleByScheduleState]:
        count, factor = _once_per_step("step_size_fn", self.step_size_fn, state.count, step_dtype(updates))
        return map_leaves(scaled, {"updates": updates}, factor=factor), ScaleByScheduleState(count)


class scale_by_learning_rate(GradientTransformation):
    r"""Step against the gradient: $u_t = -\eta_t\,g_t$, with $t = 0$ at the first update.

    State: `count`, int32, for a number as for a schedule.
    Units: parameter, if the incoming update has none.

    Args:
        learning_rate: eta >= 0, a number or a schedule.
        flip_sign: Whether to descend; without it the updates ascend.

    Raises:
        ValueError: if `learning_rate` is negative or not finite.
        TypeError: from `init`, if a parameter is not floating or complex.
    """

    learning_rate: LearningRate
    _: KW_ONLY
    flip_sign: bool = True

    def init(self, params: Params) -> ScaleByLearningRateState:
        checked_leaves(params, "params")
        return ScaleByLearningRateState(jnp.zeros([], jnp.int32))

    def update(
        self, updates: Updates, state: ScaleByLearningRateState, params: Params | None = None
    ) -> tuple[Updates, ScaleByLearningRateState]:
        dtype, sign = step_dtype(updates), -1 if self.flip_sign else 1
        count, factor = _once_per_step("learning_rate", self.learning_rate, state.count, dtype, sign=sign)
        return map_leaves(scaled, {"updates": updates}, factor=factor), ScaleByLearningRateState(count)


class set_to_zero(Stateless):
    """Updates of zero: parameters stay. State: `EmptyState()`.

    A NaN in the gradient does not come through.
    """

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        return map_leaves(_zero, {"updates": updates}), state
