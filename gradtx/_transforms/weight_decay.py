r"""Weight decay: its arithmetic, once, and the part that pulls parameters towards zero before the learning rate.

`decay_weights` has the other conventions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._core.contract import GradientTransformation
from .._core.schedule import ScalarOrSchedule, value_at
from .._maths import safe_increment
from .._trees.map import Kernel, map_leaves
from .._trees.precision import step_dtype
from .._trees.select import only
from .._types import Count, Leaf, Params, PyTree, ScalarArray, Updates
from .decay_rules import RANGE, DecayRules
from .masks import Mask, selected

if TYPE_CHECKING:
    WeightDecay: TypeAlias = ScalarOrSchedule | DecayRules | Mapping[Any, ScalarOrSchedule]
else:
    WeightDecay: TypeAlias = Annotated[ScalarOrSchedule | DecayRules, "data", RANGE]
"""A number or a schedule for all parameters, or a dict of them by rule."""


def add_params(updates: Leaf, params: Leaf, factor: ScalarArray) -> Leaf:
    """`updates + factor * params`."""
    return updates + factor * params


def decayed(
    kernel: Kernel,
    updates: Updates,
    params: Params,
    weight_decay: Any,
    mask: Any,
    count: Count,
    multiplier: ArrayLike | None = None,
) -> Updates:
    """What `kernel(updates, params, factor)` makes of the updates of the parameters that decay.

    Args:
        kernel: A function of one leaf of each tree, and of `factor`, the multiplier times the weight decay.
        updates: Gradients or steps.
        params: The parameters.
        weight_decay: A number or schedule for all, or `DecayRules`.
        mask: Which parameters decay; `None`: all.
        count: The step at which schedules are read.
        multiplier: Of the dtype of once-per-step scalars; `None`: 1.
    """
    dtype = step_dtype(updates)

    def of(value: ScalarOrSchedule, reads: PyTree) -> Updates:
        decay = value_at("weight_decay", value, count, dtype)
        factor = decay if multiplier is None else multiplier * decay
        if reads is params:
            return map_leaves(kernel, {"updates": updates}, reads={"params": params}, factor=factor)
        # A parameter that does not decay is absent from the reads; the map leaves its update as it is.
        present = {"params": _without(reads, updates, params)}
        return map_leaves(kernel, {"updates": updates}, reads=present, optional="params", factor=factor)

    reads = params
    if mask is not None:
        reads = jax.tree.map(lambda p, keep: p if keep else None, params, selected(mask, params))
    if not isinstance(weight_decay, DecayRules):
        return of(weight_decay, reads)
    labels = weight_decay.labels(params)
    for i, value in enumerate(weight_decay.values):
        updates = of(value, only("params", reads, labels, i))
    return updates


def check_rules(weight_decay: Any, mask: Any, params: Params) -> None:
    """For `init`. Raises ValueError for a mask or rules that do not fit the parameters."""
    if mask is not None:
        selected(mask, params)
    if isinstance(weight_decay, DecayRules):
        weight_decay.labels(params)


class AddDecayedWeightsState(NamedTuple):
    """State of `add_decayed_weights`, for a constant decay too, so that there is one structure."""

    count: Count
    """Number of updates."""


class add_decayed_weights(GradientTransformation):
    r"""Pull parameters towards zero: $u_t = g_t + \lambda_t \theta_{t-1}$.

    Before `scale_by_learning_rate`, so that the pull is $\eta\lambda$ per step, as in AdamW of PyTorch and optax.
    `decay_weights` puts this and other kinds of decay around a whole optimizer.

    State: `count`, int32. Needs `params`.
    Units: of $\lambda$: updates over parameters.

    Args:
        weight_decay: lambda >= 0, a number or a schedule, or a dict of them by rule: `{"*bias": 0.0, "*": 0.1}`. A rule
            is a pattern of `by_path`, `by_rank(2)` or another function from parameters to bools; the first that
            matches a parameter is its own, and every parameter needs one.
        mask: Which parameters decay: a rule (`by_rank(2)`, `by_path("*/kernel")`), a tree of bools like `params` or a
            prefix of it, or a function from `params` to one. `None`: all.

    Raises:
        ValueError: if `weight_decay` is negative; if `mask` does not fit the tree, or selects nothing in it; if no rule
            matches a parameter.

    Source: Loshchilov and Hutter, 2019. Differs: the paper multiplies lambda by the schedule, not by the rate.
    """

    weight_decay: WeightDecay = 0.0
    mask: Mask = None

    def init(self, params: Params) -> AddDecayedWeightsState:
        check_rules(self.weight_decay, self.mask, params)
        return AddDecayedWeightsState(jnp.zeros([], jnp.int32))

    def update(
        self, updates: Updates, state: AddDecayedWeightsState, params: Params
    ) -> tuple[Updates, AddDecayedWeightsState]:
        updates = decayed(add_params, updates, params, self.weight_decay, self.mask, state.count)
        return updates, AddDecayedWeightsState(safe_increment(state.count))


def _without(reads: PyTree, updates: Updates, params: Params) -> PyTree:
    """`reads` with `None` where there is no update; all `params` where the two do not fit, for the map to say how."""
    if jax.tree.structure(updates) == jax.tree.structure(reads):
        return reads
    (theirs, structure), (ours, other) = (jax.tree.flatten(t, is_leaf=lambda x: x is None) for t in (reads, updates))
    if structure != other:
        return params
    return structure.unflatten(p if u is not None else None for p, u in zip(theirs, ours, strict=True))
