"""Schedules as data: functions of the step whose shape is a pytree of numbers."""

import functools
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, cast, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .arguments import Number, Range, Scalar
from .checks import check_rank
from .configured import Configured, configured

P = ParamSpec("P")
Step = Callable[[jax.Array], Number]


class Schedule(Configured):
    """A function of the step, `schedule(count)`, whose numbers are data.

    Steps are floats inside, also those given as arguments: a hypergradient with respect to `decay_steps` exists.
    """

    __slots__ = ()
    describes = "a schedule (a function of the step)"

    def __call__(self, count: ArrayLike) -> jax.Array:
        """The value at step `count` (0 for the first update); a scalar of rank 0.

        An integer count gives the default float dtype; a floating one keeps its own, and every number of the
        schedule is brought to it.
        """
        if self._factory.constructor is foreign_schedule:
            return jnp.asarray(self._run()(count))
        step = jnp.asarray(count)
        if not jnp.issubdtype(step.dtype, jnp.floating):
            step = step.astype(jnp.result_type(float))
        numbers = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(step.dtype), self)
        return jnp.asarray(numbers._run()(step)).astype(step.dtype)

    @classmethod
    def adopt(cls, value: Any) -> "Schedule | None":
        """A plain callable as a static node; `None` for what cannot be called, or is a transformation."""
        if not callable(value) or isinstance(value, (type, Configured)) or hasattr(value, "factory"):
            return None
        return foreign_schedule(value)


ScalarOrSchedule = Annotated[Scalar | Schedule | Callable[[Any], Any], "data"]
LearningRate = Annotated[
    ScalarOrSchedule,
    Range(
        "a finite number >= 0",
        low=0.0,
        mend="The step goes against the gradient already: a positive one descends.",
    ),
]


@overload
def schedule(function: Callable[P, Step]) -> Callable[P, Schedule]: ...
@overload
def schedule(
    *, name: str | None = None, check: Callable[..., None] | None = None
) -> Callable[[Callable[P, Step]], Callable[P, Schedule]]: ...
def schedule(function: Any = None, *, name: str | None = None, check: Callable[..., None] | None = None) -> Any:
    """Make calls of a factory of schedules into data.

    The factory's body takes numbers and returns `step -> value`. When the schedule is called, the body gets its
    numbers as scalars of the step's float dtype, so that its arithmetic needs no conversion.

    Args:
        function: The factory; parameters are annotated as for `transformation`.
        name: The name in saved configurations. Default: module and function name.
        check: A function of the arguments by name that raises where they do not fit each other. It is called when
            they are given and concrete.

    Raises:
        TypeError: A parameter's annotation does not decide between data and static.
    """
    if function is None:
        return functools.partial(configured, Schedule, name=name, check=check)
    return configured(Schedule, function, name, check)


@schedule
def foreign_schedule(function: Callable) -> Step:
    """Somebody else's schedule, a plain function of the integer count, as a static node."""
    return function


def value_at(name: str, value: ScalarOrSchedule, count: jax.Array | np.ndarray, dtype: DTypeLike) -> jax.Array:
    """The hyperparameter `name`, which may be scheduled, at step `count`: a scalar of `dtype`."""
    if not isinstance(value, Schedule):
        check_rank(name, value)
        return jnp.asarray(cast(Number, value)).astype(dtype)
    foreign = value._factory.constructor is foreign_schedule
    current = value(count if foreign else count.astype(dtype)).astype(dtype)
    check_rank(name, current)
    return current
