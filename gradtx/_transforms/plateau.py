r"""Smaller steps once a value has stopped falling."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import GradientTransformation
from .._core.fields import NonNegative, Range
from .._maths import safe_increment
from .._trees.checks import check_rank
from .._trees.map import map_leaves, scaled
from .._trees.precision import scalar, step_dtype
from .._types import Count, Number, Params, ScalarArray, Updates

Factor = Annotated[Number, "data", Range("in (0, 1)", low=0.0, high=1.0, low_open=True)]
Tolerance = Annotated[Number, "data", Range("in [0, 1]", low=0.0, high=1.0, high_open=False)]
Steps = Annotated[Number, "data", Range("a number of steps >= 1", low=1.0)]

NUMBERS = ("factor", "patience", "rtol", "atol", "cooldown", "accumulation_size", "min_scale")


class ReduceLROnPlateauState(NamedTuple):
    """State of `reduce_on_plateau`."""

    scale: ScalarArray
    """The factor of the updates."""
    best_value: ScalarArray
    """The lowest mean value yet."""
    plateau_count: Count
    """Number of mean values in a row that were no improvement."""
    cooldown_count: Count
    """Number of mean values that are still ignored."""
    count: Count
    """Number of values in `avg_value`."""
    avg_value: ScalarArray
    """The mean of the values since it was last looked at."""

    def _report(self) -> dict[str, Any]:
        return {"scale": self.scale, "best_value": self.best_value, "plateau_count": self.plateau_count}


class reduce_on_plateau(GradientTransformation):
    r"""Multiply updates by a factor that is lowered when a value stops improving; last in a chain.

    Values are averaged over `accumulation_size` updates. A mean $v$ is an improvement on the best one $b$ if
    $v < b - r|b| - a$. After `patience` means in a row without one the factor is multiplied by `factor`, and the
    next `cooldown` means are not counted.

    Takes the extra argument `value`, of which lower is better: a loss, of training or validation.

    State: six scalars, three of them int32 counts. Units: as the updates. Keeps their direction.

    Args:
        factor: What the factor of the updates is multiplied by, in (0, 1).
        patience: Number of means in a row without an improvement before a reduction.
        rtol: r in [0, 1]: by what share of the best value's size a mean has to be lower.
        atol: a >= 0: by how much more, in the value's unit.
        cooldown: Number of means that are not counted after a reduction.
        accumulation_size: Number of values in a mean; 1 where they have no noise.
        min_scale: The least factor, >= 0.

    Raises:
        ValueError: if an argument is outside its range, or both tolerances are 0.
        TypeError: from `update`, if `value` is missing.

    Differs: optax asks for $v < (1 - r) b - a$. For a negative best value that is above it, so that a value which
    has become worse counts as an improvement (optax #1767).
    """

    factor: Factor = 0.1
    patience: NonNegative = 10
    rtol: Tolerance = 1e-4
    atol: NonNegative = 0.0
    cooldown: NonNegative = 0
    accumulation_size: Steps = 1
    min_scale: NonNegative = 0.0

    def __check_init__(self) -> None:
        if np.any((np.asarray(self.rtol) == 0) & (np.asarray(self.atol) == 0)):
            raise ValueError("reduce_on_plateau: one of `rtol` and `atol` must be positive, got 0 for both")

    def init(self, params: Params) -> ReduceLROnPlateauState:
        dtype = step_dtype(params)
        scale, best, mean = (jnp.full([], value, dtype) for value in (1.0, np.inf, 0.0))
        plateau, cooldown, count = (jnp.zeros([], jnp.int32) for _ in range(3))
        return ReduceLROnPlateauState(scale, best, plateau, cooldown, count, mean)

    def update(
        self,
        updates: Updates,
        state: ReduceLROnPlateauState,
        params: Params | None = None,
        *,
        value: Number,
    ) -> tuple[Updates, ReduceLROnPlateauState]:
        dtype, numbers = jnp.result_type(state.scale), {}
        for name in NUMBERS:
            numbers[name] = scalar(getattr(self, name), dtype)
            check_rank(name, numbers[name])
        check_rank("value", value)
        new = _seen(state, jnp.asarray(value).astype(dtype), numbers)
        return map_leaves(scaled, {"updates": updates}, factor=new.scale), new


@jax.jit
def _seen(state: ReduceLROnPlateauState, value: ScalarArray, numbers: dict[str, Any]) -> ReduceLROnPlateauState:
    """The state after one more value."""
    dtype = value.dtype
    count = safe_increment(state.count)
    mean = state.avg_value + (value - state.avg_value) / count.astype(dtype)
    waiting = state._replace(count=count, avg_value=mean)
    is_full = count.astype(dtype) >= numbers["accumulation_size"]
    return jax.tree.map(lambda a, b: jnp.where(is_full, a, b), _judged(state, mean, numbers), waiting)


def _judged(state: ReduceLROnPlateauState, mean: ScalarArray, numbers: dict[str, Any]) -> ReduceLROnPlateauState:
    """The state after one more mean, with none of the next one in it."""
    best, zero = state.best_value, jnp.zeros([], jnp.int32)
    margin = numbers["rtol"] * jnp.abs(best) + numbers["atol"]
    # There is no share of the infinite value that it begins with.
    improved = mean < best - jnp.where(jnp.isfinite(best), margin, 0)
    plateau = jnp.where(improved, zero, safe_increment(state.plateau_count))
    is_cooling = state.cooldown_count > 0
    is_flat = (plateau.astype(mean.dtype) >= numbers["patience"]) & ~improved & ~is_cooling
    reduced = jnp.maximum(state.scale * numbers["factor"], numbers["min_scale"])
    cooldown = jnp.where(is_flat, jnp.round(numbers["cooldown"]).astype(jnp.int32), zero)
    return ReduceLROnPlateauState(
        scale=jnp.where(is_flat, reduced, state.scale),
        best_value=jnp.where(improved, mean, best),
        plateau_count=jnp.where(is_cooling | is_flat, zero, plateau),
        cooldown_count=jnp.where(is_cooling, state.cooldown_count - 1, cooldown).astype(jnp.int32),
        count=zero,
        avg_value=jnp.zeros_like(mean),
    )
