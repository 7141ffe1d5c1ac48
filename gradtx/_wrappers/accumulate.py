r"""Gather the gradients of several micro-batches, and make one step of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool

from .._core.contract import GradientTransformation, Recipe
from .._core.fields import DType, Range
from .._core.paths import Path
from .._core.schedule import ScalarOrSchedule, value_at
from .._manual_axes import cond, vary_with
from .._maths import safe_divisor, safe_increment
from .._trees.map import map_leaves, zeros_like
from .._trees.precision import cast_like, restore, scalar, step_dtype, widen
from .._types import Count, Leaf, OptState, Params, PyTree, ScalarArray, Updates
from ._choose import Condition, as_condition, cast_states, compiled, zero_tree

Every: TypeAlias = Annotated[ScalarOrSchedule, "data", Range("a finite number >= 1", low=1.0)]
ShouldSkipUpdateFunction: TypeAlias = Callable[..., tuple[Any, PyTree]]
"""A function `(updates, gradient_step, params) -> (should_skip, skip_state)`: one bool, and what to keep for a log."""


class _Gathering(NamedTuple):
    """What is the same for all entries of a gradient that is gathered."""

    share: ScalarArray
    """Its weight in the mean, or in the sum."""
    is_fresh: ScalarArray
    """1 if nothing was gathered before it, else 0."""
    is_skipped: ScalarArray
    """1 if it is to be left out, else 0."""


def _mean_with(acc_grads: Leaf, updates: Leaf, share: ScalarArray, is_fresh: ScalarArray) -> Leaf:
    # Selected, and not multiplied by 0: what was gathered before may be infinite.
    return jnp.where(is_fresh > 0, updates, acc_grads + share * (updates - acc_grads))


def _sum_with(acc_grads: Leaf, updates: Leaf, share: ScalarArray, is_fresh: ScalarArray) -> Leaf:
    return jnp.where(is_fresh > 0, share * updates, acc_grads + share * updates)


def _gather(
    acc_grads: Leaf,
    updates: Leaf,
    share: ScalarArray,
    is_fresh: ScalarArray,
    is_skipped: ScalarArray,
    *,
    mean: bool,
) -> Leaf:
    new = (_mean_with if mean else _sum_with)(acc_grads, updates, share, is_fresh)
    return jnp.where(is_skipped > 0, acc_grads, new)


def _emptied(acc_grads: Leaf, updates: Leaf, is_kept: ScalarArray) -> Leaf:
    return jnp.where(is_kept > 0, acc_grads, 0)  # of the updates it matters only whether there is one


class MultiStepsState(NamedTuple):
    """State of `accumulate` and of `MultiSteps`: optax's fields, and two more."""

    mini_step: Count
    """Micro-batches gathered since the last step."""
    gradient_step: Count
    """Steps: calls of the inner update."""
    inner_opt_state: OptState
    """The inner state, which in-between calls leave alone."""
    acc_grads: Updates
    """Mean (or sum) of the gradients gathered since the last step; zeros right after one."""
    skip_state: PyTree
    """What `should_skip_update_fn` returned last beside its answer."""
    total_weight: ScalarArray
    """Weight of what is gathered: `mini_step` where no weights are given."""
    updated: Bool[Array, ""]
    """Whether the last call made a step."""

    def _report(self) -> dict[str, jax.Array]:
        return {"mini_step": self.mini_step, "gradient_step": self.gradient_step, "updated": self.updated}


class accumulate(GradientTransformation):
    r"""One step for every `every` micro-batches, with the mean of their gradients.

    $$\bar g = \frac{\sum_i w_i g_i}{\sum_i w_i}, \qquad u = 0 \;\text{in between}$$

    What is inside sees steps: its counts and schedules count them, and in between its state is untouched and its
    update is not computed (under `vmap`, where a branch becomes a selection, it is). It gets the mean in float32 for
    half precision, not rounded.

        updates, state = tx.update(grads, state, params)                                   # zeros, or a step
        updates, state = tx.update(grads, state, params, weight=len(batch), flush=is_last)

    Extra arguments of its own:
    `flush`, a bool: make a step now, of what is gathered with this micro-batch. The mean is that of as many as there
    are, so that the last, incomplete step of an epoch has the right size.
    `weight`, a number $w_i \ge 0$: of this micro-batch, for batches of unequal sizes; 1 by default.
    All others, and these two if they are given (`weight` as the sum of all), are handed on as they come with the
    micro-batch that makes a step. A line search inside gets the mean as its direction, and the `value`, `grad` and
    `value_fn` of that call: of one micro-batch, or of all of them if you give a function of all.

    State: `MultiStepsState`: one copy of the parameters (float32 for half precision) beside the inner state.
    Units: as the inner updates. At a constant `every` of 1 (not an argument of the compiled function) the copy is
    neither read nor written. An `every` that becomes 1 in the middle of a step drops what was gathered: `flush` first.
    A gradient that is `None` in a call is left alone by that call; give it in all calls of a step or in none.

    Args:
        inner: The transformation to feed.
        every: Micro-batches per step, at least 1: a number, or a schedule of `gradient_step`. A step is made as soon
            as there are so many, also where that is no whole number.
        use_grad_mean: Whether to average; otherwise gradients (times their weights) are added up.
        should_skip_update_fn: A function `(updates, gradient_step, params) -> (should_skip, skip_state)`. A
            micro-batch that it rejects is as if it had never been, but for `skip_state`. `skip_not_finite` is one.
        accumulator_dtype: The dtype of `acc_grads`, in place of the parameters' (float32 for half precision).

    Raises:
        ValueError: if `every` is below 1.
        TypeError: from `update`, if `should_skip_update_fn` does not return one bool and something to keep.

    Differs from optax's `MultiSteps`: in-between calls compute no inner update; the mean is not rounded to the
    gradients' dtype; accumulators of 64-bit parameters have 64 bits; a NaN that was gathered is gone after the step.
    """

    _gathers = True

    inner: GradientTransformation
    every: Every
    use_grad_mean: bool = True
    should_skip_update_fn: Callable[..., Any] | None = None
    _: KW_ONLY
    accumulator_dtype: DType = None

    def init(self, params: Params) -> MultiStepsState:
        kept = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), self._skip_spec(params))
        state = MultiStepsState(
            mini_step=jnp.zeros([], jnp.int32),
            gradient_step=jnp.zeros([], jnp.int32),
            inner_opt_state=self.inner.init(params),
            acc_grads=zeros_like(params, self.accumulator_dtype),
            skip_state=kept,
            total_weight=jnp.zeros([], step_dtype(params)),
            updated=jnp.zeros([], bool),
        )
        # Where devices have gradients of their own, each may skip another micro-batch.
        return state if self.should_skip_update_fn is None else vary_with(state, params)

    def update(
        self,
        updates: Updates,
        state: MultiStepsState,
        params: Params | None = None,
        *,
        flush: ArrayLike = False,
        weight: ArrayLike | None = None,
        **extra: object,
    ) -> tuple[Updates, MultiStepsState]:
        is_simple = self.should_skip_update_fn is None and (self.use_grad_mean or weight is None)
        if isinstance(self.every, float) and self.every <= 1 and is_simple:
            given = {} if flush is False else {"flush": jnp.asarray(flush, bool)}
            given |= {} if weight is None else {"weight": weight}
            return self._at_once(updates, state, params, {**extra, **given})
        every = jnp.asarray(value_at("every", self.every, state.gradient_step, state.total_weight.dtype))
        is_last, asked = jnp.asarray(flush, bool), self._asked(updates, state, params)
        extra = extra if flush is False else {**extra, "flush": is_last}
        return _update(
            self.inner, every, is_last, weight, asked, updates, state, params, extra=extra, mean=self.use_grad_mean
        )

    def has_updated(self, state: MultiStepsState) -> jax.Array:
        """Whether the last call made a step."""
        return state.updated

    def _at_once(
        self,
        updates: Updates,
        state: MultiStepsState,
        params: Params | None,
        extra: dict[str, Any],
    ) -> tuple[Updates, MultiStepsState]:
        """Every micro-batch makes a step: the same numbers, without the accumulator."""
        new, inner_state = self.inner.update(widen(updates), state.inner_opt_state, params, **extra)
        return restore(new, updates), state._replace(
            mini_step=jnp.zeros_like(state.mini_step),
            gradient_step=safe_increment(state.gradient_step),
            inner_opt_state=inner_state,
            total_weight=jnp.zeros_like(state.total_weight),
            updated=jnp.ones_like(state.updated),
        )

    def _skip_spec(self, params: Params) -> PyTree:
        """The kind of `skip_state`."""
        if self.should_skip_update_fn is None:
            return ()
        count = jax.ShapeDtypeStruct((), jnp.int32)
        return jax.eval_shape(lambda p, n: self._answer(p, n, p)[1], params, count)

    def _answer(self, updates: Updates, gradient_step: Count, params: Params | None) -> tuple[Condition, PyTree]:
        assert self.should_skip_update_fn is not None
        owner = f"{type(self).__name__}: `should_skip_update_fn`"
        answer = self.should_skip_update_fn(updates, gradient_step, params)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError(f"{owner} must return (should_skip, skip_state), a bool and what to keep; got {answer!r}")
        return as_condition(f"{owner}, of two values the first,", answer[0]), jax.tree.map(jnp.asarray, answer[1])

    def _asked(
        self, updates: Updates, state: MultiStepsState, params: Params | None
    ) -> tuple[Condition, PyTree] | None:
        if self.should_skip_update_fn is None:
            return None
        is_skipped, kept = self._answer(updates, state.gradient_step, params)
        return is_skipped, cast_like(kept, state.skip_state)

    def _inside(self, state: OptState) -> list[tuple[Path, GradientTransformation, Any]]:
        return [(("inner",), self.inner, None if state is None else state.inner_opt_state)]

    def _scheduled(self, state: OptState) -> list[tuple[Path, ArrayLike]]:
        every = value_at("every", self.every, state.gradient_step, state.total_weight.dtype)
        return [(("every",), every), *super()._scheduled(state)]


@compiled
def _update(
    inner: GradientTransformation,
    every: ScalarArray,
    flush: Condition,
    weight: ArrayLike | None,
    asked: tuple[Condition, PyTree] | None,
    updates: Updates,
    state: MultiStepsState,
    params: Params | None,
    *,
    extra: dict[str, Any],
    mean: bool,
) -> tuple[Updates, MultiStepsState]:
    dtype = state.total_weight.dtype
    is_skipped = jnp.zeros([], bool) if asked is None else asked[0]
    count = jnp.where(is_skipped, state.mini_step, safe_increment(state.mini_step))
    is_due = (~is_skipped & (count.astype(dtype) >= every)) | (flush & (count > 0))
    is_fresh = (state.mini_step == 0) | (every <= 1)
    total, gathering = _weighed(weight, is_fresh, is_skipped, state.total_weight, mean, dtype)
    numbers = {**gathering._asdict(), "mean": mean}
    handed = extra if weight is None else {**extra, "weight": total}

    def step(acc_grads: Updates, inner_state: OptState) -> tuple[Updates, OptState, Updates]:
        wide = map_leaves(_gather, {"updates": widen(updates)}, reads={"acc_grads": acc_grads}, **numbers)
        new, new_state = inner.update(wide, inner_state, params, **handed)
        # With an `every` of 1 it is not looked at, and so not written either.
        is_kept = (every <= 1).astype(dtype)
        acc_grads = map_leaves(
            _emptied, {"acc_grads": acc_grads}, reads={"updates": updates}, optional="updates", is_kept=is_kept
        )
        return cast_like(new, updates), cast_states(new_state, inner_state), acc_grads

    def rest(acc_grads: Updates, inner_state: OptState) -> tuple[Updates, OptState, Updates]:
        acc_grads = map_leaves(
            _gather, {"acc_grads": acc_grads}, reads={"updates": updates}, optional="updates", **numbers
        )
        return zero_tree(updates), inner_state, acc_grads

    new, inner_state, acc_grads = cond(is_due, step, rest, state.acc_grads, state.inner_opt_state)
    return new, MultiStepsState(
        mini_step=jnp.where(is_due, jnp.zeros_like(count), count),
        gradient_step=jnp.where(is_due, safe_increment(state.gradient_step), state.gradient_step),
        inner_opt_state=inner_state,
        acc_grads=acc_grads,
        skip_state=state.skip_state if asked is None else asked[1],
        total_weight=jnp.where(is_due, jnp.zeros_like(total), total),
        updated=is_due,
    )


def _weighed(
    weight: ArrayLike | None,
    is_fresh: Condition,
    is_skipped: Condition,
    before: ScalarArray,
    mean: bool,
    dtype: DTypeLike,
) -> tuple[ScalarArray, _Gathering]:
    """The weight of all that is gathered, and how this micro-batch goes into it."""
    own = jnp.ones([], dtype) if weight is None else scalar(weight, dtype)
    before = jnp.where(is_fresh, jnp.zeros_like(before), before)
    total = jnp.where(is_skipped, before, before + own)
    share = own / safe_divisor(total) if mean else own
    return total, _Gathering(share, is_fresh.astype(dtype), is_skipped.astype(dtype))


class MultiSteps(Recipe):
    """`accumulate` by optax's name, with its arguments and methods.

    Args:
        opt: The transformation to feed.
        every_k_schedule: Micro-batches per step, a number or a schedule of the steps.
        use_grad_mean: Whether to average; otherwise gradients are added up.
        should_skip_update_fn: As of `accumulate`.
        accumulator_dtype: As of `accumulate`; optax's default is float32 for all parameters.

    Raises:
        ValueError: if `every_k_schedule` is below 1.
    """

    opt: GradientTransformation
    every_k_schedule: Every
    use_grad_mean: bool = True
    should_skip_update_fn: Callable[..., Any] | None = None
    accumulator_dtype: DType = None

    def parts(self) -> accumulate:
        return accumulate(
            self.opt,
            self.every_k_schedule,
            self.use_grad_mean,
            self.should_skip_update_fn,
            accumulator_dtype=self.accumulator_dtype,
        )

    def has_updated(self, state: MultiStepsState) -> jax.Array:
        """Whether the last call made a step."""
        return state.updated

    def gradient_transformation(self) -> GradientTransformation:
        """This transformation itself; optax's class is none by its type."""
        return self
