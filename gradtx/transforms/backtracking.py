r"""A line search that only shortens: for directions whose own length is right, such as Newton's."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._core.arguments import Decay, NonNegative, Number, Positive
from .._core.precision import scalar
from .._core.transformation import Transform, transformation
from . import ray
from .ray import LinesearchState, Outcome, Point, ValueFn, where


class _Search(NamedTuple):
    found: Point
    grad: Any
    trial: jax.Array
    evaluations: jax.Array
    outcome: jax.Array


def _shortens(max_backtracking_steps: int, decrease_factor: Number, increase_factor: float, **_: Any) -> None:
    owner = "scale_by_backtracking_linesearch"
    if max_backtracking_steps < 1:
        raise ValueError(f"{owner}: `max_backtracking_steps` must be at least 1, got {max_backtracking_steps}")
    if np.any(np.asarray(decrease_factor) <= 0):
        raise ValueError(f"{owner}: `decrease_factor` must be above 0 and below 1, got {decrease_factor}")
    if np.any(np.asarray(increase_factor) < 1):
        raise ValueError(f"{owner}: `increase_factor` must be at least 1, got {increase_factor}")


@transformation(check=_shortens)
def scale_by_backtracking_linesearch(
    max_backtracking_steps: int,
    slope_rtol: NonNegative = 1e-4,
    decrease_factor: Decay = 0.5,
    increase_factor: NonNegative = 2.0,
    max_learning_rate: Positive = 1.0,
    approx_dec_rtol: NonNegative = 1e-6,
) -> Transform:
    r"""Scale the updates $d_t$ by the first step $\alpha$ that decreases the objective enough (Armijo).

    $$f(\theta + \alpha d) \le f(\theta) + c_1 \alpha \langle g, d \rangle, \qquad
    \alpha \in \{a, a\,b, a\,b^2, \ldots\}, \quad a = \min(\alpha_{t-1} \cdot \mathtt{increase\_factor}, \alpha_{max})$$

    At first, and after a search that found no step, $\alpha_{t-1}$ is 1. Where f is as flat as its own rounding,
    a step is judged by its slope (see `scale_by_zoom_linesearch`). A step at which the objective is not finite is too
    long. The search sees whole params and updates: wrap it, not its parts, in what masks. It comes last, behind
    `scale_by_learning_rate`.

    State: as of `scale_by_zoom_linesearch`: value and gradient are those at the new params. Units: as the updates.
    Derivatives take the step for a constant.

    Extra arguments: `value` and `grad` at params; `value_fn`, a pure function of params.

    Args:
        max_backtracking_steps: Evaluations a search, at least 1; each with the gradient, as the first mostly will do.
        slope_rtol: c1, the decrease that is enough, relative to the slope.
        decrease_factor: b, above 0 and below 1.
        increase_factor: How much longer than the last step the first trial is, at least 1.
        max_learning_rate: The longest step.
        approx_dec_rtol: By how much of its own size the objective may seem to rise where slopes decide.

    Raises:
        ValueError: `max_backtracking_steps` is less than 1, or a factor is out of its range.
            Of an update: `grad` has not the structure and shapes of params.
        TypeError: Of an update: `value`, or what `value_fn` returns, is not one real number.

    Source: Armijo, 1966. Differs from optax: shorter steps by halves, not by fifths; slopes decide within rounding,
    where optax has tolerances; where no step is found the updates are 0.
    """

    def update(
        updates: Any, state: LinesearchState, params: Any, *, value: ArrayLike, grad: Any, value_fn: ValueFn
    ) -> tuple[Any, LinesearchState]:
        dtype = state.learning_rate.dtype
        enough, shorter, longer, longest, rounding = jax.lax.stop_gradient(
            tuple(
                jnp.asarray(scalar(x, dtype))
                for x in (slope_rtol, decrease_factor, increase_factor, max_learning_rate, approx_dec_rtol)
            )
        )
        line = ray.along(updates, state, params, value, grad, value_fn)

        def step(search: _Search) -> _Search:
            now, grad = line.evaluate(search.trial)
            is_lower = line.falls(now, enough) | line.falls_within_rounding(now, enough, rounding)
            evaluations = search.evaluations + 1
            ended = jnp.where(evaluations >= max_backtracking_steps, Outcome.FAILED, Outcome.SEARCHING)
            outcome = jnp.where(is_lower, Outcome.DECREASED, ended).astype(jnp.int32)
            return _Search(
                where(is_lower, now, search.found),
                where(is_lower, grad, search.grad),
                search.trial * shorter,
                evaluations,
                outcome,
            )

        begun = jnp.where(line.is_descent, Outcome.SEARCHING, Outcome.NO_DESCENT).astype(jnp.int32)
        first = jnp.minimum(state.learning_rate * longer, longest)
        start = _Search(line.start, line.grad, first, jnp.zeros([], jnp.int32), begun)
        end = jax.lax.while_loop(lambda search: search.outcome == Outcome.SEARCHING, step, start)
        return ray.gone(updates, state, end.found, end.grad, end.evaluations, end.outcome)

    return Transform(ray.init, update, state_type=LinesearchState, evaluated=ray.evaluated)
