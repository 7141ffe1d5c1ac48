r"""Transform at some steps only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from .._core.contract import GradientTransformation, refuse_step_owner
from .._maths import safe_increment
from .._types import Count, OptState, Params, Updates
from ._choose import Condition, as_condition, check_function, update_if


class ConditionallyTransformState(NamedTuple):
    """State of `conditionally_transform`."""

    inner_state: OptState
    """The inner state, as of the last step at which the condition held."""
    step: Count
    """Number of updates."""


class ConditionallyMaskState(NamedTuple):
    """State of `conditionally_mask`."""

    step: Count
    """Number of updates."""
    inner_state: OptState
    """The inner state, as of the last step at which the condition held."""


class conditionally_transform(GradientTransformation):
    """Transform the updates where a condition on the step holds, and hand them on as they are where it does not.

    What is inside is not computed there, its state stays, and its counts count the steps at which the condition held.

    State: the inner state, and `step`, int32.

    Args:
        inner: What to transform with.
        should_transform_fn: A function `(step, **extra) -> bool` of the number of updates before this one.
        forward_extra_args: Whether it gets the extra arguments of `update`, too.

    Raises:
        ValueError: if `inner` keeps track of the parameters, which move though it makes no step.
        TypeError: if `should_transform_fn` is no function; from `update`, if it does not return one bool.
    """

    inner: GradientTransformation
    should_transform_fn: Callable[..., Any]
    forward_extra_args: bool = False

    def __check_init__(self) -> None:
        check_function("conditionally_transform: `should_transform_fn`", self.should_transform_fn)
        refuse_step_owner("conditionally_transform", self.inner)

    def init(self, params: Params) -> ConditionallyTransformState:
        return ConditionallyTransformState(self.inner.init(params), jnp.zeros([], jnp.int32))

    def update(
        self, updates: Updates, state: ConditionallyTransformState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, ConditionallyTransformState]:
        holds = _asked("conditionally_transform", self.should_transform_fn, self.forward_extra_args, state.step, extra)
        updates, inner_state = update_if(
            holds, self.inner, updates, state.inner_state, params, extra=extra, otherwise="same"
        )
        return updates, ConditionallyTransformState(inner_state, safe_increment(state.step))


class conditionally_mask(GradientTransformation):
    """Transform the updates where a condition on the step holds; where it does not, they are 0.

    What is inside is not computed there, its state stays, and its counts count the steps at which the condition held.

    State: `step`, int32, and the inner state.

    Args:
        inner: What to transform with.
        should_transform_fn: A function `(step, **extra) -> bool` of the number of updates before this one.
        forward_extra_args: Whether it gets the extra arguments of `update`, too.

    Raises:
        TypeError: if `should_transform_fn` is no function; from `update`, if it does not return one bool.
    """

    inner: GradientTransformation
    should_transform_fn: Callable[..., Any]
    forward_extra_args: bool = False

    def __check_init__(self) -> None:
        check_function("conditionally_mask: `should_transform_fn`", self.should_transform_fn)

    def init(self, params: Params) -> ConditionallyMaskState:
        return ConditionallyMaskState(jnp.zeros([], jnp.int32), self.inner.init(params))

    def update(
        self, updates: Updates, state: ConditionallyMaskState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, ConditionallyMaskState]:
        holds = _asked("conditionally_mask", self.should_transform_fn, self.forward_extra_args, state.step, extra)
        updates, inner_state = update_if(
            holds, self.inner, updates, state.inner_state, params, extra=extra, otherwise="zeros"
        )
        return updates, ConditionallyMaskState(safe_increment(state.step), inner_state)


def _asked(owner: str, function: Callable[..., Any], forward: bool, step: Count, extra: dict[str, Any]) -> Condition:
    return as_condition(f"{owner}: `should_transform_fn`", function(step, **(extra if forward else {})))
