r"""Averages of all iterates, or of the last part of them: uniform, with polynomial weights, and anytime tails."""

from __future__ import annotations

import functools
from typing import Annotated, TypeAlias

import jax
import jax.numpy as jnp

from .._core.fields import NonNegative, Range
from .._core.schedule import value_at
from .._maths import safe_power, safe_sqrt
from .._types import Count, Number, ScalarArray
from .average import Averaging

Fraction: TypeAlias = Annotated[Number, "data", Range("in (0, 1]", low=0.0, high=1.0, low_open=True, high_open=False)]


@functools.partial(jax.jit, inline=True)
def _polyak_gain(weight: ScalarArray, number: Count, power: ScalarArray) -> tuple[ScalarArray, ScalarArray]:
    # The sum of weights in the unit of the newest: n^p itself may be beyond the largest float.
    n = number.astype(weight.dtype)
    weight = safe_power((n - 1) / n, power) * weight + 1
    return weight, 1 / weight


@functools.partial(jax.jit, inline=True)
def _tail_gain(number: Count, fraction: ScalarArray) -> tuple[ScalarArray, ScalarArray]:
    n = number.astype(fraction.dtype)
    before, now = jnp.maximum(fraction * (n - 1), 1), jnp.maximum(fraction * n, 1)
    # now - before, which for large n is a difference of nearly equal numbers.
    grown = jnp.minimum(fraction, now - 1)
    kept = (before - safe_sqrt(before / now * (1 - grown))) / (1 + before)
    return now, jnp.where(number > 1, 1 - kept, 1)


class polyak_average(Averaging):
    r"""Keep the mean of all iterates, and evaluate there (Polyak-Ruppert averaging).

    $$\bar\theta_t = \sum_{s \le t} s^p\,\theta_s \Big/ \sum_{s \le t} s^p$$

    $\theta_s$ are the parameters that the s-th step leads to, from 1 on, or the `eval_params` of what is inside.
    With a power of 0 it is the plain mean; with p > 0 the first iterates are forgotten: most of the weight is in the
    last part, $1/(p+1)$ of them. With `start_step` and `every` it is stochastic weight averaging (SWA).

    State: `count`, int32; `weight`, the sum of all weights divided by the newest; `average`, like `params` (float32 for
    half-precision params): one copy; and `inner_state`. Needs `params`. In a chain it comes last.
    Units: the average is in the parameters'.

    Args:
        inner: What makes the steps.
        power: p >= 0.
        start_step: How many updates to leave out at first. Until then `eval_params` is the newest point.
        every: Which updates after `start_step` to take a point at: each `every`-th. Rounded to a whole number.
        accumulator_dtype: The dtype of `average`, in place of the parameters' (float32 for half precision).

    Raises:
        ValueError: if `power` or `start_step` is negative, or `every` is less than 1.

    Source: Polyak and Juditsky, 1992; Shamir and Zhang, 2013, for p > 0; Izmailov et al., 2018, for SWA.
    Differs: Shamir and Zhang's weights are (s + p) choose s, which for large s grow as s^p.
    """

    power: NonNegative = 0.0

    def _gain(self, weight: ScalarArray, number: Count, count: Count) -> tuple[ScalarArray, ScalarArray]:
        return _polyak_gain(weight, number, value_at("power", self.power, 0, weight.dtype))


class tail_average(Averaging):
    r"""Keep an average of the last part of the iterates, at all times, and evaluate there.

    $$\bar\theta_t = \gamma_t\bar\theta_{t-1} + (1-\gamma_t)\,\theta_t, \qquad
    \gamma_t^2 / k_{t-1} + (1-\gamma_t)^2 = 1/k_t, \qquad k_t = \max(1, c\,t)$$

    $\gamma_t$ is the smaller root. Of independent iterates the average then has the variance of a mean of the last
    $c\,t$ of them, and like it forgets the beginning, without a copy for each and without the length of the run. The
    horizon grows with the run; `average` has a fixed one, `lawa` an exact mean of few.

    State: `count`, int32; `weight`, $k_t$; `average`, like `params` (float32 for half-precision params): one copy; and
    `inner_state`. Needs `params`. In a chain it comes last.
    Units: the average is in the parameters'.

    Args:
        inner: What makes the steps.
        fraction: c, in (0, 1]: which part of the iterates. At 1 the plain mean of all.
        start_step: How many updates to leave out at first. Until then `eval_params` is the newest point.
        every: Which updates after `start_step` to take a point at: each `every`-th. Rounded to a whole number.
        accumulator_dtype: The dtype of `average`, in place of the parameters' (float32 for half precision).

    Raises:
        ValueError: if `fraction` is outside (0, 1], `start_step` is negative, or `every` is less than 1.

    Source: Le Roux, Anytime Tail Averaging, 2019 (https://arxiv.org/abs/1902.05083), the growing exponential average.
    """

    fraction: Fraction = 0.5

    def _gain(self, weight: ScalarArray, number: Count, count: Count) -> tuple[ScalarArray, ScalarArray]:
        return _tail_gain(number, value_at("fraction", self.fraction, 0, weight.dtype))
