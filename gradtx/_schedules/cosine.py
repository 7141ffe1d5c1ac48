"""Cosine decay, with and without a warm-up."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .._core.fields import NonNegative, Positive, Scalar
from .._core.schedule import Schedule, Step
from .._maths import safe_divisor, safe_power
from .._types import Number
from .basic import between, shares


def _cosine(step: jax.Array, length: Number, exponent: Number) -> jax.Array:
    """From 1 to 0 over `length` steps, along half a cosine to the power `exponent`."""
    share = jnp.clip(step / safe_divisor(length), 0, 1)
    half = (1 + jnp.cos(jnp.pi * share)) / 2
    return safe_power(half, exponent)


class cosine_decay_schedule(Schedule):
    r"""$s(t) = v\,[(1 - \alpha)\,c^p + \alpha]$ with $c = (1 + \cos(\pi \min(t, n)/n))/2$.

    Args:
        init_value: v.
        decay_steps: n > 0, in steps.
        alpha: The end value as a share of v.
        exponent: p >= 0.

    Raises:
        ValueError: if `decay_steps` is not positive, or `exponent` is negative.

    Source: Loshchilov and Hutter, SGDR, 2017.
    """

    init_value: Scalar
    decay_steps: Positive
    alpha: Scalar = 0.0
    exponent: NonNegative = 1.0

    def at(self, step: jax.Array) -> Number:
        left = _cosine(step, self.decay_steps, self.exponent)
        return self.init_value * between(jnp.ones_like(step), self.alpha, 1 - left, left)


class warmup_cosine_decay_schedule(Schedule):
    r"""Linear from $v$ to the peak over w steps, then half a cosine to the end value at step n.

    Args:
        init_value: v, at step 0.
        peak_value: The value at step w.
        warmup_steps: w, in steps.
        decay_steps: n, in steps, counted from 0: the warm-up is part of it. More than `warmup_steps`.
        end_value: The value from step n on.
        exponent: The power of the cosine.

    Raises:
        ValueError: if a number of steps is negative, or `decay_steps` is not more than `warmup_steps`.
    """

    init_value: Scalar
    peak_value: Scalar
    warmup_steps: NonNegative
    decay_steps: Positive
    end_value: Scalar = 0.0
    exponent: NonNegative = 1.0

    def __check_init__(self) -> None:
        if np.any(np.asarray(self.decay_steps) <= np.asarray(self.warmup_steps)):
            raise ValueError(
                "warmup_cosine_decay_schedule: `decay_steps` counts the warm-up too and must be more than "
                f"`warmup_steps`, got {self.decay_steps} and {self.warmup_steps}"
            )

    def _value(self, step: Step) -> Number:
        own, since = step.numbers(self), step.since(self.warmup_steps).value
        rising = between(own.init_value, own.peak_value, *shares(step.value, own.warmup_steps))
        length = Step.of(self.decay_steps, since.dtype).since(self.warmup_steps).value
        left = _cosine(since, length, own.exponent)
        return jnp.where(since < 0, rising, between(own.peak_value, own.end_value, 1 - left, left))
