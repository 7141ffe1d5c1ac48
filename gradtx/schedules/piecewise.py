"""Schedules made of pieces: constants that jump, and other schedules one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

import jax
import jax.numpy as jnp

from .._core.arguments import Convert, NonNegative, Number, Scalar
from .._core.schedule import ScalarOrSchedule, Schedule, Step, schedule


def _pairs(boundaries: Any) -> Any:
    """A dict {step: factor} as pairs in order of the steps, so that steps are leaves and not keys."""
    if boundaries is None:
        return ()
    pairs = tuple(sorted(boundaries.items()) if isinstance(boundaries, Mapping) else map(tuple, boundaries))
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"piecewise_constant_schedule: expected pairs of a step and a factor, got {boundaries!r}")
    return pairs


@schedule
def piecewise_constant_schedule(
    init_value: Scalar,
    boundaries_and_scales: Annotated[
        Mapping[int, NonNegative] | Sequence[tuple[NonNegative, NonNegative]] | None, "data", Convert(_pairs)
    ] = None,
) -> Step:
    r"""A value that is multiplied by a factor from each boundary on: $s(t) = v \prod_{b_i \le t} f_i$.

    Args:
        init_value: v.
        boundaries_and_scales: {b: f}, steps and factors >= 0. Kept as pairs, so that both are data.

    Raises:
        ValueError: A boundary or a factor is negative.
    """

    def value(step: jax.Array) -> Number:
        current = jnp.asarray(init_value)
        for boundary, factor in cast(Sequence[tuple[Number, Number]], boundaries_and_scales or ()):
            current = current * jnp.where(step >= boundary, factor, 1)
        return current

    return value


@schedule
def join_schedules(
    schedules: Annotated[Sequence[ScalarOrSchedule], "data"],
    boundaries: Annotated[Sequence[NonNegative], "data"],
) -> Step:
    """One schedule after another; each counts its steps from the boundary at which it begins.

    Args:
        schedules: Schedules, plain functions or numbers.
        boundaries: The steps at which the second, third, ... begin; one fewer than the schedules.

    Raises:
        ValueError: The number of boundaries does not fit.
    """
    if len(boundaries) != len(schedules) - 1:
        raise ValueError(
            f"join_schedules: {len(schedules)} schedules need {len(schedules) - 1} boundaries, got {len(boundaries)}"
        )

    def value(step: jax.Array) -> Number:
        current = _at(schedules[0], step)
        for boundary, following in zip(boundaries, schedules[1:], strict=True):
            current = jnp.where(step < boundary, current, _at(following, step - boundary))
        return current

    return value


def _at(piece: Any, step: jax.Array) -> jax.Array:
    return jnp.asarray(piece(step) if isinstance(piece, Schedule) else piece).astype(step.dtype)
