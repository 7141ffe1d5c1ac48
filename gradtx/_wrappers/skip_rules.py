"""Which micro-batches `accumulate` and `MultiSteps` leave out, by optax's names."""

from __future__ import annotations

from typing import TypedDict

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, Int

from .._maths import abs_sq
from .._trees.precision import scalar
from .._trees.vectors import map_reduce
from .._types import Count, Leaf, Params, ScalarArray, Updates
from ._choose import Condition


class NotFinite(TypedDict):
    """What `skip_not_finite` keeps."""

    should_skip: Condition
    num_not_finite: Count


class LargeUpdates(TypedDict):
    """What `skip_large_updates` keeps."""

    should_skip: Condition
    norm_squared: ScalarArray


def skip_not_finite(updates: Updates, gradient_step: Count, params: Params | None) -> tuple[Condition, NotFinite]:
    """Whether any entry of the updates is infinite or NaN, for `should_skip_update_fn`.

    Args:
        updates: The gradient of a micro-batch.
        gradient_step: Not looked at.
        params: Not looked at.

    Returns:
        The answer; and a dict of it, `should_skip`, and of how many entries there are, `num_not_finite`.
    """
    count = sum(map(_not_finite, jax.tree.leaves(updates)), start=jnp.zeros([], jnp.int32))
    return count > 0, {"should_skip": count > 0, "num_not_finite": count}


def skip_large_updates(
    updates: Updates, gradient_step: Count, params: Params | None, max_squared_norm: ArrayLike
) -> tuple[Condition, LargeUpdates]:
    """Whether the squared norm of the updates is not below a bound (NaN is not), for `should_skip_update_fn`.

        rule = functools.partial(gradtx.skip_large_updates, max_squared_norm=42.0)
        tx = gradtx.MultiSteps(gradtx.adam(1e-3), 4, should_skip_update_fn=rule)

    Args:
        updates: The gradient of a micro-batch.
        gradient_step: Not looked at.
        params: Not looked at.
        max_squared_norm: The bound. Unit: gradient squared.

    Returns:
        The answer; and a dict of it, `should_skip`, and of the squared norm, `norm_squared`.
    """
    norm_squared = map_reduce(_sum_of_squares, updates)
    should_skip = ~(norm_squared < scalar(max_squared_norm, norm_squared.dtype))
    return should_skip, {"should_skip": should_skip, "norm_squared": norm_squared}


@jax.jit
def _not_finite(leaf: Inexact[Array, "*shape"]) -> Int[Array, ""]:
    return jnp.sum(~jnp.isfinite(leaf), dtype=jnp.int32)


def _sum_of_squares(updates: Leaf) -> ScalarArray:
    return jnp.sum(abs_sq(updates))
