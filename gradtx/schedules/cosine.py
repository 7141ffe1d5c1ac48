"""Cosine decay, with and without a warm-up."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .._core.arguments import NonNegative, Number, Positive, Scalar
from .._core.maths import nonzero, power
from .._core.schedule import Step, schedule
from .basic import progress


def _cosine(step: jax.Array, length: Number, exponent: Number) -> jax.Array:
    """From 1 to 0 over `length` steps, along half a cosine to the power `exponent`."""
    share = jnp.clip(step / nonzero(length), 0, 1)
    half = (1 + jnp.cos(jnp.pi * share)) / 2
    return power(half, exponent)


@schedule
def cosine_decay_schedule(
    init_value: Scalar, decay_steps: Positive, alpha: Scalar = 0.0, exponent: NonNegative = 1.0
) -> Step:
    r"""$s(t) = v\,[(1 - \alpha)\,c^p + \alpha]$ with $c = (1 + \cos(\pi \min(t, n)/n))/2$.

    Args:
        init_value: v.
        decay_steps: n > 0, in steps.
        alpha: The end value as a share of v.
        exponent: p >= 0.

    Raises:
        ValueError: `decay_steps` is not positive, or `exponent` is negative.

    Source: Loshchilov and Hutter, SGDR, 2017.
    """
    return lambda step: init_value * ((1 - alpha) * _cosine(step, decay_steps, exponent) + alpha)


def _longer_than_warmup(warmup_steps: Number, decay_steps: Number, **_: Number) -> None:
    if np.any(np.asarray(decay_steps) <= np.asarray(warmup_steps)):
        raise ValueError(
            f"warmup_cosine_decay_schedule: `decay_steps` counts the warm-up too and must be more than `warmup_steps`, "
            f"got {decay_steps} and {warmup_steps}"
        )


@schedule(check=_longer_than_warmup)
def warmup_cosine_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: NonNegative,
    decay_steps: Positive,
    end_value: Scalar = 0.0,
    exponent: NonNegative = 1.0,
) -> Step:
    r"""Linear from $v$ to the peak over w steps, then half a cosine to the end value at step n.

    Args:
        init_value: v, at step 0.
        peak_value: The value at step w.
        warmup_steps: w, in steps.
        decay_steps: n, in steps, counted from 0: the warm-up is part of it. More than `warmup_steps`.
        end_value: The value from step n on.
        exponent: Of the cosine.

    Raises:
        ValueError: A number of steps is negative, or `decay_steps` is not more than `warmup_steps`.
    """

    def value(step: jax.Array) -> Number:
        rising = init_value + (peak_value - init_value) * progress(step, jnp.zeros_like(step), warmup_steps)
        falling = end_value + (peak_value - end_value) * _cosine(
            step - warmup_steps,
            decay_steps - warmup_steps,
            exponent,
        )
        return jnp.where(step < warmup_steps, rising, falling)

    return value
