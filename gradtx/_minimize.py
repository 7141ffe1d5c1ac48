"""Minimise a function to convergence, in one compiled loop that says why it stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from ._core.chain import chain
from ._core.contract import GradientTransformation
from ._curvature.implicit import minimum_tangent
from ._linesearch.from_state import last_linesearch_state, linesearch_states
from ._linesearch.search import MessageEnum, Outcome
from ._manual_axes import while_loop
from ._objective import check_number, value_and_gradient
from ._program import Program, compiled, traced
from ._trees.apply import apply_updates
from ._trees.checks import checked_leaves
from ._trees.precision import cast_like, scalar, step_dtype
from ._trees.vectors import max_abs
from ._types import Count, OptState, Params, PyTree, ScalarArray, Updates

Objective: TypeAlias = Callable[..., jax.Array]
Programs: TypeAlias = tuple[Program, ...]
Constants: TypeAlias = list[list[Any]]
Given: TypeAlias = tuple[Constants, tuple[Any, ...]]
"""All that an objective depends on beside params: what it has closed over, and `args`."""


@dataclasses.dataclass(frozen=True)
class CompositeLoss:
    """An objective in two parts, `(params, *args) -> loss(outputs(params, *args), *args)`, for Gauss-Newton methods.

    Args:
        outputs: The model: `(params, *args) -> outputs`.
        loss: `(outputs, *args) -> value`.
    """

    outputs: Callable[..., Any]
    loss: Objective

    def __call__(self, params: Params, *args: object) -> jax.Array:
        """The objective."""
        return self.loss(self.outputs(params, *args), *args)


class Reason(MessageEnum):
    """Why a minimisation stopped. `message` says it in words."""

    RUNNING = 0, "it has not stopped"
    CONVERGED = 1, "the largest entry of the gradient is at most `tol`"
    MAX_STEPS = 2, "`max_steps` were taken; it may go on from where it is"
    NOT_FINITE = 3, "the objective or its gradient is NaN or infinite"
    NO_DESCENT = 4, "the optimizer's direction is no descent direction"
    FAILED = 5, "the line search found no lower point; often, the objective's own rounding is in the way"
    UNBOUNDED = 6, "the objective fell as steeply as at first as far as the line search could look"


MOST_STEPS = np.iinfo(np.int32).max
"""Steps are counted in 32 bits."""
_BY_OUTCOME = {
    Outcome.FAILED: Reason.FAILED,
    Outcome.NO_DESCENT: Reason.NO_DESCENT,
    Outcome.UNBOUNDED: Reason.UNBOUNDED,
}


class MinimizeResult(NamedTuple):
    """What `minimize` found. Under `vmap`, every field has an entry for each lane."""

    params: Params
    """Where it stopped."""
    value: ScalarArray
    """The objective there."""
    grad: Updates
    """Its gradient there."""
    state: OptState
    """The optimizer's state."""
    steps: Count
    """Updates taken."""
    evaluations: Count
    """Evaluations of the objective, with its gradient (or without, by a line search that needs none)."""
    reason: Count
    """Why it stopped, a `Reason`."""


def minimize(
    fun: Objective,
    params: Params,
    tx: GradientTransformation | tuple[Callable[..., Any], ...],
    *,
    args: tuple[Any, ...] = (),
    max_steps: ArrayLike = 1000,
    tol: ArrayLike = 1e-5,
) -> MinimizeResult:
    """Take steps until the gradient is small, nothing more can be gained, or `max_steps` are taken.

    One compiled `while_loop`. Where the optimizer's last stage is a line search that keeps the gradient, its
    evaluations serve the next step too. Under `vmap`, a lane that has stopped stays as it is while others go on.

    `fun` is traced at each call, and what was compiled is used again for an objective that does the same. What it
    closes over counts as `args` do.

    Derivatives of `params` and `value` are those of the minimum as a function of `args`, in forward and reverse mode,
    by one linear system with the Hessian; they do not depend on the start, `tx` or `tol`, and are of no use where
    nothing has converged. (Inside `jax.shard_map` in forward mode only.)

    >>> import jax.numpy as jnp, gradtx
    >>> found = gradtx.minimize(lambda x: jnp.sum((x - 3.0) ** 2), jnp.zeros(2), gradtx.lbfgs())
    >>> found.params, gradtx.Reason(int(found.reason)).name
    (Array([3., 3.], dtype=float32), 'CONVERGED')

    Args:
        fun: A pure function `(params, *args) -> value`, real and differentiable; or a `CompositeLoss`.
        params: Where to begin: a tree of floating arrays.
        tx: Any transformation, or a pair of functions such as optax's, which is told from others by its identity: make
            it once. It gets `value`, `grad` and `value_fn` as extra
            arguments; for a `CompositeLoss` also `outputs_fn` and `loss_fn`.
        args: What else `fun` takes (data).
        max_steps: How many at most.
        tol: On the largest absolute entry of the gradient. Unit: the gradient's.

    Raises:
        TypeError: if `fun` does not return one real number, `tx` is no pair, `args` no tuple, or `max_steps` not whole;
            or for what the optimizer refuses.
        ValueError: if `max_steps` or `tol` is an array of several numbers, or `tol` is negative or NaN.
    """
    _check(fun, args, max_steps, tol)
    checked_leaves(params, "params")
    whole = tx if isinstance(tx, GradientTransformation) else chain(tx)
    programs, constants = _traced(fun, params, args)
    found = compiled(_minimize, *programs)
    most = max_steps if isinstance(max_steps, Tracer) else min(int(cast(int, max_steps)), MOST_STEPS)
    return found((constants, args), params, whole, jnp.asarray(most, jnp.int32), jnp.asarray(tol))


def _check(fun: object, args: object, max_steps: Any, tol: Any) -> None:
    if not callable(fun):
        raise TypeError(f"minimize: fun must be a function (params, *args) -> value, got {fun!r}")
    if not isinstance(args, tuple):
        raise TypeError(f"minimize: args must be a tuple, got {type(args).__name__}; write args=(data,) for one")
    for name, value in (("max_steps", max_steps), ("tol", tol)):
        if np.shape(value) != ():
            raise ValueError(
                f"minimize: {name} has shape {np.shape(value)}, expected one number; for several at once, map over it "
                "with jax.vmap"
            )
    for name, value in (("max_steps", max_steps), ("tol", tol)):
        if isinstance(value, bool) or not (isinstance(value, (int, float, complex)) or hasattr(value, "dtype")):
            raise TypeError(f"minimize: {name} must be a number, got {value!r}")
    if not jnp.issubdtype(jnp.result_type(max_steps), jnp.integer):
        raise TypeError(f"minimize: max_steps must be a whole number, got {max_steps!r}")
    if not isinstance(max_steps, Tracer) and max_steps < 0:
        raise ValueError(f"minimize: max_steps must be at least 0, got {max_steps!r}")
    if jnp.issubdtype(jnp.result_type(tol), jnp.complexfloating):
        raise TypeError(f"minimize: tol must be a real number, got {tol!r}")
    if not isinstance(tol, Tracer) and not tol >= 0:  # NaN is not either
        raise ValueError(f"minimize: tol must be at least 0, got {tol!r}")


def _traced(fun: Objective, params: Params, args: tuple[Any, ...]) -> tuple[Programs, Constants]:
    """The objective as programs, one or the two of a `CompositeLoss`, and what they have closed over."""
    parts, constants, given = [], [], params
    for function in (fun.outputs, fun.loss) if isinstance(fun, CompositeLoss) else (fun,):
        program, closed, given = traced(function, given, *args)
        parts, constants = [*parts, program], [*constants, closed]
    check_number("minimize: what fun returns", given)
    return tuple(parts), constants


def _objective(programs: Programs, params: Params, given: Given) -> jax.Array:
    (constants, args), out = given, params
    for program, closed in zip(programs, constants, strict=True):
        out = program(closed, out, *args)
    return jnp.asarray(out)


def _minimize(programs: Programs, given: PyTree, *rest: PyTree) -> MinimizeResult:
    """A minimum, found by `_loop`, which is constant to derivatives, and then given the minimum's own."""
    found = _loop(programs, *jax.lax.stop_gradient((given, *rest)))
    at, value = _minimum(programs, found.params, found.value, given)
    return found._replace(params=at, value=value)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _minimum(programs: Programs, params: Params, value: ScalarArray, given: PyTree) -> tuple[Params, ScalarArray]:
    """Both as they are, with the derivatives of a minimum by what is given."""
    return params, value


@_minimum.defjvp
def _minimum_jvp(programs: Programs, primals: PyTree, tangents: PyTree) -> Any:
    given = primals[2]
    params, value = _minimum(programs, *primals)  # which has derivatives itself, for second ones
    objective = partial(_objective, programs)
    moved = minimum_tangent(objective, params, given, tangents[2])
    _, slope = jax.jvp(objective, (params, given), (moved, tangents[2]))
    return (params, value), (moved, slope.astype(value.dtype))


def _loop(
    programs: Programs,
    given: Given,
    params: Params,
    tx: GradientTransformation,
    max_steps: jax.Array,
    tol: jax.Array,
) -> MinimizeResult:
    dtype, more, (constants, args) = step_dtype(params), {}, given
    if len(programs) > 1:
        outputs, loss = (partial(*both) for both in zip(programs, constants, strict=True))
        more = {"outputs_fn": lambda params: outputs(params, *args), "loss_fn": lambda out: loss(out, *args)}

    def objective(params: Params) -> jax.Array:
        return _objective(programs, params, given)

    def evaluate(params: Params, state: OptState) -> tuple[jax.Array, Updates]:
        return value_and_gradient(objective)(tx.gradient_params(params, state))

    def judged(now: MinimizeResult) -> MinimizeResult:
        steepest = max_abs(now.grad).astype(dtype)
        # In rising order: of several that hold, the last one counts. A search that has failed in the last step says
        # more than that it was the last one.
        verdicts = {
            Reason.MAX_STEPS: (now.reason == Reason.RUNNING) & (now.steps >= max_steps),
            Reason.CONVERGED: steepest <= scalar(tol, dtype),
            Reason.NOT_FINITE: ~(jnp.isfinite(now.value) & jnp.isfinite(steepest)),
        }
        reason = now.reason
        for verdict, holds in verdicts.items():
            reason = jnp.where(holds, verdict, reason)
        return now._replace(reason=reason.astype(jnp.int32))

    def step(now: MinimizeResult) -> MinimizeResult:
        updates, state = tx.update(
            now.grad, now.state, now.params, value=now.value, grad=now.grad, value_fn=objective, **more
        )
        params, steps, reason = apply_updates(now.params, updates), now.steps + 1, now.reason
        evaluations = 1 + sum((search.evaluations for search in linesearch_states(tx, state)), jnp.zeros([], jnp.int32))
        last = last_linesearch_state(tx, state)
        if last is not None and last.grad is not None:
            value, grad = last.value, last.grad
        else:
            value, grad = evaluate(params, state)
            evaluations += steps
        if last is not None:
            for outcome, why in _BY_OUTCOME.items():
                reason = jnp.where(last.outcome == outcome, why, reason)
            # Within rounding of where it was, and not flatter: at a kink it would go on like this.
            is_stuck = (last.outcome == Outcome.DECREASED) & (value.astype(dtype) >= now.value)
            reason = jnp.where(is_stuck, Reason.FAILED, reason)
        grad = cast_like(grad, now.grad)
        return judged(MinimizeResult(params, value.astype(dtype), grad, state, steps, evaluations, reason))

    state = tx.init(params)
    value, grad = evaluate(params, state)
    zero = jnp.zeros([], jnp.int32)
    start = judged(MinimizeResult(params, value.astype(dtype), grad, state, zero, zero + 1, zero))
    return while_loop(lambda now: now.reason == Reason.RUNNING, step, start)
