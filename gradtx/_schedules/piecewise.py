"""Schedules made of pieces: constants that jump, and other schedules one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias, cast

import jax
import jax.numpy as jnp

from .._core.fields import Convert, NonNegative, Scalar
from .._core.schedule import ScalarOrSchedule, Schedule, Step
from .._types import Number

_Pairs: TypeAlias = Sequence[tuple[Number, Number]]


def _tuple(values: Any) -> tuple[Any, ...]:
    try:
        return tuple(values)
    except TypeError:
        raise TypeError(f"expected a list or tuple, got {values!r}") from None


def _pairs(boundaries: object) -> tuple[tuple[Any, Any], ...]:
    """A dict {step: factor} as pairs in order of the steps, so that steps are leaves and not keys."""
    pairs = tuple(sorted(boundaries.items()) if isinstance(boundaries, Mapping) else map(_tuple, _tuple(boundaries)))
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"piecewise_constant_schedule: expected pairs of a step and a factor, got {boundaries!r}")
    return pairs


class piecewise_constant_schedule(Schedule):
    r"""A value that is multiplied by a factor from each boundary on: $s(t) = v \prod_{b_i \le t} f_i$.

    Args:
        init_value: v.
        boundaries_and_scales: {b: f}, steps and factors >= 0. Kept as pairs, so that both are data.

    Raises:
        ValueError: if a boundary or a factor is negative.
    """

    init_value: Scalar
    boundaries_and_scales: Annotated[
        Sequence[tuple[NonNegative, NonNegative]] | Mapping[int, NonNegative] | None, "data", Convert(_pairs)
    ] = None

    def _value(self, step: Step) -> Number:
        own = step.numbers(self)
        exact, rounded = (cast(_Pairs, each.boundaries_and_scales or ()) for each in (self, own))
        value = jnp.asarray(own.init_value)
        for (boundary, _), (_, factor) in zip(exact, rounded, strict=True):
            value = value * jnp.where(step.since(boundary).value >= 0, factor, 1)
        return value


class join_schedules(Schedule):
    """One schedule after another; each counts its steps from the boundary at which it begins.

    Args:
        schedules: Schedules, plain functions or numbers. Plain functions get the step as a float.
        boundaries: The steps at which the second, third, ... begin; one fewer than the schedules.

    Raises:
        ValueError: if the number of boundaries does not fit.
    """

    schedules: Annotated[Sequence[ScalarOrSchedule], "data", Convert(_tuple)]
    boundaries: Annotated[Sequence[NonNegative], "data", Convert(_tuple)]

    def __check_init__(self) -> None:
        pieces, boundaries = len(self.schedules), len(self.boundaries)
        if boundaries != pieces - 1:
            raise ValueError(f"join_schedules: {pieces} schedules need {pieces - 1} boundaries, got {boundaries}")

    def _value(self, step: Step) -> Number:
        value = _piece(self.schedules[0], step)
        for boundary, following in zip(self.boundaries, self.schedules[1:], strict=True):
            since = step.since(cast(Number, boundary))
            value = jnp.where(since.value < 0, value, _piece(following, since))
        return value


def _piece(piece: object, step: Step) -> jax.Array:
    value = piece._value(step) if isinstance(piece, Schedule) else piece
    return jnp.asarray(value).astype(step.part.dtype)
