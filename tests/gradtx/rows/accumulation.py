"""Rows of what gathers updates."""

from __future__ import annotations

import dataclasses
from typing import Any

import optax

import gradtx

from ..row import Row, falling
from ..wrapped import around


def gathered(inner: Any) -> Any:
    return gradtx.accumulate(inner, every=2)


@dataclasses.dataclass(frozen=True)
class OptaxMultiSteps:
    """optax's, whose accumulator is float32 unless it is told otherwise."""

    opt: Any
    every_k_schedule: Any
    use_grad_mean: bool = True

    @property
    def pair(self) -> Any:
        """optax's object."""
        return optax.MultiSteps(self.opt, int(self.every_k_schedule), self.use_grad_mean, accumulator_dtype="float64")

    def init(self, params: Any) -> Any:
        """optax's state."""
        return self.pair.init(params)

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        """optax's update."""
        return self.pair.update(updates, state, params)


SLOWER = gradtx.linear_schedule(1.0, 3.0, 4)

ROWS = (
    Row("accumulate", factory=lambda: gradtx.accumulate(gradtx.adam(0.05), every=2)),
    Row("accumulate-1", factory=lambda: gradtx.accumulate(gradtx.adam(0.05), every=1)),
    Row("accumulate-sum", factory=lambda: gradtx.accumulate(gradtx.adam(0.05), every=2, use_grad_mean=False)),
    Row("accumulate-scheduled", factory=lambda: gradtx.accumulate(gradtx.adam(0.05), every=SLOWER)),
    Row(
        "accumulate-skipping",
        factory=lambda: gradtx.accumulate(
            gradtx.adam(0.05), every=2, should_skip_update_fn=gradtx.skip_not_finite, accumulator_dtype="float32"
        ),
        refuses=("complex",),
        holds_a_function=True,
    ),
    Row(
        "MultiSteps",
        {"every_k_schedule": 3.0},
        {"opt": optax.scale_by_schedule(falling)},
        peer=OptaxMultiSteps,
        sign="keeps",
        holds_a_function=True,
    ),
    Row(
        "MultiSteps-sum",
        {"every_k_schedule": 3.0},
        {"opt": optax.scale_by_schedule(falling), "use_grad_mean": False},
        peer=OptaxMultiSteps,
        sign="keeps",
        holds_a_function=True,
    ),
    Row("apply_every", {"k": 3.0}, peer=lambda k: optax.apply_every(int(k)), sign="keeps"),
)
WRAPPED = around("accumulate", gathered)
