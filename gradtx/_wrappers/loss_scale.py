r"""Dynamic loss scaling: gradients in half precision that neither vanish nor overflow."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from .._core.contract import GradientTransformation
from .._core.fields import OneOrMore, Positive, Range
from .._manual_axes import vary_with
from .._maths import safe_increment
from .._trees.checks import check_rank
from .._trees.map import map_leaves, scaled
from .._trees.precision import cast_like, scalar, step_dtype, widen
from .._types import Count, Number, OptState, Params, ScalarArray, Updates
from ._choose import all_finite, update_and_keep
from .guard import counted

Shrinkage: TypeAlias = Annotated[Number, "data", Range("in (0, 1]", low=0.0, low_open=True, high=1.0, high_open=False)]


class DynamicLossScaleState(NamedTuple):
    """State of `dynamic_loss_scale`."""

    scale: ScalarArray
    """What to multiply the next loss by."""
    finite_in_a_row: Count
    """Finite gradients since the scale last changed."""
    total_notfinite: Count
    """Steps that were left out."""
    inner_state: OptState
    """The inner state."""

    def _report(self) -> dict[str, Any]:
        return {"loss_scale": self.scale, "total_notfinite": self.total_notfinite}


class dynamic_loss_scale(GradientTransformation):
    r"""Undo the scale of a loss, and adapt it: up after many finite gradients, down after one that is not.

    Gradients below 6e-8 are 0 in float16, and above 65,504 infinite. So the loop multiplies its loss:

        def scaled_loss(params, batch):
            return gradtx.loss_scale(state) * loss(params, batch)

        updates, state = tx.update(jax.grad(scaled_loss)(params, batch), state, params)

    Updates are divided by the scale in float32, before what is inside sees them. A gradient that is not finite makes
    no step: updates are 0, and the state inside stays the same to the bit.

    Extra arguments (`value`, `grad`) are handed on as they are: give them in their own unit, not scaled.

    State: the scale, float32 (float64 for 64-bit parameters), and two counts, beside the inner state.
    Units: as the inner updates. Any scale gives the same steps but for rounding; derivatives take it for a constant.

    Args:
        inner: The transformation to feed.
        init_scale: The first scale.
        growth_interval: Finite gradients in a row after which the scale grows, at least 1. It does not where it would
            become infinite.
        growth_factor: By what, at least 1.
        backoff_factor: What the scale is multiplied by after a gradient that is not finite, in (0, 1].
        min_scale: The least scale.

    Raises:
        ValueError: if a number is outside its range.

    Source: Micikevicius et al., 2018; names and defaults as PyTorch's `GradScaler` (its first scale is 2^16), the
    least scale as jmp's.
    """

    inner: GradientTransformation
    init_scale: Positive = 2.0**15
    growth_interval: OneOrMore = 2000.0
    growth_factor: OneOrMore = 2.0
    backoff_factor: Shrinkage = 0.5
    min_scale: Positive = 1.0

    def init(self, params: Params) -> DynamicLossScaleState:
        check_rank("init_scale", self.init_scale)
        scale = jnp.asarray(scalar(self.init_scale, step_dtype(params)))
        # A copy: an array that is a hyperparameter is not the state's.
        own = (jax.lax.stop_gradient(jnp.array(scale, copy=True)), jnp.zeros([], jnp.int32), jnp.zeros([], jnp.int32))
        return vary_with(DynamicLossScaleState(*own, self.inner.init(params)), params)

    def update(
        self, updates: Updates, state: DynamicLossScaleState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, DynamicLossScaleState]:
        is_finite = all_finite(updates)
        unscaled = map_leaves(scaled, {"updates": widen(updates)}, factor=1 / state.scale)
        new, inner_state = update_and_keep(is_finite, self.inner, unscaled, state.inner_state, params, extra)
        scale, count = self._adapted(state, is_finite)
        return cast_like(new, updates), DynamicLossScaleState(
            scale,
            count,
            counted(state.total_notfinite, ~is_finite),
            inner_state,
        )

    def _adapted(self, state: DynamicLossScaleState, is_finite: jax.Array) -> tuple[ScalarArray, Count]:
        dtype = state.scale.dtype
        names = ("growth_interval", "growth_factor", "backoff_factor", "min_scale")
        for name in names:
            check_rank(name, getattr(self, name))
        interval, growth, backoff, least = (scalar(getattr(self, name), dtype) for name in names)
        count = jnp.where(is_finite, safe_increment(state.finite_in_a_row), jnp.zeros_like(state.finite_in_a_row))
        is_due = is_finite & (count.astype(dtype) >= interval)
        larger, smaller = growth * state.scale, jnp.maximum(backoff * state.scale, least)
        larger = jnp.where(jnp.isfinite(larger), larger, state.scale)
        scale = jnp.where(is_finite, jnp.where(is_due, larger, state.scale), smaller)
        return jax.lax.stop_gradient(scale), jnp.where(is_due, jnp.zeros_like(count), count)


def loss_scale(state: OptState) -> jax.Array:
    """What a loop multiplies its loss by: the scale of the `dynamic_loss_scale` in a state, however nested.

    Args:
        state: What `init` or the last `update` returned.

    Raises:
        ValueError: if there is none in the state, or several.
    """
    found = _scales(state)
    if len(found) != 1:
        raise ValueError(
            f"loss_scale: the state has {len(found) or 'no'} scales, expected that of one gradtx.dynamic_loss_scale"
        )
    return jnp.asarray(found[0])  # `nnx.Optimizer` keeps it in a variable


def _scales(state: OptState) -> list[Any]:
    def is_one(node: object) -> bool:
        return isinstance(node, DynamicLossScaleState)

    nodes = [node for node in jax.tree.leaves(state, is_leaf=is_one) if is_one(node)]
    return [scale for node in nodes for scale in (node.scale, *_scales(node.inner_state))]
