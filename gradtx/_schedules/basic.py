"""Schedules of one formula: constant, polynomial and linear, exponential."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._core.fields import NonNegative, Positive, Scalar
from .._core.schedule import Schedule, Step
from .._maths import safe_divisor, safe_power
from .._types import Number


def shares(step: jax.Array, length: Number) -> tuple[jax.Array, jax.Array]:
    """The parts of a transition that are done and left, in [0, 1]. One of length 0 is never begun, as in optax.

    Both by a quotient: 1 - x / n is not exactly 0 at n, and has no figures where little is done.
    """
    done, divisor = jnp.clip(step, 0, length), safe_divisor(length)
    return jnp.where(length > 0, done / divisor, 0), jnp.where(length > 0, (length - done) / divisor, 1)


def between(start: Number, end: Number, done: jax.Array, left: jax.Array) -> jax.Array:
    """From `start` to `end`, both of which are met exactly: counted from the nearer one, as in `torch.lerp`."""
    change = end - start
    return jnp.where(done < left, start + change * done, end - change * left)


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

    def _value(self, step: Step) -> Number:
        own = step.numbers(self)
        _, left = shares(step.since(self.transition_begin).value, own.transition_steps)
        left = safe_power(left, own.power)
        return between(own.init_value, own.end_value, 1 - left, left)


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

    def _value(self, step: Step) -> Number:
        own = step.numbers(self)
        done, left = shares(step.since(self.transition_begin).value, own.transition_steps)
        return between(own.init_value, own.end_value, done, left)


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

    def _value(self, step: Step) -> Number:
        own, since = step.numbers(self), step.since(self.transition_begin)
        exponent = jnp.maximum(since.value / own.transition_steps, 0)
        if self.staircase:
            exponent = _whole_parts(since, self.transition_steps)
        decayed = own.init_value * safe_power(own.decay_rate, exponent)
        if own.end_value is None:
            return decayed
        held_up, held_down = jnp.maximum(decayed, own.end_value), jnp.minimum(decayed, own.end_value)
        return jnp.where(own.decay_rate < 1, held_up, held_down)


def _whole_parts(step: Step, length: Number) -> jax.Array:
    """How often `length` has passed: by integers where both are whole, else by a quotient and its remainder."""
    dtype = step.part.dtype
    period, done = Step.of(length, dtype), jnp.maximum(step.value, 0)
    integers = jnp.maximum(step.whole, 0) // jnp.maximum(period.whole, 1)
    # A quotient that is nearly whole may be rounded to either side, and more so on a GPU; the remainder tells.
    quotient = jnp.floor(done / period.value)
    rest = done - quotient * period.value
    quotient = quotient + (rest >= period.value).astype(dtype) - (rest < 0).astype(dtype)
    return jnp.where((step.part == 0) & (period.part == 0), integers.astype(dtype), quotient)
