"""Schedules of one formula: constant, polynomial and linear, exponential."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._core.fields import NonNegative, Positive, Scalar
from .._core.schedule import Schedule
from .._core.types import Number
from .._maths import safe_divisor, safe_power


def progress(step: jax.Array, begin: Number, length: Number) -> jax.Array:
    """The part of a transition that is done at `step`, in [0, 1]. One of length 0 is never begun, as in optax."""
    done = jnp.clip(step - begin, 0, length) / safe_divisor(length)
    return jnp.where(length > 0, done, 0)


class constant_schedule(Schedule):
    r"""$s(t) = v$.

    Args:
        value: v.
    """

    value: Scalar

    def at(self, step: jax.Array) -> Number:
        return self.value


class polynomial_schedule(Schedule):
    r"""$s(t) = e + (v - e)(1 - x)^p$ with $x = (t - b)/n$ held in [0, 1].

    Args:
        init_value: v, until `transition_begin`.
        end_value: e, from `transition_begin + transition_steps` on.
        power: p >= 0.
        transition_steps: n, in steps; with 0 the value stays at v.
        transition_begin: b, in steps.

    Raises:
        ValueError: if `power` or a number of steps is negative.
    """

    init_value: Scalar
    end_value: Scalar
    power: NonNegative
    transition_steps: NonNegative
    transition_begin: NonNegative = 0.0

    def at(self, step: jax.Array) -> Number:
        # Not 1 - progress: x / n * n need not be n, and a root would magnify what is left.
        done = jnp.clip(step - self.transition_begin, 0, self.transition_steps)
        left = (self.transition_steps - done) / safe_divisor(self.transition_steps)
        left = jnp.where(self.transition_steps > 0, left, 1)
        return (self.init_value - self.end_value) * safe_power(left, self.power) + self.end_value


class linear_schedule(Schedule):
    r"""$s(t) = v + (e - v)\,x$ with $x = (t - b)/n$ held in [0, 1].

    Args:
        init_value: v, until `transition_begin`.
        end_value: e, from `transition_begin + transition_steps` on.
        transition_steps: n, in steps; with 0 the value stays at v.
        transition_begin: b, in steps.

    Raises:
        ValueError: if a number of steps is negative.
    """

    init_value: Scalar
    end_value: Scalar
    transition_steps: NonNegative
    transition_begin: NonNegative = 0.0

    def at(self, step: jax.Array) -> Number:
        done = progress(step, self.transition_begin, self.transition_steps)
        return self.init_value + (self.end_value - self.init_value) * done


class exponential_decay(Schedule):
    r"""$s(t) = v\,r^{(t - b)/n}$ from step b on, v before; in whole steps of the exponent if `staircase`.

    Args:
        init_value: v.
        transition_steps: n > 0, in steps: how long one factor of r takes.
        decay_rate: r >= 0. Below 1 the value falls, above it grows.
        transition_begin: b, in steps.
        staircase: Whether the exponent is rounded down.
        end_value: Where the value stops: a lower bound for r < 1, an upper one for r > 1. `None`: nowhere.

    Raises:
        ValueError: if `transition_steps` is not positive, or `transition_begin` or `decay_rate` is negative.
    """

    init_value: Scalar
    transition_steps: Positive
    decay_rate: NonNegative
    transition_begin: NonNegative = 0.0
    staircase: bool = False
    end_value: Scalar | None = None

    def at(self, step: jax.Array) -> Number:
        exponent = jnp.maximum(step - self.transition_begin, 0) / self.transition_steps
        exponent = jnp.floor(exponent) if self.staircase else exponent
        decayed = self.init_value * safe_power(self.decay_rate, exponent)
        if self.end_value is None:
            return decayed
        held_up, held_down = jnp.maximum(decayed, self.end_value), jnp.minimum(decayed, self.end_value)
        return jnp.where(self.decay_rate < 1, held_up, held_down)
