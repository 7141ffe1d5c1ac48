r"""Decoupled weight decay, on all parameters or on those that a mask selects."""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from .._core.contract import GradientTransformation
from .._core.fields import Range
from .._core.schedule import ScalarOrSchedule, value_at
from .._maths import safe_increment
from .._trees.map import map_leaves
from .._trees.precision import step_dtype
from .._types import Count, Leaf, Params, PyTree, ScalarArray, Updates
from .masks import Mask, selected

WeightDecay: TypeAlias = Annotated[ScalarOrSchedule, "data", Range("a finite number >= 0", low=0.0)]


def _decay(updates: Leaf, params: Leaf, weight_decay: ScalarArray) -> Leaf:
    return updates + weight_decay * params


class AddDecayedWeightsState(NamedTuple):
    """State of `add_decayed_weights`, for a constant decay too, so that there is one structure."""

    count: Count
    """Number of updates."""


class add_decayed_weights(GradientTransformation):
    r"""Pull parameters towards zero: $u_t = g_t + \lambda_t \theta_{t-1}$.

    Before `scale_by_learning_rate`, so that the pull is $\eta\lambda$ per step, as in AdamW of PyTorch and optax.

    State: `count`, int32. Needs `params`.
    Units: of $\lambda$: updates over parameters.

    Args:
        weight_decay: lambda >= 0, a number or a schedule.
        mask: Which parameters decay: a rule (`by_rank(2)`, `by_path("*/kernel")`), a tree of bools like `params` or a
            prefix of it, or a function from `params` to one. `None`: all.

    Raises:
        ValueError: if `weight_decay` is negative; if `mask` does not fit the tree, or selects nothing in it.

    Source: Loshchilov and Hutter, 2019. Differs: the paper multiplies lambda by the schedule, not by the rate.
    """

    weight_decay: WeightDecay = 0.0
    mask: Mask = None

    def init(self, params: Params) -> AddDecayedWeightsState:
        if self.mask is not None:
            selected(self.mask, params)
        return AddDecayedWeightsState(jnp.zeros([], jnp.int32))

    def update(
        self, updates: Updates, state: AddDecayedWeightsState, params: Params
    ) -> tuple[Updates, AddDecayedWeightsState]:
        decay = value_at("weight_decay", self.weight_decay, state.count, step_dtype(updates))
        new = AddDecayedWeightsState(safe_increment(state.count))
        if self.mask is None:
            return map_leaves(_decay, {"updates": updates}, reads={"params": params}, weight_decay=decay), new
        # A parameter that does not decay is absent from the reads; the map leaves its update as it is.
        decayed = jax.tree.map(lambda p, keep: p if keep else None, params, selected(self.mask, params))
        reads = {"params": _without(decayed, updates, params)}
        return map_leaves(_decay, {"updates": updates}, reads=reads, optional="params", weight_decay=decay), new


def _without(reads: PyTree, updates: Updates, params: Params) -> PyTree:
    """`reads` with `None` where there is no update; all `params` where the two do not fit, for the map to say how."""
    if jax.tree.structure(updates) == jax.tree.structure(reads):
        return reads
    (theirs, structure), (ours, other) = (jax.tree.flatten(t, is_leaf=lambda x: x is None) for t in (reads, updates))
    if structure != other:
        return params
    return structure.unflatten(p if u is not None else None for p, u in zip(theirs, ours, strict=True))
