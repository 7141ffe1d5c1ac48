"""The loop of a line search: evaluate, judge, try another step; and how it ends."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._core.fields import Range
from .._manual_axes import while_loop
from .._trees.map import zeros_like
from .._trees.precision import step_dtype
from .._trees.vectors import completed, tree_where
from .._types import Count, Params, PyTree, ScalarArray
from .ray import Point, Ray


class OrInfinite(Range):
    """A range from `low` on that infinity is in."""

    def holds(self, value: object) -> bool:
        """Whether every entry is inside; NaN is not."""
        return bool(np.all(np.asarray(value) >= self.low))


class MessageEnum(enum.IntEnum):
    """Numbers that an array can hold, each with a `message` in words."""

    message: str

    def __new__(cls, value: int, message: str) -> Any:
        """A member is an int."""
        member = int.__new__(cls, value)
        member._value_, member.message = value, message
        return member


class Outcome(MessageEnum):
    """How a line search ended. `message` says it in words."""

    SEARCHING = 0, "no search has ended yet"
    WOLFE = 1, "sufficient decrease and the curvature condition hold"
    DECREASED = (
        2,
        "sufficient decrease holds, and the curvature condition was not asked for or not met: no evaluations were "
        "left, the interval was too small, or the step is the longest allowed",
    )
    FAILED = 3, "no step was found that decreases the objective enough; the updates are 0"
    NO_DESCENT = (
        4,
        "the updates are no descent direction, or the objective is not finite at the parameters; the updates are 0",
    )
    UNBOUNDED = 5, "the objective fell as steeply as at first as far as the search could look"


class Search(NamedTuple):
    """A search under way."""

    best: Point
    """The best acceptable point so far; at first, the start."""
    grad: PyTree
    """The gradient at `best`."""
    last: Point
    """The last point that was evaluated."""
    trial: ScalarArray
    """The step to try next."""
    evaluations: Count
    """Evaluations of the objective, in this search."""
    outcome: Count
    """An `Outcome`; the loop goes on while it is `SEARCHING`."""
    memory: Any
    """What the method itself remembers."""

    @property
    def judged(self) -> Point:
        """The point that errors are reported of: where it led, or the last one if it led nowhere."""
        return tree_where(self.best.step > 0, self.best, self.last)


class Verdict(NamedTuple):
    """What a method makes of a new point."""

    is_better: jax.Array
    """Whether it becomes `best`."""
    trial: jax.Array
    """The step to try next."""
    outcome: jax.Array
    """An `Outcome`."""
    memory: Any
    """What the method itself remembers."""


def search(line: Ray, first: ArrayLike, judge: Callable[[Search, Point], Verdict], memory: object) -> Search:
    """Try steps until the judge says how the search ended. One loop, which evaluates at one place.

    Args:
        line: The objective along the updates.
        first: The first step to try.
        judge: Of the search so far and the point at its trial step.
        memory: What the method remembers at first.
    """

    def step(now: Search) -> Search:
        point, grad = line.evaluate(now.trial)
        verdict = judge(now, point)
        return Search(
            tree_where(verdict.is_better, point, now.best),
            tree_where(verdict.is_better, grad, now.grad),
            point,
            verdict.trial,
            now.evaluations + 1,
            verdict.outcome.astype(jnp.int32),
            verdict.memory,
        )

    begun = jnp.where(line.is_descent, Outcome.SEARCHING, Outcome.NO_DESCENT).astype(jnp.int32)
    start = Search(line.start, line.grad, line.start, jnp.asarray(first), jnp.zeros([], jnp.int32), begun, memory)
    return while_loop(lambda now: now.outcome == Outcome.SEARCHING, step, start)


def initial_fields(params: Params, *, store_grad: bool) -> dict[str, Any]:
    """The fields of a search's state but for `info`: a step of 1, and nothing known."""
    dtype = step_dtype(params)
    zero = jnp.zeros([], jnp.int32)
    return {
        "learning_rate": jnp.ones([], dtype),
        "value": jnp.full([], jnp.inf, dtype),
        "grad": zeros_like(params) if store_grad else None,
        "evaluations": zero,
        "outcome": jnp.zeros_like(zero),  # an array of its own: a buffer cannot be donated twice
    }


def final_fields(end: Search, state: Any) -> dict[str, Any]:
    """The fields of a search's state but for `info`, where it ended; `state` is the one before.

    After a step of 0 the next search begins with 1: from 0 it could not.
    """
    step = end.best.step
    return {
        "learning_rate": jnp.where(step > 0, step, 1),
        "value": end.best.value,
        "grad": completed(end.grad, state.grad),
        # A count that has no room left stays where it is.
        "evaluations": jnp.maximum(state.evaluations + end.evaluations, state.evaluations),
        "outcome": end.outcome,
    }


def report(owner: str, line: Ray, end: Search, decrease_error: jax.Array, *, fine: Outcome) -> None:
    """Print how a search ended, unless as `fine`.

    A callback, which `jax.debug.print` is too, so that under `vmap` it can tell the lanes apart.
    """

    def show(
        outcome: jax.Array,
        value: jax.Array,
        slope: jax.Array,
        step: jax.Array,
        error: jax.Array,
        evaluations: jax.Array,
    ) -> None:
        if int(outcome) != fine:
            print(
                f"{owner}: {Outcome(int(outcome)).name}: {Outcome(int(outcome)).message}.\n"
                f"  value at params {value}, slope along the updates {slope}, step {step}, decrease error {error}, "
                f"evaluations {evaluations}"
            )

    start = line.start
    jax.debug.callback(
        show, end.outcome, start.value, start.slope, end.best.step, decrease_error, end.evaluations, ordered=False
    )
