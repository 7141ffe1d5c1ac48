r"""Hold updates back, and let their sum through every few steps."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from .._core.contract import GradientTransformation
from .._core.fields import OneOrMore
from .._maths import safe_increment
from .._trees.checks import check_rank
from .._trees.map import map_leaves, zeros_like
from .._trees.precision import scalar, step_dtype
from .._types import Count, Leaf, Params, ScalarArray, Updates


def _apply_every(updates: Leaf, grad_acc: Leaf, is_first: ScalarArray, is_last: ScalarArray) -> tuple[Leaf, Leaf]:
    # Selected, and not multiplied by 0: an infinite sum ends with its period.
    grad_acc = jnp.where(is_first > 0, updates, grad_acc + updates)
    return jnp.where(is_last > 0, grad_acc, 0), grad_acc


class ApplyEvery(NamedTuple):
    """State of `apply_every`, by optax's name."""

    count: Count
    """Updates in the sum; 0 right after one was let through."""
    grad_acc: Updates
    """The sum, like the parameters."""


class apply_every(GradientTransformation):
    """The sum of the last `k` updates, every `k` steps; zeros in between.

    In a chain, the other stages see every step: averages of gradients are of micro-batches. `accumulate` gathers
    gradients in front of an optimizer, whose steps are then those of large batches.

    State: `count`, int32, and `grad_acc`, like `params` (float32 for half-precision params): one copy.
    Units: as the updates, k times as large. Keeps their sign.

    Args:
        k: Steps from sum to sum, at least 1.

    Raises:
        ValueError: if `k` is below 1.
    """

    _gathers = True

    k: OneOrMore = 1.0

    def init(self, params: Params) -> ApplyEvery:
        return ApplyEvery(jnp.zeros([], jnp.int32), zeros_like(params))

    def update(self, updates: Updates, state: ApplyEvery, params: Params | None = None) -> tuple[Updates, ApplyEvery]:
        dtype = step_dtype(updates)
        check_rank("k", self.k)
        count = safe_increment(state.count)
        is_last = count.astype(dtype) >= scalar(self.k, dtype)
        numbers = {"is_first": (jnp.asarray(state.count) == 0).astype(dtype), "is_last": is_last.astype(dtype)}
        updates, grad_acc = map_leaves(_apply_every, {"updates": updates, "grad_acc": state.grad_acc}, **numbers)
        return updates, ApplyEvery(jnp.where(is_last, jnp.zeros_like(count), count), grad_acc)
