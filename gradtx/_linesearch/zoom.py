r"""A line search: how far to go along the updates, so that the objective and its slope both fall enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._core.contract import GradientTransformation
from .._core.fields import AtLeastOne, NonNegative, Positive, Range
from .._manual_axes import vary_with
from .._maths import safe_divisor
from .._trees.precision import scalar, step_dtype
from .._trees.vectors import power_of_two_scale, tree_where
from .._types import Count, Number, Params, ScalarArray, Updates
from .ray import Point, Ray, make_ray, scale_updates
from .search import OrInfinite, Outcome, Search, Verdict, final_fields, initial_fields, report, search

MIN_EXTRAPOLATION, MAX_EXTRAPOLATION = 1.1, 4.0
"""How far beyond the last interval a search goes on, in lengths of that interval.

`xtrapl` and `xtrapu` of MINPACK-2's `dcsrch`, the code of Moré and Thuente, 1994, https://doi.org/10.1145/192115.192132;
scipy's L-BFGS-B searches by it.
"""
SAFEGUARD = 0.1
"""A trial step keeps this fraction of the bracket from either end, so that brackets shrink by a tenth at least.

scipy's `_zoom` (optimize/_linesearch.py) has 0.1 for quadratic and 0.2 for cubic interpolation.
"""


FAR = 1e6
"""An objective that is as steep as at first so many first steps away is taken for unbounded. Ours: the default search
gets 4e12 first steps far, and curvature that has not shown until then is none."""

GuessStrategy: TypeAlias = Literal["keep", "one"]
CurvatureTolerance: TypeAlias = Annotated[Number, "data", OrInfinite("a number >= 0, or infinity", low=0.0)]
GrowthFactor: TypeAlias = Annotated[Number, "data", Range("a finite number > 1", low=1.0, low_open=True)]


class ZoomLinesearchInfo(NamedTuple):
    """How well the step of the last search does (or the last one tried, if none was found), as optax has it."""

    num_linesearch_steps: Count
    """Evaluations in that search."""
    decrease_error: ScalarArray
    """By how much sufficient decrease is missed: 0 where it holds."""
    curvature_error: ScalarArray
    """By how much the curvature condition is missed, likewise."""


class ScaleByZoomLinesearchState(NamedTuple):
    """State of `scale_by_zoom_linesearch`: optax's fields, and two more."""

    learning_rate: ScalarArray
    """The last step; 1 where none was found."""
    value: ScalarArray
    """The objective at the new parameters."""
    grad: Updates
    """Its gradient there."""
    info: ZoomLinesearchInfo
    """How well the last step does."""
    evaluations: Count
    """Evaluations of the objective with its gradient, in all searches."""
    outcome: Count
    """How the last search ended, an `Outcome`."""


class _Rules(NamedTuple):
    """The numbers of a search, in its dtype."""

    tol: Any
    increase_factor: Any
    slope_rtol: Any
    curv_rtol: Any
    stepsize_precision: Any
    approx_dec_rtol: Any  # may be None
    max_learning_rate: Any  # may be None


class scale_by_zoom_linesearch(GradientTransformation):
    r"""Scale the updates $d_t$ by a step $\alpha$ that meets the strong Wolfe conditions.

    $$f(\theta + \alpha d) \le f(\theta) + c_1 \alpha \langle g, d \rangle, \qquad
    |\langle \nabla f(\theta + \alpha d), d \rangle| \le c_2 |\langle g, d \rangle|$$

    Steps are enlarged until an interval holds such a step, which is then narrowed by cubic interpolation. Where f is
    as flat as its own rounding, the first condition is replaced by one on slopes (Hager and Zhang, 2005). A step at
    which the objective is not finite is too long. The search sees whole params and updates: wrap it, not its parts, in
    what masks. It comes last, behind `scale_by_learning_rate`, which gives the updates their sign; of several searches
    in a chain the last one's value counts.

        value_and_grad = gradtx.value_and_grad_from_state(loss)
        value, grads = value_and_grad(params, state=state)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=loss)

    State: `ScaleByZoomLinesearchState`, one copy of the parameters. Value and gradient are those at the new params, so
    that a loop need not compute them again (`minimize` does not). Needs `params`.
    Units: as the updates. Derivatives take the step for a constant.

    Extra arguments: `value` and `grad` at params; `value_fn`, a pure function of params, and of those other extra
    arguments that its signature names (`loss(params, x, y)` gets `x=` and `y=`).

    Args:
        max_linesearch_steps: Evaluations per search, at least 1.
        max_learning_rate: The longest step; `None`: no bound.
        tol: Added to the right side of both conditions. Unit: the objective's, and that of its slope.
        increase_factor: How many times longer a step gets at least while no interval is found; above 1.
        slope_rtol: c1, the decrease that is enough, relative to the slope.
        curv_rtol: c2, the slope that is flat enough, relative to the first one; above `slope_rtol`. Infinity: the
            second condition always holds.
        approx_dec_rtol: By how much of its own size the objective may seem to rise where slopes decide. `None`: they
            never do.
        stepsize_precision: The length of an interval, relative to its longer end, that is no longer divided.
        initial_guess_strategy: The first step tried is the last search's ("keep") or 1 ("one").
        verbose: Whether to print how a search ended that did not meet both conditions.
        cubic_extrapolation: Whether a step may get longer than `increase_factor` says, up to fivefold, where the cubic
            through the last two points has its minimum so far ahead, or none.

    Raises:
        ValueError: if `max_linesearch_steps` is less than 1, `curv_rtol` is not above `slope_rtol`, a number is outside
            its range, or the strategy is another; from `update`, if `grad` does not match the structure and shapes of
            `params`.
        TypeError: from `update`, if `value`, or what `value_fn` returns, is not one real number.

    Source: Nocedal and Wright, 2006, algorithms 3.5 and 3.6 (pages 60 and 61); Moré and Thuente, 1994.
    Differs from optax: steps grow by the cubic too (unless not `cubic_extrapolation`), and cubics go through values and
    slopes of both ends; `stepsize_precision` is relative, so that the length of the updates does not matter; where no
    step is found, or the updates do not descend, the updates are 0; `info` is of the step that is taken, if any.
    """

    max_linesearch_steps: AtLeastOne
    max_learning_rate: Positive | None = None
    tol: NonNegative = 0.0
    increase_factor: GrowthFactor = 2.0
    slope_rtol: NonNegative = 1e-4
    curv_rtol: CurvatureTolerance = 0.9
    approx_dec_rtol: NonNegative | None = 1e-6
    stepsize_precision: NonNegative = 1e-5
    initial_guess_strategy: GuessStrategy = "keep"
    verbose: bool = False
    _: KW_ONLY
    cubic_extrapolation: bool = True

    def __check_init__(self) -> None:
        if np.any(np.asarray(self.curv_rtol) <= np.asarray(self.slope_rtol)):
            raise ValueError(
                f"scale_by_zoom_linesearch: `curv_rtol` must be above `slope_rtol`, or no step may satisfy both, got "
                f"{self.curv_rtol} and {self.slope_rtol}"
            )

    def init(self, params: Params) -> ScaleByZoomLinesearchState:
        infinite = (jnp.full([], jnp.inf, step_dtype(params)) for _ in range(2))
        info = ZoomLinesearchInfo(jnp.zeros([], jnp.int32), *infinite)
        state = ScaleByZoomLinesearchState(info=info, **initial_fields(params, store_grad=True))
        return vary_with(state, params)

    def update(
        self,
        updates: Updates,
        state: ScaleByZoomLinesearchState,
        params: Params,
        *,
        value: ArrayLike,
        grad: Updates,
        value_fn: Callable[..., jax.Array],
        **extra: object,
    ) -> tuple[Updates, ScaleByZoomLinesearchState]:
        dtype = state.learning_rate.dtype
        numbers = {name: getattr(self, name) for name in _Rules._fields}
        rules = _Rules(**{name: None if x is None else scalar(x, dtype) for name, x in numbers.items()})
        first = jnp.ones([], dtype) if self.initial_guess_strategy == "one" else state.learning_rate
        rules, first = jax.lax.stop_gradient((rules, first))
        if rules.max_learning_rate is not None:
            first = jnp.minimum(first, rules.max_learning_rate)
        line = make_ray(updates, params, value, grad, value_fn, extra, dtype=dtype, like=state.grad)
        end = self._search(line, first, rules)
        info = ZoomLinesearchInfo(
            end.evaluations,
            line.decrease_error(end.judged, rules.slope_rtol, rules.approx_dec_rtol),
            line.curvature_error(end.judged, rules.curv_rtol),
        )
        if self.verbose:
            report("scale_by_zoom_linesearch", line, end, info.decrease_error, fine=Outcome.WOLFE)
        new = ScaleByZoomLinesearchState(info=info, **final_fields(end, state))
        return scale_updates(updates, end.best.step), new

    def _search(self, line: Ray, first: ArrayLike, rules: _Rules) -> Search:
        """Bracket, then zoom: between `best` and `high`, which is infinite until there is an interval."""
        start, tol = line.start, rules.tol

        def judge(now: Search, point: Point) -> Verdict:
            low, high = now.best, now.memory
            by_slope = line.has_decreased_by_slope(point, rules.slope_rtol, rules.approx_dec_rtol, tol)
            is_low = by_slope | line.has_decreased(point, rules.slope_rtol, tol) & (point.value < low.value + tol)
            is_flat = is_low & (jnp.abs(point.slope) <= -rules.curv_rtol * start.slope + tol)
            turns = is_low & (point.slope * (high.step - low.step) >= 0)
            high = tree_where(is_low, tree_where(turns, low, high), point)
            best = tree_where(is_low, point, low)
            is_bracketed = jnp.isfinite(high.step)
            trial = jnp.where(is_bracketed, _interpolated(best, high), self._extrapolated(low, point, rules))
            width, size = jnp.abs(high.step - best.step), jnp.maximum(high.step, best.step)
            is_over = is_bracketed & (width <= rules.stepsize_precision * size)
            is_limited = is_bracketed
            if rules.max_learning_rate is not None:
                is_longest = ~is_bracketed & (best.step >= rules.max_learning_rate)
                is_over, is_limited = is_over | is_longest, is_limited | is_longest
                trial = jnp.minimum(trial, rules.max_learning_rate)
            is_over |= now.evaluations + 1 >= self.max_linesearch_steps
            # A step that has decreased the objective is one, whether or not there is a minimum in sight.
            is_far = ~is_limited & (best.step >= FAR * first)
            falls_on = is_far & (best.slope <= start.slope) & (best.value < start.value)
            gained = jnp.where(falls_on, Outcome.UNBOUNDED, Outcome.DECREASED)
            ended = jnp.where(is_over, jnp.where(best.step > 0, gained, Outcome.FAILED), Outcome.SEARCHING)
            return Verdict(is_low, trial, jnp.where(is_flat, Outcome.WOLFE, ended), high)

        nowhere = Point(*[jnp.full_like(start.step, jnp.inf)] * 3)
        return search(line, first, judge, nowhere)

    def _extrapolated(self, last: Point, point: Point, rules: _Rules) -> jax.Array:
        """The next step beyond both."""
        longer = rules.increase_factor * point.step
        return jnp.maximum(_extrapolated(last, point), longer) if self.cubic_extrapolation else longer


def _interpolated(low: Point, high: Point) -> jax.Array:
    """The minimum of the cubic through both ends, kept from them; the middle where there is none."""
    width = high.step - low.step
    part = (_cubic_minimum(low, high) - low.step) / safe_divisor(width)
    return low.step + width * jnp.where(jnp.isfinite(part), jnp.clip(part, SAFEGUARD, 1 - SAFEGUARD), 0.5)


def _extrapolated(last: Point, point: Point) -> jax.Array:
    """The minimum of the cubic through both, if it lies ahead; at most so far that the interval grows fivefold."""
    width = point.step - last.step
    part = (_cubic_minimum(last, point) - point.step) / safe_divisor(width)
    is_ahead = jnp.isfinite(part) & (part > 0)
    bounded = jnp.clip(part, MIN_EXTRAPOLATION, MAX_EXTRAPOLATION)
    return point.step + width * jnp.where(is_ahead, bounded, MAX_EXTRAPOLATION)


def _cubic_minimum(a: Point, b: Point) -> jax.Array:
    """Where the cubic with these values and slopes has its minimum; NaN where it has none.

    Source: Nocedal and Wright, 2006, equation 3.59 (page 59).
    """
    width = b.step - a.step
    chord = a.slope + b.slope - 3 * (b.value - a.value) / safe_divisor(width)
    # Divided by the largest, so that squares stay in range, as MINPACK-2's `dcstep` does.
    size = power_of_two_scale(jnp.maximum(jnp.abs(chord), jnp.maximum(jnp.abs(a.slope), jnp.abs(b.slope))))
    chord, at_a, at_b = chord / size, a.slope / size, b.slope / size
    root = jnp.sign(width) * jnp.sqrt(chord * chord - at_a * at_b)
    return b.step - width * (at_b + root - chord) / (at_b - at_a + 2 * root)
