r"""Latest weight averaging (LAWA): the mean of the last few checkpoints."""

from __future__ import annotations

import functools
from dataclasses import KW_ONLY
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import GradientTransformation
from .._core.fields import AtLeastOne, DType, NonNegative
from .._maths import safe_increment
from .._trees.apply import moved
from .._trees.map import copies_of
from .._trees.vectors import completed, present
from .._types import Count, OptState, Params, PyTree, Updates
from .period import Period, taken


@functools.partial(jax.jit, inline=True)
def _put(checkpoints: jax.Array, params: jax.Array, slot: Count, due: jax.Array) -> jax.Array:
    """The checkpoints of one parameter with a new one in its slot; only that slot is read and written."""
    old = jax.lax.dynamic_index_in_dim(checkpoints, slot, keepdims=False)
    new = jnp.where(due, jnp.asarray(params).astype(checkpoints.dtype), old)
    return jax.lax.dynamic_update_index_in_dim(checkpoints, new, slot, 0)


@functools.partial(jax.jit, inline=True)
def _mean(checkpoints: jax.Array, params: jax.Array, number: Count) -> jax.Array:
    """The mean of the slots that are filled; `params` where none is."""
    k, dtype = checkpoints.shape[0], checkpoints.real.dtype
    filled = jnp.minimum(number, k)
    keep = (jnp.arange(k, dtype=np.int32) < filled.astype(np.int32)).reshape(k, *[1] * (checkpoints.ndim - 1))
    # About the first, so that the mean of a constant is that constant.
    first = checkpoints[:1]
    rest = jnp.sum(jnp.where(keep, checkpoints - first, 0), axis=0) / jnp.maximum(filled, 1).astype(dtype)
    return jnp.where(filled > 0, (first[0] + rest).astype(params.dtype), params)


class LawaState(NamedTuple):
    """State of `lawa`."""

    count: Count
    """Number of updates."""
    number: Count
    """Number of checkpoints so far; the last `k` of them are there."""
    checkpoints: PyTree
    """The last checkpoints of each parameter, along a leading axis of `k`, as a ring."""
    inner_state: OptState
    """State of what is inside."""


class lawa(GradientTransformation):
    r"""Keep the last `k` checkpoints, and evaluate at their mean (latest weight averaging).

    $$\bar\theta_t = \frac1k \sum_{j<k} \theta_{m(n-j)}, \qquad n = \lfloor t/m \rfloor$$

    $\theta_s$ are the parameters that the s-th step leads to, or the `eval_params` of what is inside. Before there are
    `k` checkpoints it is the mean of those that there are, and before the first the newest point.

    State: `count` and `number`, int32; `checkpoints`, **k copies** of `params` (float32 for half-precision params);
    and `inner_state`. `average` and `tail_average` have one copy. Needs `params`. In a chain it comes last.
    Units: the average is in the parameters'.

    Args:
        inner: What makes the steps.
        k: How many checkpoints, at least 1.
        every: m, how many updates from one to the next. Rounded to a whole number.
        start_step: How many updates to leave out at first.
        accumulator_dtype: The dtype of `checkpoints`, in place of the parameters' (float32 for half precision).

    Raises:
        ValueError: if `k` or `every` is less than 1, or `start_step` is negative.

    Source: Kaddour, Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest Weight Averaging, 2022
    (https://arxiv.org/abs/2209.14981), with one checkpoint an epoch.
    """

    _owns_step = True

    inner: GradientTransformation
    k: AtLeastOne
    every: Period
    _: KW_ONLY
    start_step: NonNegative = 0.0
    accumulator_dtype: DType = None

    def init(self, params: Params) -> LawaState:
        def ring(leaf: jax.Array) -> jax.Array:
            return jnp.broadcast_to(leaf[None], (self.k, *leaf.shape))

        # Of the parameters and not zeros: what has no gradient when its slot is written keeps what is there.
        checkpoints = jax.tree.map(ring, copies_of(params, self.accumulator_dtype))
        zero = jnp.zeros([], jnp.int32)
        return LawaState(zero, jnp.zeros_like(zero), checkpoints, self.inner.init(params))

    def update(self, updates: Updates, state: LawaState, params: Params, **extra: object) -> tuple[Updates, LawaState]:
        updates, inner_state = self.inner.update(updates, state.inner_state, params, **extra)
        count = safe_increment(state.count)
        due = taken(count, self.start_step, self.every).due
        point = present(self.inner.eval_params(moved(params, updates), inner_state), updates)
        slot = state.number % self.k
        written = jax.tree.map(lambda p, ring: _put(ring, p, slot, due), point, present(state.checkpoints, updates))
        checkpoints = completed(written, state.checkpoints)
        number = jnp.where(due, safe_increment(state.number), state.number)
        return updates, LawaState(count, number, checkpoints, inner_state)

    def eval_params(self, params: Params, state: OptState) -> Params:
        params = self.inner.eval_params(params, state.inner_state)
        return jax.tree.map(lambda p, ring: _mean(ring, jnp.asarray(p), state.number), params, state.checkpoints)
