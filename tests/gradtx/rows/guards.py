"""Rows of what leaves steps out."""

from __future__ import annotations

from typing import Any

import optax

import gradtx

from ..row import Row, falling
from ..wrapped import around


def first_of_three(step: Any) -> Any:
    """A condition that both libraries can take."""
    return step % 3 == 0


def with_value(params: Any, grads: Any) -> dict[str, Any]:
    """A loss that changes from step to step."""
    return {"value": gradtx.global_norm(grads)}


def guarded(inner: Any) -> Any:
    return gradtx.guard(inner, sigma=6.0, window=4, max_consecutive=2)


def scaled(inner: Any) -> Any:
    return gradtx.dynamic_loss_scale(inner, init_scale=8.0, growth_interval=3)


ROWS = (
    Row("guard", factory=lambda: gradtx.guard(gradtx.adam(0.05))),
    Row("guard-spikes", factory=lambda: guarded(gradtx.adam(0.05)), extra=with_value),
    Row("guard-updates", factory=lambda: gradtx.guard(gradtx.adam(0.05), check_updates=True)),
    Row("apply_if_finite", factory=lambda: gradtx.apply_if_finite(gradtx.adam(0.05), 2)),
    Row(
        "apply_if_finite-peer",
        {"max_consecutive_errors": 2.0},
        {"inner": optax.scale_by_schedule(falling)},
        peer=optax.apply_if_finite,
        sign="keeps",
        holds_a_function=True,
    ),
    Row("dynamic_loss_scale", factory=lambda: scaled(gradtx.adam(0.05))),
    Row(
        "conditionally_transform",
        {},
        {"inner": gradtx.ema(0.8), "should_transform_fn": first_of_three},
        sign="keeps",
        holds_a_function=True,
    ),
    Row(
        "conditionally_transform-peer",
        {},
        {"inner": optax.scale_by_schedule(falling), "should_transform_fn": first_of_three},
        peer=optax.conditionally_transform,
        sign="keeps",
        holds_a_function=True,
    ),
    Row(
        "conditionally_mask",
        factory=lambda: gradtx.conditionally_mask(gradtx.adam(0.05), first_of_three),
        holds_a_function=True,
    ),
    Row(
        "conditionally_mask-peer",
        {},
        {"inner": optax.scale_by_schedule(falling), "should_transform_fn": first_of_three},
        peer=optax.conditionally_mask,
        sign="keeps",
        holds_a_function=True,
    ),
)
WRAPPED = (
    *around("guard", guarded),
    *around("apply_if_finite", lambda inner: gradtx.apply_if_finite(inner, 2)),
    *around("dynamic_loss_scale", scaled),
    *around("conditionally_mask", lambda inner: gradtx.conditionally_mask(inner, first_of_three)),
)
