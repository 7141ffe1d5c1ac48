r"""Decoupled weight decay, on all parameters or on those that a mask names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.arguments import Range
from .._core.maths import safe_increment
from .._core.precision import step_dtype
from .._core.schedule import ScalarOrSchedule, value_at
from .._core.transformation import Transform, transformation
from .._core.tree import map_leaves

WeightDecay = Annotated[ScalarOrSchedule, Range("a finite number >= 0", low=0.0)]
Mask = Annotated[Any | Callable[[Any], Any] | None, "static"]


def _decay(updates: jax.Array, params: jax.Array, weight_decay: jax.Array) -> jax.Array:
    return updates + weight_decay * params


class AddDecayedWeightsState(NamedTuple):
    """How many updates there were; kept for a constant decay too, so that the structure is one."""

    count: jax.Array


@transformation
def add_decayed_weights(weight_decay: WeightDecay = 0.0, mask: Mask = None) -> Transform:
    r"""Pull parameters towards zero: $u_t = g_t + \lambda_t \theta_{t-1}$.

    Before `scale_by_learning_rate`, so that the pull is $\eta\lambda$ a step, as in AdamW of PyTorch and optax.

    State: `count`, int32. Needs `params`.
    Units: of $\lambda$: updates over parameters.

    Args:
        weight_decay: lambda >= 0, a number or a schedule.
        mask: Which parameters decay: a tree of bools like `params` or a prefix of it, or a function from `params`
            to one. `None`: all.

    Raises:
        ValueError: `weight_decay` is negative; `mask` does not fit the tree, or selects nothing in it.

    Source: Loshchilov and Hutter, 2019. Differs: the paper multiplies lambda by the schedule, not by the rate.
    """

    def init(params: Any) -> AddDecayedWeightsState:
        if mask is not None:
            _selected(mask, params)
        return AddDecayedWeightsState(jnp.zeros([], jnp.int32))

    def update(updates: Any, state: AddDecayedWeightsState, params: Any) -> tuple[Any, AddDecayedWeightsState]:
        decay = value_at("weight_decay", weight_decay, state.count, step_dtype(updates))
        new = AddDecayedWeightsState(safe_increment(state.count))
        if mask is None:
            return map_leaves(_decay, [updates], [decay], reads=[params]), new
        chosen = _selected(mask, params)
        # A parameter that does not decay is absent from the reads; the map leaves its update as it is.
        reads = jax.tree.map(lambda p, keep: p if keep else None, params, chosen)
        reads = _without(reads, updates)
        return map_leaves(_decay, [updates], [decay], reads=[reads], optional=1), new

    return Transform(init, update, state_type=AddDecayedWeightsState)


def _without(reads: Any, updates: Any) -> Any:
    """`reads` with `None` where there is no update; as it is where the two do not fit, for the map to say so."""
    if jax.tree.structure(updates) == jax.tree.structure(reads):
        return reads
    (theirs, structure), (ours, other) = (jax.tree.flatten(t, is_leaf=lambda x: x is None) for t in (reads, updates))
    if structure != other:
        return reads
    return structure.unflatten(p if u is not None else None for p, u in zip(theirs, ours, strict=True))


def _selected(mask: Any, params: Any) -> Any:
    """A bool for each parameter."""
    given = mask(params) if callable(mask) else mask
    for path, keep in jax.tree.leaves_with_path(given):
        if not isinstance(keep, (bool, np.bool_)) and not (
            isinstance(keep, np.ndarray) and keep.dtype == bool and keep.ndim == 0
        ):
            raise TypeError(f"mask{jax.tree_util.keystr(path)} must be True or False, got {keep!r}")
    try:
        chosen = jax.tree.map(lambda keep, part: jax.tree.map(lambda _: bool(keep), part), given, params)
    except ValueError as error:
        raise ValueError(
            f"the mask does not fit the tree: expected bools like {jax.tree.structure(params)} or a prefix of it, "
            f"got {given!r} ({error})"
        ) from None
    if jax.tree.leaves(params) and not any(jax.tree.leaves(chosen)):
        raise ValueError(f"the mask selects nothing in the tree: {given!r}. Leave the weight decay out instead")
    return chosen
