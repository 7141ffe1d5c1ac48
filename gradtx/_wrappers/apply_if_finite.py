r"""Ignore gradients that are not finite, a number of times."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._core.contract import GradientTransformation
from .._core.fields import NonNegative
from .._manual_axes import vary_with
from .._maths import safe_increment
from .._trees.checks import check_rank
from .._trees.precision import scalar
from .._types import Count, OptState, Params, Updates
from ._choose import all_finite, update_and_keep


class ApplyIfFiniteState(NamedTuple):
    """State of `apply_if_finite`."""

    notfinite_count: Count
    """Gradients in a row that were not finite and were ignored."""
    last_finite: Bool[Array, ""]
    """Whether the last gradient was finite."""
    total_notfinite: Count
    """Gradients that were not finite."""
    inner_state: OptState
    """The inner state."""

    def _report(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._fields[:3]}


class apply_if_finite(GradientTransformation):
    """Ignore gradients with an infinite or NaN entry, up to so many in a row.

    A gradient that is ignored changes nothing: updates are 0, and the state inside stays the same to the bit. After
    `max_consecutive_errors` of them in a row the next is let through, which shows in the loss, and counting begins
    anew. (`guard` never lets one through, and says so in its state.)

    State: two counts and a bool, beside the inner state.
    Units: as the inner updates.

    Args:
        inner: The transformation to guard.
        max_consecutive_errors: How many in a row to ignore; 0 ignores none.

    Raises:
        ValueError: if `max_consecutive_errors` is negative.

    Differs from optax: `notfinite_count` is 0 again once one was let through
    ([#1746](https://github.com/google-deepmind/optax/pull/1746)); there, all that follow are let through, too.
    """

    inner: GradientTransformation
    max_consecutive_errors: NonNegative

    def init(self, params: Params) -> ApplyIfFiniteState:
        in_a_row, total = (jnp.zeros([], jnp.int32) for _ in range(2))
        return vary_with(ApplyIfFiniteState(in_a_row, jnp.ones([], bool), total, self.inner.init(params)), params)

    def update(
        self, updates: Updates, state: ApplyIfFiniteState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, ApplyIfFiniteState]:
        dtype = jnp.result_type(float)
        check_rank("max_consecutive_errors", self.max_consecutive_errors)
        is_finite = all_finite(updates)
        count = jnp.where(is_finite, jnp.zeros_like(state.notfinite_count), safe_increment(state.notfinite_count))
        gives_up = count.astype(dtype) > scalar(self.max_consecutive_errors, dtype)
        is_taken = is_finite | gives_up
        new, inner_state = update_and_keep(is_taken, self.inner, updates, state.inner_state, params, extra)
        return new, ApplyIfFiniteState(
            jnp.where(gives_up, jnp.zeros_like(count), count),
            is_finite,
            jnp.where(is_finite, state.total_notfinite, safe_increment(state.total_notfinite)),
            inner_state,
        )
