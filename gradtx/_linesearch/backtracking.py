r"""A line search that only shortens: for directions whose own length is right, such as Newton's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Annotated, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._core.contract import GradientTransformation
from .._core.fields import AtLeastOne, NonNegative, Positive, Range
from .._manual_axes import vary_with
from .._trees.precision import scalar, step_dtype
from .._types import Count, Number, Params, ScalarArray, Updates
from .ray import Point, make_ray, scale_updates
from .search import OrInfinite, Outcome, Search, Verdict, final_fields, initial_fields, report, search

Shrinkage: TypeAlias = Annotated[Number, "data", Range("above 0 and below 1", low=0.0, low_open=True, high=1.0)]
Regrowth: TypeAlias = Annotated[Number, "data", OrInfinite("a number >= 1, or infinity", low=1.0)]


class BacktrackingLinesearchInfo(NamedTuple):
    """How well the step of the last search does (or the last one tried, if none was found), as optax has it."""

    num_linesearch_steps: Count
    """Evaluations in that search."""
    decrease_error: ScalarArray
    """By how much sufficient decrease is missed: 0 where it holds."""


class ScaleByBacktrackingLinesearchState(NamedTuple):
    """State of `scale_by_backtracking_linesearch`: optax's fields, and two more."""

    learning_rate: ScalarArray
    """The last step; 1 where none was found."""
    value: ScalarArray
    """The objective at the new parameters."""
    grad: Updates
    """Its gradient there; `None` without `store_grad`."""
    info: BacktrackingLinesearchInfo
    """How well the last step does."""
    evaluations: Count
    """Evaluations of the objective (with its gradient, if that is stored), in all searches."""
    outcome: Count
    """How the last search ended, an `Outcome`."""


class scale_by_backtracking_linesearch(GradientTransformation):
    r"""Scale the updates $d_t$ by the first step $\alpha$ that decreases the objective enough (Armijo).

    $$f(\theta + \alpha d) \le f(\theta) + \mathtt{rtol}\,|f(\theta)| + c_1 \alpha \langle g, d \rangle +
    \mathtt{atol}, \qquad
    \alpha \in \{a, a\,b, a\,b^2, \ldots\}, \quad a = \min(\alpha_{t-1} \cdot \mathtt{increase\_factor}, \alpha_{max})$$

    At first, and after a search that found no step, $\alpha_{t-1}$ is 1. A step at which the objective is not finite is
    too long. The search sees whole params and updates: wrap it, not its parts, in what masks. It comes last, behind
    `scale_by_learning_rate`; of several searches in a chain the last one's value counts.

    For Newton's methods and `minimize`, whose first step mostly will do:

        scale_by_backtracking_linesearch(20, decrease_factor=0.5, increase_factor=2.0, store_grad=True,
                                         approx_dec_rtol=1e-6)

    State: `ScaleByBacktrackingLinesearchState`; with `store_grad`, one copy of the parameters. The value (and gradient)
    are those at the new params. Needs `params`.
    Units: as the updates. Derivatives take the step for a constant.

    Extra arguments: `value` and `grad` at params; `value_fn`, a pure function of params, and of those other extra
    arguments that its signature names (`loss(params, x, y)` gets `x=` and `y=`).

    Args:
        max_backtracking_steps: How often a step is made shorter, at least 1; a search evaluates once more than that.
        slope_rtol: c1, the decrease that is enough, relative to the slope.
        decrease_factor: b, above 0 and below 1.
        increase_factor: How much longer than the last step the first trial is, at least 1. Infinity: each search begins
            with `max_learning_rate`.
        max_learning_rate: The longest step.
        atol: By how much the objective may rise. Unit: the objective's.
        rtol: Likewise, as a fraction of its own size.
        store_grad: Whether to evaluate the gradient along with the objective, and keep it, so that
            `value_and_grad_from_state` and `minimize` need not compute it again.
        verbose: Whether to print how a search ended that found no step.
        approx_dec_rtol: By how much of its own size the objective may seem to rise where slopes decide (see
            `scale_by_zoom_linesearch`), for which `store_grad` is needed. `None`: they never do.

    Raises:
        ValueError: if `max_backtracking_steps` is less than 1, a number is outside its range, or `approx_dec_rtol` is
            given without `store_grad`; from `update`, if `grad` does not match the structure and shapes of `params`.
        TypeError: from `update`, if `value`, or what `value_fn` returns, is not one real number.

    Source: Armijo, 1966; Nocedal and Wright, 2006, algorithm 3.1 (page 37).
    Differs from optax: where no step is found, or the updates do not descend, the updates are 0; `rtol` allows a rise
    where the objective is negative too; `approx_dec_rtol`; with `store_grad` each evaluation is with the gradient.
    """

    max_backtracking_steps: AtLeastOne
    slope_rtol: NonNegative = 1e-4
    decrease_factor: Shrinkage = 0.8
    increase_factor: Regrowth = 1.5
    max_learning_rate: Positive = 1.0
    atol: NonNegative = 0.0
    rtol: NonNegative = 0.0
    store_grad: bool = False
    verbose: bool = False
    _: KW_ONLY
    approx_dec_rtol: NonNegative | None = None

    def __check_init__(self) -> None:
        if self.approx_dec_rtol is not None and not self.store_grad:
            raise ValueError(
                "scale_by_backtracking_linesearch: `approx_dec_rtol` compares slopes, which only `store_grad=True` "
                "evaluates"
            )

    def init(self, params: Params) -> ScaleByBacktrackingLinesearchState:
        info = BacktrackingLinesearchInfo(jnp.zeros([], jnp.int32), jnp.full([], jnp.inf, step_dtype(params)))
        state = ScaleByBacktrackingLinesearchState(info=info, **initial_fields(params, store_grad=self.store_grad))
        return vary_with(state, params)

    def update(
        self,
        updates: Updates,
        state: ScaleByBacktrackingLinesearchState,
        params: Params,
        *,
        value: ArrayLike,
        grad: Updates,
        value_fn: Callable[..., jax.Array],
        **extra: object,
    ) -> tuple[Updates, ScaleByBacktrackingLinesearchState]:
        dtype = state.learning_rate.dtype
        numbers = (self.slope_rtol, self.decrease_factor, self.increase_factor, self.max_learning_rate, self.atol)
        slope_rtol, shorter, longer, longest, atol, rtol = jax.lax.stop_gradient(
            tuple(jnp.asarray(scalar(x, dtype)) for x in (*numbers, self.rtol))
        )
        approx = None if self.approx_dec_rtol is None else jax.lax.stop_gradient(scalar(self.approx_dec_rtol, dtype))
        like = state.grad if self.store_grad else None
        line = make_ray(updates, params, value, grad, value_fn, extra, dtype=dtype, like=like)
        slack = rtol * jnp.abs(line.start.value)

        def judge(now: Search, point: Point) -> Verdict:
            is_lower = line.has_decreased(point, slope_rtol, slack + atol)
            is_lower |= line.has_decreased_by_slope(point, slope_rtol, approx)
            is_over = now.evaluations >= self.max_backtracking_steps
            ended = jnp.where(is_over, Outcome.FAILED, Outcome.SEARCHING)
            return Verdict(is_lower, now.trial * shorter, jnp.where(is_lower, Outcome.DECREASED, ended), ())

        first = jnp.minimum(state.learning_rate * longer, longest)
        end = search(line, first, judge, ())
        info = BacktrackingLinesearchInfo(end.evaluations, line.decrease_error(end.judged, slope_rtol, approx, slack))
        if self.verbose:
            report("scale_by_backtracking_linesearch", line, end, info.decrease_error, fine=Outcome.DECREASED)
        new = ScaleByBacktrackingLinesearchState(info=info, **final_fields(end, state))
        return scale_updates(updates, end.best.step), new
