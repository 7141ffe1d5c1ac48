r"""A line search: how far to go along the updates, so that the objective and its slope both fall enough."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._core.arguments import NonNegative, Number
from .._core.maths import nonzero
from .._core.precision import scalar
from .._core.transformation import Transform, transformation
from .._core.vectors import unit
from . import ray
from .ray import LinesearchState, Outcome, Point, Ray, ValueFn, where

LEAST_EXTRAPOLATION, MOST_EXTRAPOLATION = 1.1, 4.0
"""Of the last interval, by which a search goes on beyond it. Moré and Thuente, 1994."""
EDGE = 0.1
"""A new step stays so far, as a part of the interval, from both of its ends."""


class _Search(NamedTuple):
    """The interval between `low`, the best step so far, and `high`, which is infinite until there is one."""

    low: Point
    high: Point
    grad: Any  # at low
    trial: jax.Array
    evaluations: jax.Array
    outcome: jax.Array


def _can_end(
    max_linesearch_steps: int, slope_rtol: Number, curv_rtol: Number, initial_guess_strategy: str, **_: Any
) -> None:
    owner = "scale_by_zoom_linesearch"
    if max_linesearch_steps < 1:
        raise ValueError(f"{owner}: `max_linesearch_steps` must be at least 1, got {max_linesearch_steps}")
    if np.any(np.asarray(curv_rtol) <= np.asarray(slope_rtol)):
        raise ValueError(
            f"{owner}: `curv_rtol` must be above `slope_rtol`, or no step may satisfy both, got {curv_rtol} and "
            f"{slope_rtol}"
        )
    if initial_guess_strategy not in ("keep", "one"):
        raise ValueError(f"{owner}: `initial_guess_strategy` must be 'keep' or 'one', got {initial_guess_strategy!r}")


@transformation(check=_can_end)
def scale_by_zoom_linesearch(
    max_linesearch_steps: int,
    slope_rtol: NonNegative = 1e-4,
    curv_rtol: NonNegative = 0.9,
    approx_dec_rtol: NonNegative = 1e-6,
    stepsize_precision: NonNegative = 1e-5,
    initial_guess_strategy: Literal["keep", "one"] = "keep",
) -> Transform:
    r"""Scale the updates $d_t$ by a step $\alpha$ that meets the strong Wolfe conditions.

    $$f(\theta + \alpha d) \le f(\theta) + c_1 \alpha \langle g, d \rangle, \qquad
    |\langle \nabla f(\theta + \alpha d), d \rangle| \le c_2 |\langle g, d \rangle|$$

    Steps are enlarged until an interval holds such a step, which is then narrowed by cubic interpolation. Where f is
    as flat as its own rounding, the first condition is replaced by one on slopes (Hager and Zhang, 2005). A step at
    which the objective is not finite is too long. The search sees whole params and updates: wrap it, not its parts, in
    what masks. It comes last, behind `scale_by_learning_rate`, which gives the updates their sign.

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=loss)

    State: `learning_rate`, `value`, `grad` (like `params`), `evaluations` (of the objective with its gradient, int32),
    `outcome` (an `Outcome`, int32). Value and gradient are those at the new params, so that a loop need not compute
    them again (`minimize` does not). Units: as the updates. Derivatives take the step for a constant.

    Extra arguments: `value` and `grad` at params; `value_fn`, a pure function of params.

    Args:
        max_linesearch_steps: Evaluations a search, at least 1.
        slope_rtol: c1, the decrease that is enough, relative to the slope.
        curv_rtol: c2, the slope that is flat enough, relative to the first one; above `slope_rtol`.
        approx_dec_rtol: By how much of its own size the objective may seem to rise where slopes decide.
        stepsize_precision: The length of an interval, relative to its ends, that is not divided any more.
        initial_guess_strategy: The first step tried is the last search's ("keep") or 1 ("one").

    Raises:
        ValueError: `max_linesearch_steps` is less than 1, `curv_rtol` is not above `slope_rtol`, or another strategy.
            Of an update: `grad` has not the structure and shapes of params.
        TypeError: Of an update: `value`, or what `value_fn` returns, is not one real number.

    Source: Nocedal and Wright, Numerical Optimization, 2006, algorithms 3.5 and 3.6. Differs from optax: how far steps
    are enlarged; `initial_guess_strategy`, `max_linesearch_steps` and four tolerances are the arguments.
    """

    def update(
        updates: Any, state: LinesearchState, params: Any, *, value: ArrayLike, grad: Any, value_fn: ValueFn
    ) -> tuple[Any, LinesearchState]:
        dtype = state.learning_rate.dtype
        rules = _Rules(*(scalar(x, dtype) for x in (slope_rtol, curv_rtol, approx_dec_rtol, stepsize_precision)))
        first = jnp.ones([], dtype) if initial_guess_strategy == "one" else state.learning_rate
        rules, first = jax.lax.stop_gradient((rules, first))
        line = ray.along(updates, state, params, value, grad, value_fn)
        found = _search(line, first, rules, max_linesearch_steps)
        return ray.gone(updates, state, found.low, found.grad, found.evaluations, found.outcome)

    return Transform(ray.init, update, state_type=LinesearchState, evaluated=ray.evaluated)


class _Rules(NamedTuple):
    slope_rtol: jax.Array
    curv_rtol: jax.Array
    approx_dec_rtol: jax.Array
    stepsize_precision: jax.Array


def _search(line: Ray, first: jax.Array, rules: _Rules, most: int) -> _Search:
    """Bracket, then zoom: one loop, which evaluates at one place."""
    start = line.start

    def step(search: _Search) -> _Search:
        low, high = search.low, search.high
        now, grad = line.evaluate(search.trial)
        seems = line.falls_within_rounding(now, rules.slope_rtol, rules.approx_dec_rtol)
        is_low = seems | line.falls(now, rules.slope_rtol) & (now.value < low.value)
        is_flat = is_low & (jnp.abs(now.slope) <= -rules.curv_rtol * start.slope)
        turns = is_low & (now.slope * (high.step - low.step) >= 0)
        high = where(is_low, where(turns, low, high), now)
        best = where(is_low, now, low)
        is_bracketed = jnp.isfinite(high.step)
        trial = jnp.where(is_bracketed, _between(best, high), _beyond(low, now))
        width, size = jnp.abs(high.step - best.step), jnp.maximum(high.step, best.step)
        evaluations = search.evaluations + 1
        is_over = (evaluations >= most) | (is_bracketed & (width <= rules.stepsize_precision * size))
        gained = jnp.where(is_bracketed, Outcome.DECREASED, Outcome.UNBOUNDED)
        ended = jnp.where(is_over, jnp.where(best.step > 0, gained, Outcome.FAILED), Outcome.SEARCHING)
        outcome = jnp.where(is_flat, Outcome.WOLFE, ended).astype(jnp.int32)
        return _Search(best, high, where(is_low, grad, search.grad), trial, evaluations, outcome)

    begun = jnp.where(line.is_descent, Outcome.SEARCHING, Outcome.NO_DESCENT).astype(jnp.int32)
    nowhere = Point(*[jnp.full_like(start.step, jnp.inf)] * 3)
    whole = _Search(start, nowhere, line.grad, first, jnp.zeros([], jnp.int32), begun)
    return jax.lax.while_loop(lambda search: search.outcome == Outcome.SEARCHING, step, whole)


def _between(low: Point, high: Point) -> jax.Array:
    """The minimum of the cubic through both ends, kept from them; the middle where there is none."""
    width = high.step - low.step
    part = (_cubic(low, high) - low.step) / nonzero(width)
    return low.step + width * jnp.where(jnp.isfinite(part), jnp.clip(part, EDGE, 1 - EDGE), 0.5)


def _beyond(last: Point, now: Point) -> jax.Array:
    """The minimum of the cubic through both, if it lies ahead; at most so far that the interval grows fivefold."""
    width = now.step - last.step
    part = (_cubic(last, now) - now.step) / nonzero(width)
    ahead = jnp.isfinite(part) & (part > 0)
    return now.step + width * jnp.where(
        ahead, jnp.clip(part, LEAST_EXTRAPOLATION, MOST_EXTRAPOLATION), MOST_EXTRAPOLATION
    )


def _cubic(a: Point, b: Point) -> jax.Array:
    """Where the cubic with these values and slopes has its minimum; NaN where it has none."""
    width = b.step - a.step
    chord = a.slope + b.slope - 3 * (b.value - a.value) / nonzero(width)
    # Moré and Thuente divide by the largest too, so that squares stay in range.
    size = unit(jnp.maximum(jnp.abs(chord), jnp.maximum(jnp.abs(a.slope), jnp.abs(b.slope))))
    chord, at_a, at_b = chord / size, a.slope / size, b.slope / size
    root = jnp.sign(width) * jnp.sqrt(chord * chord - at_a * at_b)
    return b.step - width * (at_b + root - chord) / (at_b - at_a + 2 * root)
