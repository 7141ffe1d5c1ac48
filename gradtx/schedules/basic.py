"""Schedules of one formula: constant, polynomial and linear, exponential."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._core.arguments import NonNegative, Number, Positive, Scalar
from .._core.maths import nonzero
from .._core.maths import power as to_the
from .._core.schedule import Step, schedule


def progress(step: jax.Array, begin: Number, length: Number) -> jax.Array:
    """The part of a transition that is done at `step`, in [0, 1]. One of length 0 is never begun, as in optax."""
    done = jnp.clip(step - begin, 0, length) / nonzero(length)
    return jnp.where(length > 0, done, 0)


@schedule
def constant_schedule(value: Scalar) -> Step:
    r"""$s(t) = v$.

    Args:
        value: v.
    """
    return lambda step: jnp.asarray(value)


@schedule
def polynomial_schedule(
    init_value: Scalar,
    end_value: Scalar,
    power: NonNegative,
    transition_steps: NonNegative,
    transition_begin: NonNegative = 0.0,
) -> Step:
    r"""$s(t) = e + (v - e)(1 - x)^p$ with $x = (t - b)/n$ held in [0, 1].

    Args:
        init_value: v, until `transition_begin`.
        end_value: e, from `transition_begin + transition_steps` on.
        power: p >= 0.
        transition_steps: n, in steps; with 0 the value stays at v.
        transition_begin: b, in steps.

    Raises:
        ValueError: `power` or a number of steps is negative.
    """

    def value(step: jax.Array) -> Number:
        # Not 1 - progress: x / n * n need not be n, and a root would magnify what is left.
        done = jnp.clip(step - transition_begin, 0, transition_steps)
        left = jnp.where(transition_steps > 0, (transition_steps - done) / nonzero(transition_steps), 1)
        return (init_value - end_value) * to_the(left, power) + end_value

    return value


@schedule
def linear_schedule(
    init_value: Scalar, end_value: Scalar, transition_steps: NonNegative, transition_begin: NonNegative = 0.0
) -> Step:
    r"""$s(t) = v + (e - v)\,x$ with $x = (t - b)/n$ held in [0, 1].

    Args:
        init_value: v, until `transition_begin`.
        end_value: e, from `transition_begin + transition_steps` on.
        transition_steps: n, in steps; with 0 the value stays at v.
        transition_begin: b, in steps.

    Raises:
        ValueError: A number of steps is negative.
    """
    return lambda step: init_value + (end_value - init_value) * progress(step, transition_begin, transition_steps)


@schedule
def exponential_decay(
    init_value: Scalar,
    transition_steps: Positive,
    decay_rate: NonNegative,
    transition_begin: NonNegative = 0.0,
    staircase: bool = False,
    end_value: Scalar | None = None,
) -> Step:
    r"""$s(t) = v\,r^{(t - b)/n}$ from step b on, v before; in whole steps of the exponent if `staircase`.

    Args:
        init_value: v.
        transition_steps: n > 0, in steps: how long one factor of r takes.
        decay_rate: r >= 0. Below 1 the value falls, above it grows.
        transition_begin: b, in steps.
        staircase: Whether the exponent is rounded down.
        end_value: Where the value stops: a lower bound for r < 1, an upper one for r > 1. `None`: nowhere.

    Raises:
        ValueError: `transition_steps` is not positive, or a number of steps or `decay_rate` is negative.
    """

    def value(step: jax.Array) -> Number:
        exponent = jnp.maximum(step - transition_begin, 0) / transition_steps
        exponent = jnp.floor(exponent) if staircase else exponent
        decayed = init_value * to_the(decay_rate, exponent)
        if end_value is None:
            return decayed
        return jnp.where(decay_rate < 1, jnp.maximum(decayed, end_value), jnp.minimum(decayed, end_value))

    return value
