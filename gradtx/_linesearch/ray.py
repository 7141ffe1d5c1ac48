"""The objective along the updates, and the conditions on a step: what line searches share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._objective import check_number, one_number, value_and_gradient
from .._trees.checks import aligned
from .._trees.map import map_leaves
from .._trees.precision import cast_like
from .._trees.vectors import completed, present, tree_vdot
from .._types import Leaf, Params, PyTree, ScalarArray, Updates


class Point(NamedTuple):
    """A step along the updates, and the objective there."""

    step: ScalarArray
    """How far along the updates."""
    value: ScalarArray
    """The objective."""
    slope: ScalarArray
    """Its derivative by the step; 0 where it was not asked for."""


class Ray(NamedTuple):
    """The objective along the updates.

    Comparisons with NaN are false, so that an objective or a slope that is not finite is too high.
    """

    start: Point
    """A step of 0."""
    grad: PyTree
    """The gradient there; `None` for a search that reads values only."""
    evaluate: Callable[[jax.Array], tuple[Point, Any]]
    """The point at a step, and the gradient there (or `None`)."""

    @property
    def is_descent(self) -> jax.Array:
        """Whether the objective falls along it, to begin with."""
        return jnp.isfinite(self.start.value) & (self.start.slope < 0) & jnp.isfinite(self.start.slope)

    def has_decreased(self, now: Point, slope_rtol: ArrayLike, tol: ArrayLike = 0.0) -> jax.Array:
        """Sufficient decrease (Armijo): by the fraction `slope_rtol` of what the first slope promised."""
        return jnp.isfinite(now.slope) & (
            now.value <= self.start.value + slope_rtol * now.step * self.start.slope + tol
        )

    def has_decreased_by_slope(
        self, now: Point, slope_rtol: ArrayLike, approx_dec_rtol: ArrayLike | None, tol: ArrayLike = 0.0
    ) -> jax.Array:
        """The same judged by slopes, where values differ by no more than `approx_dec_rtol` of their size.

        For a parabola, f(a) <= f(0) + c a f'(0) is f'(a) <= (2 c - 1) f'(0). The second form compares slopes, which
        keep their figures near a minimum; the first compares values, which differ there by the square of the distance,
        so that it fails within the root of the rounding.

        Source: Hager and Zhang, 2005, the approximate Wolfe conditions, https://doi.org/10.1137/030601880.
        """
        if approx_dec_rtol is None:
            return jnp.zeros([], bool)
        is_flat = now.value <= self.start.value + approx_dec_rtol * jnp.abs(self.start.value)
        return jnp.isfinite(now.slope) & is_flat & (now.slope <= (2 * slope_rtol - 1) * self.start.slope + tol)

    def decrease_error(
        self, now: Point, slope_rtol: ArrayLike, approx_dec_rtol: ArrayLike | None, slack: ArrayLike = 0.0
    ) -> jax.Array:
        """By how much a point misses sufficient decrease: 0 where it has it, infinite where it is not finite."""
        rise = now.value - self.start.value
        error = rise - slope_rtol * now.step * self.start.slope - slack
        holds = self.has_decreased(now, slope_rtol, slack)
        if approx_dec_rtol is not None:
            by_slope = now.slope - (2 * slope_rtol - 1) * self.start.slope
            by_slope = jnp.maximum(by_slope, rise - approx_dec_rtol * jnp.abs(self.start.value))
            error = jnp.minimum(error, by_slope)
            holds |= self.has_decreased_by_slope(now, slope_rtol, approx_dec_rtol)
        error = jnp.where(holds, 0, jnp.maximum(error, 0))
        return jnp.where(jnp.isnan(error), jnp.inf, error)

    def curvature_error(self, now: Point, curv_rtol: ArrayLike) -> jax.Array:
        """By how much a point misses the curvature condition: 0 where it has it, infinite where it is not finite."""
        error = jnp.maximum(jnp.abs(now.slope) - curv_rtol * jnp.abs(self.start.slope), 0)
        # An infinite `curv_rtol` asks for nothing; times a slope of 0 it would be NaN.
        return jnp.where(jnp.isinf(curv_rtol), 0, jnp.where(jnp.isnan(error), jnp.inf, error))


def make_ray(
    updates: Updates,
    params: Params,
    value: ArrayLike,
    grad: Updates,
    value_fn: Callable[..., jax.Array],
    extra: Mapping[str, Any],
    *,
    dtype: DTypeLike,
    like: PyTree,
) -> Ray:
    """The objective from params along updates.

    All of it is constant to derivatives: a loop of unknown length has no reverse mode. What the objective has closed
    over (params of a step before, say) becomes an argument for that.

    Args:
        updates: The direction.
        params: Where it begins.
        value: The objective there.
        grad: Its gradient there.
        value_fn: The objective, a function of params and of those extra arguments whose names its signature has.
        extra: All that came with the update.
        dtype: Of steps, values and slopes.
        like: A tree whose dtypes gradients get. `None` for values only: no gradient is computed along the ray.

    Raises:
        TypeError: if `value`, or what `value_fn` returns, is not one real number.
        ValueError: if `grad` or the updates do not match the structure and shapes of `params`.
    """
    check_number("a line search's `value`", value)
    aligned(("grad", "params"), (grad, params), 0)
    aligned(("updates", "params"), (updates, params), 0)
    named = _selected(value_fn, extra)
    objective = one_number("what `value_fn` returns", functools.partial(value_fn, **named) if named else value_fn)
    # Parameters without an update stay where they are.
    whole, params, grad = params, present(params, updates), present(grad, updates)
    like = None if like is None else present(like, updates)
    converted, closed = jax.closure_convert(lambda moved: objective(completed(moved, whole)), params)
    closed, origin, direction, grad = jax.lax.stop_gradient((closed, params, updates, grad))
    value = jax.lax.stop_gradient(jnp.asarray(value).astype(dtype))
    begin = Point(jnp.zeros([], dtype), value, tree_vdot(grad, direction).astype(dtype))

    def moved(step: jax.Array) -> Params:
        return map_leaves(_move, {"params": origin}, reads={"updates": direction}, step=step)

    def value_at(step: jax.Array) -> tuple[Point, Any]:
        value = jnp.asarray(converted(moved(step), *closed)).astype(dtype)
        return Point(step, value, jnp.zeros_like(step)), None

    def value_and_slope_at(step: jax.Array) -> tuple[Point, Any]:
        value, grad = value_and_gradient(converted)(moved(step), *closed)
        # Without leaves, the value is NumPy's.
        point = Point(step, jnp.asarray(value).astype(dtype), tree_vdot(grad, direction).astype(dtype))
        return point, cast_like(grad, like)

    if like is None:
        return Ray(begin, None, value_at)
    return Ray(begin, cast_like(grad, like), value_and_slope_at)


def scale_updates(updates: Updates, step: ScalarArray) -> Updates:
    """The updates times the step; 0 for a step of 0, also where the updates are not finite."""
    return map_leaves(_scale, {"updates": updates}, step=step)


def _selected(function: Callable[..., Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The extra arguments that a function's signature names."""
    if not extra:
        return {}
    named = list(inspect.signature(function).parameters)[1:]  # the first is params
    return {name: value for name, value in extra.items() if name in named}


def _move(params: Leaf, updates: Leaf, step: ScalarArray) -> Leaf:
    return params + step * updates


def _scale(updates: Leaf, step: ScalarArray) -> Leaf:
    return jnp.where(step > 0, step * updates, 0)
