r"""Averages of the parameters, to evaluate and ship: the mechanism, and the exponential moving average."""

from __future__ import annotations

import functools
from dataclasses import KW_ONLY
from typing import Annotated, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from .._core.contract import GradientTransformation
from .._core.fields import DType, NonNegative, Range
from .._core.schedule import ScalarOrSchedule, value_at
from .._maths import safe_increment
from .._trees.apply import moved
from .._trees.map import copies_of, map_leaves
from .._trees.precision import cast_like, step_dtype
from .._trees.vectors import present
from .._types import Count, Leaf, OptState, Params, ScalarArray, Updates
from .period import Period, Taken, taken

AverageDecay: TypeAlias = Annotated[
    ScalarOrSchedule,
    "data",
    Range("in [0, 1)", low=0.0, high=1.0, hint="A decay of 1 would never let a new value in."),
]


def _toward(average: Leaf, params: Leaf, gain: ScalarArray) -> Leaf:
    # In this form the average of a constant is that constant, to the bit. At gain 1 it is the parameter itself, and at
    # gain 0 a parameter that is infinite or NaN has no part in it.
    mixed = average + gain * (params - average)
    return jnp.where(gain < 1, jnp.where(gain > 0, mixed, average), params)


@functools.partial(jax.jit, inline=True)
def _chosen(when: Taken, old: ScalarArray, weight: ScalarArray, gain: ScalarArray) -> tuple[ScalarArray, ScalarArray]:
    """The weight and the gain of this update, which may not be one that is taken."""
    # Where nothing has been taken yet, the average is the newest point.
    otherwise = jnp.where(when.early | (old == 0), 1, 0).astype(gain.dtype)
    return jnp.where(when.due, weight, old), jnp.where(when.due, gain, otherwise)


@functools.partial(jax.jit, static_argnames="debias", inline=True)
def _ema_gain(
    weight: ScalarArray, number: Count, decay: ScalarArray, warmup: ScalarArray | None, *, debias: bool
) -> tuple[ScalarArray, ScalarArray]:
    if warmup is not None:
        before = number.astype(decay.dtype) - 1
        decay = jnp.minimum(decay, (1 + before) / jnp.maximum(warmup + before, 1))
    weight = decay * weight + (1 - decay) if debias else weight
    return weight, (1 - decay) / weight


class AverageState(NamedTuple):
    """State of `average`, `polyak_average` and `tail_average`."""

    count: Count
    """Number of updates."""
    weight: jax.Array
    """The weight that the average has gathered; 0 before the first point."""
    average: Params
    """The average, like the parameters."""
    inner_state: OptState
    """State of what is inside."""


class Averaging(GradientTransformation):
    """Base of running averages: each has a rule for how far a new point moves the average."""

    _owns_step = True

    inner: GradientTransformation
    _: KW_ONLY
    start_step: NonNegative = 0.0
    every: Period = 1.0
    accumulator_dtype: DType = None

    def _first_weight(self) -> float:
        return 0.0

    def _gain(self, weight: ScalarArray, number: Count, count: Count) -> tuple[ScalarArray, ScalarArray]:
        """The new weight, and the gain: the share of the way to the new point that the average goes.

        Args:
            weight: The weight so far.
            number: How many points, this one included.
            count: How many updates, this one not included.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method `_gain(self, weight, number, count)`")

    def init(self, params: Params) -> AverageState:
        weight = jnp.full([], self._first_weight(), step_dtype(params))
        average = copies_of(params, self.accumulator_dtype)
        return AverageState(jnp.zeros([], jnp.int32), weight, average, self.inner.init(params))

    def update(
        self, updates: Updates, state: AverageState, params: Params, **extra: object
    ) -> tuple[Updates, AverageState]:
        updates, inner_state = self.inner.update(updates, state.inner_state, params, **extra)
        count, old = safe_increment(state.count), jnp.asarray(state.weight)
        when = taken(count, self.start_step, self.every)
        weight, gain = _chosen(when, old, *self._gain(old, when.number, state.count))
        point = present(self.inner.eval_params(moved(params, updates), inner_state), updates)
        trees, reads = {"average": state.average}, {"params": point}
        average = map_leaves(_toward, trees, reads=reads, optional="params", gain=gain)
        return updates, AverageState(count, weight, average, inner_state)

    def eval_params(self, params: Params, state: OptState) -> Params:
        return cast_like(state.average, params)


class average(Averaging):
    r"""Keep an exponential moving average of the parameters, and evaluate there.

    $$w_t = \rho_t w_{t-1} + (1-\rho_t), \qquad
    \bar\theta_t = \bar\theta_{t-1} + \frac{1-\rho_t}{w_t}\,(\theta_t - \bar\theta_{t-1}), \qquad
    \rho_t = \min\Big(\rho, \frac{1+t}{\omega+t}\Big)$$

    $\theta_t$ are the parameters that the step leads to, or the `eval_params` of what is inside; $w_0 = 0$, so that
    this is the sum of $\rho^{t-s}(1-\rho)\theta_s$ over its weights. Updates are those of what is inside.
    `tx.eval_params(params, state)` is the average, in the parameters' dtype.

        tx = gradtx.average(gradtx.adamw(1e-3), decay=0.999)
        evaluate(tx.eval_params(params, state))

    In a chain it comes last, and what changes updates goes inside, since the average is of the parameters that its
    updates lead to.

    State: `count`, int32; `weight`; `average`, like `params` (float32 for half-precision params): one copy; and
    `inner_state`. Needs `params`.
    Units: the average is in the parameters'.

    Args:
        inner: What makes the steps.
        decay: rho, in [0, 1), a number or a schedule. Per point; the average's memory is 1 / (1 - rho) points.
        warmup: omega >= 0: the decay of the t-th point, from 0 on, is at most (1 + t) / (omega + t). 10 is usual; at
            most 1, or `None`: no warm-up.
        debias: Whether to divide by the weight that the average has gathered, so that its first point is the first
            iterate. Otherwise the initial parameters are its first point, with weight 1.
        start_step: How many updates to leave out at first. Until then `eval_params` is the newest point.
        every: Which updates after `start_step` to take a point at: each `every`-th. Rounded to a whole number.
        accumulator_dtype: The dtype of `average`, in place of the parameters' (float32 for half precision).

    Raises:
        ValueError: if `decay` is outside [0, 1), `warmup` or `start_step` is negative, or `every` is less than 1.

    Source: the warm-up is that of TensorFlow's `ExponentialMovingAverage`
    (https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage), with omega 10.
    """

    decay: AverageDecay = 0.999
    warmup: NonNegative | None = None
    debias: bool = True

    def _first_weight(self) -> float:
        return 0.0 if self.debias else 1.0

    def _gain(self, weight: ScalarArray, number: Count, count: Count) -> tuple[ScalarArray, ScalarArray]:
        decay = value_at("decay", self.decay, count, weight.dtype)
        warmup = None if self.warmup is None else value_at("warmup", self.warmup, 0, weight.dtype)
        return _ema_gain(weight, number, decay, warmup, debias=self.debias)
