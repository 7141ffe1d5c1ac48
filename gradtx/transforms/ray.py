"""The objective along the updates: what line searches share."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._core.checks import aligned, check_number, one_number
from .._core.precision import cast_like, step_dtype
from .._core.transformation import Evaluated
from .._core.tree import inner, map_leaves, zeros_like

ValueFn = Callable[[Any], jax.Array]


class Outcome(enum.IntEnum):
    """How a line search ended."""

    SEARCHING = 0
    WOLFE = 1
    """The objective has fallen enough; so has its slope, where the search asks for that."""
    DECREASED = 2
    """The objective has, the slope has not; no more evaluations were left, or the interval was too small."""
    FAILED = 3
    """No step was found that decreases the objective; the updates are 0."""
    NO_DESCENT = 4
    """The updates are no descent direction, or the objective is not finite where it began; the updates are 0."""
    UNBOUNDED = 5
    """The objective was still falling when no more evaluations were left."""


class Point(NamedTuple):
    """A step along the updates, the objective there, and its slope along them."""

    step: jax.Array
    value: jax.Array
    slope: jax.Array


class Ray(NamedTuple):
    """Where a search begins, the gradient there, and how to look further along: `(step) -> (point, gradient)`."""

    start: Point
    grad: Any
    evaluate: Callable[[jax.Array], tuple[Point, Any]]

    @property
    def is_descent(self) -> jax.Array:
        """Whether the objective falls along it, to begin with."""
        return jnp.isfinite(self.start.value) & (self.start.slope < 0) & jnp.isfinite(self.start.slope)

    # Comparisons with NaN are false, so that an objective or a slope that is not finite is too high.

    def falls(self, now: Point, enough: ArrayLike) -> jax.Array:
        """Whether the objective has fallen by the part `enough` of what its first slope promised (Armijo)."""
        return jnp.isfinite(now.slope) & (now.value <= self.start.value + enough * now.step * self.start.slope)

    def falls_within_rounding(self, now: Point, enough: ArrayLike, rounding: ArrayLike) -> jax.Array:
        """The same by slopes, where the objective is as flat as the part `rounding` of itself (Hager and Zhang)."""
        seems = now.value <= self.start.value + rounding * jnp.abs(self.start.value)
        return jnp.isfinite(now.slope) & seems & (now.slope <= (2 * enough - 1) * self.start.slope)


class LinesearchState(NamedTuple):
    """The last step, the objective and gradient where it led, all evaluations, and the last `Outcome`."""

    learning_rate: jax.Array
    value: jax.Array
    grad: Any
    evaluations: jax.Array
    outcome: jax.Array


def init(params: Any) -> LinesearchState:
    """A step of 1, and nothing known."""
    dtype = step_dtype(params)
    zero = jnp.zeros([], jnp.int32)
    return LinesearchState(
        jnp.ones([], dtype), jnp.full([], jnp.inf, dtype), zeros_like(params), zero, jnp.zeros_like(zero)
    )


def along(updates: Any, state: LinesearchState, params: Any, value: ArrayLike, grad: Any, value_fn: ValueFn) -> Ray:
    """The objective from params along updates.

    All of it is constant to derivatives: a loop of unknown length has no reverse mode. What the objective has closed
    over (params of a step before, say) becomes an argument for that.

    Raises:
        TypeError: `value`, or what `value_fn` returns, is not one real number.
        ValueError: `grad` has not the structure and shapes of params.
    """
    check_number("a line search's `value`", value)
    aligned(("grad", "params"), (grad, params), 1)
    dtype = state.learning_rate.dtype
    objective, closed = jax.closure_convert(one_number("what `value_fn` returns", value_fn), params)
    closed, origin, direction, grad = jax.lax.stop_gradient((closed, params, updates, grad))
    value = jax.lax.stop_gradient(jnp.asarray(value).astype(dtype))

    def point(step: jax.Array, value: jax.Array, grad: Any) -> tuple[Point, Any]:
        return Point(step, value.astype(dtype), inner(grad, direction).astype(dtype)), cast_like(grad, state.grad)

    def evaluate(step: jax.Array) -> tuple[Point, Any]:
        there = map_leaves(_move, [origin], [step], reads=[direction])
        value, grad = jax.value_and_grad(objective)(there, *closed)
        return point(step, jnp.asarray(value), grad)  # of no leaves, value is NumPy's

    return Ray(*point(jnp.zeros([], dtype), value, grad), evaluate)


def gone(
    updates: Any, state: LinesearchState, found: Point, grad: Any, evaluations: jax.Array, outcome: jax.Array
) -> tuple[Any, LinesearchState]:
    """The updates as far as the search went, and its new state."""
    step = found.step
    return map_leaves(_scale, [updates], [step]), LinesearchState(
        jnp.where(step > 0, step, 1), found.value, grad, state.evaluations + evaluations, outcome
    )


def evaluated(state: LinesearchState) -> Evaluated:
    """What the search has seen, for `Transform.evaluated`."""
    return Evaluated(state.value, state.grad, state.evaluations, state.outcome)


def where(condition: jax.Array, then: Any, other: Any) -> Any:
    """One tree or the other, whole."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), then, other)


def _move(params: jax.Array, updates: jax.Array, step: jax.Array) -> jax.Array:
    return params + step * updates


def _scale(updates: jax.Array, step: jax.Array) -> jax.Array:
    # A direction that is not finite and is not gone along is 0, not NaN.
    return jnp.where(step > 0, step * updates, 0)
