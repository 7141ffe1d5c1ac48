"""Schedules: functions of the step whose numbers are data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._trees.checks import check_rank
from .._trees.precision import scalar
from .._types import Number
from .data import N, PyTreeNode, roots
from .fields import Data, Range
from .paths import walk

_COUNTABLE, _LARGEST = 2**24, 2**31 - 128
"""The last whole number up to which float32 has all, and the largest float32 that is an int32."""


class Step(NamedTuple):
    """A step as a whole number and a rest: float32 has whole numbers to 2^24 only, and a count goes to 2^31."""

    whole: jax.Array
    part: jax.Array

    @classmethod
    def of(cls, number: ArrayLike, dtype: DTypeLike) -> Step:
        """A count, or a number of steps, as exact as it comes; the derivative is that of the rest."""
        number = jnp.asarray(number)
        is_whole = jnp.issubdtype(number.dtype, jnp.integer)
        most = min(2**31 - 1, np.iinfo(number.dtype).max) if is_whole else _LARGEST
        whole = jnp.clip(number if is_whole else jnp.floor(number), 0, most).astype(np.int32)
        return cls(whole, (number - whole.astype(number.dtype)).astype(dtype))

    @property
    def value(self) -> jax.Array:
        """As one float."""
        return self.whole.astype(self.part.dtype) + self.part

    def since(self, begin: ArrayLike) -> Step:
        """This step, counted from `begin`."""
        first = Step.of(begin, self.part.dtype)
        return Step(self.whole - first.whole, self.part - first.part)

    def numbers(self, schedule: N) -> N:
        """The schedule with all its numbers in the step's dtype."""
        return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(self.part.dtype), schedule)


class Schedule(PyTreeNode):
    """A function of the step, `schedule(count)`, whose numbers are data.

    A subclass is a frozen dataclass with one method, the value at a step:

        class inverse_sqrt(Schedule):
            peak: NonNegative
            warmup_steps: Positive

            def at(self, step):
                return self.peak * jnp.minimum(step / self.warmup_steps, jnp.sqrt(self.warmup_steps / step))

    In `at`, the step and all fields are scalars of one float dtype. Steps are floats there, also those given as
    arguments: a hypergradient with respect to `decay_steps` exists. (float32 rounds steps above 2^24; gradtx's own
    schedules count from their beginnings before that.)
    """

    describes = "a schedule (a function of the step)"

    def at(self, step: jax.Array) -> Number:
        """The value at a step, a float; the first update's is 0."""
        if type(self)._value is not Schedule._value:
            return self._value(Step.of(step, jnp.result_type(step)))
        raise NotImplementedError(f"{type(self).__name__} has no method `at(self, step)`")

    def _value(self, step: Step) -> Number:
        """The value at a step that is still exact, for schedules whose numbers of steps may be large."""
        return step.numbers(self).at(step.value)

    def __call__(self, count: ArrayLike) -> jax.Array:
        """The value at step `count` (0 for the first update); a scalar of rank 0.

        An integer count gives the default float dtype; a floating one keeps its own, and every number of the
        schedule is brought to it.
        """
        dtype = jnp.result_type(count)
        return self._at(count, dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float))

    def _at(self, count: ArrayLike, dtype: DTypeLike) -> jax.Array:
        """The value at `count`, in `dtype`."""
        # A plain function inside gets the step that the caller has, and may ask for its value.
        if any(isinstance(inside, _Function) for _, inside in walk(self)):
            return _evaluate(self, count, dtype)
        if isinstance(count, (int, np.integer)):  # which may be more than JAX's integers hold
            count = np.int32(count) if abs(int(count)) < 2**31 else np.dtype(dtype).type(count)
        is_large = any(type(leaf) is float and leaf > _COUNTABLE for leaf in jax.tree.leaves(self))
        return _evaluate_compiled(jax.tree.map(_exact, self) if is_large else self, count, dtype)

    @classmethod
    def coerce(cls, value: object) -> Schedule | None:
        """A plain callable as a schedule; `None` for what cannot be called, or is a class or a transformation."""
        if not callable(value) or isinstance(value, (type, PyTreeNode)):
            return None
        numbers = jax.tree.leaves(value)
        has_numbers = all(isinstance(leaf, (int, float)) or hasattr(leaf, "dtype") for leaf in numbers)
        try:
            return _Module(value) if numbers and has_numbers else _Function(value)
        except TypeError as error:
            hint = "Make its class a gradtx.Schedule, with fields and a method `at`, or a frozen dataclass"
            raise TypeError(f"{value!r} as a schedule: {error}. {hint}") from error


roots.append(Schedule)


def _exact(leaf: Any) -> Any:
    """A whole number of steps that float32 does not have goes into a compiled function as an integer."""
    return np.int32(leaf) if type(leaf) is float and _COUNTABLE < leaf < 2**31 and leaf.is_integer() else leaf


def _evaluate(schedule: Schedule, count: ArrayLike, dtype: DTypeLike) -> jax.Array:
    # The barrier hides that numbers are constants, where they are: XLA would divide by one as it multiplies by its
    # reciprocal (41 / 41 is then .99999994), and a schedule would differ between a step that closes over it and others.
    schedule, step = jax.lax.optimization_barrier((jax.tree.map(jnp.asarray, schedule), Step.of(count, dtype)))
    return jnp.asarray(schedule._value(step)).astype(dtype)


# One compiled call in an update that nobody jitted, and one trace for all schedules of a structure.
_evaluate_compiled = jax.jit(_evaluate, static_argnames="dtype", inline=True)


class _Function(Schedule):
    """A plain function of the integer count as a schedule. Static: the numbers in it are fixed."""

    function: Callable

    def __call__(self, count: ArrayLike) -> jax.Array:
        return jnp.asarray(self.function(count))

    def _value(self, step: Step) -> jax.Array:
        return self(step.value)

    def _at(self, count: ArrayLike, dtype: DTypeLike) -> jax.Array:
        return jnp.asarray(self.function(count)).astype(dtype)

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))


class _Module(_Function):
    """A callable that is a tree of numbers (a `jax.tree_util.Partial`, a module of Equinox) as a schedule: data."""

    function: Data


ScalarOrSchedule: TypeAlias = Annotated[Number | Schedule | Callable[[Any], Any], "data"]
LearningRate: TypeAlias = Annotated[
    Number | Schedule | Callable[[Any], Any],
    "data",
    Range(
        "a finite number >= 0",
        low=0.0,
        hint="The step goes against the gradient already: a positive one descends.",
    ),
]


def value_at(name: str, value: ScalarOrSchedule, count: ArrayLike, dtype: DTypeLike) -> Any:
    """The hyperparameter `name`, which may be scheduled, at step `count`: a scalar of `dtype`."""
    now = value._at(count, dtype) if isinstance(value, Schedule) else scalar(cast(Number, value), dtype)
    check_rank(name, now)
    return now
