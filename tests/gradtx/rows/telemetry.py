"""Rows of what measures and changes nothing."""

from __future__ import annotations

from typing import Any

import optax

import gradtx

from ..row import Row
from ..wrapped import around


def norm(updates: Any) -> Any:
    """A measurement that both libraries can take."""
    return gradtx.global_norm(updates)


def is_long(updates: Any) -> Any:
    return gradtx.global_norm(updates) > 1.0


def observed(inner: Any) -> Any:
    return gradtx.observe(inner, groups={"matrices": gradtx.by_rank(2)})


def monitored(decay: float = 0.8) -> Any:
    return gradtx.monitor({"norm": norm, "long": gradtx.measure_with_ema(is_long, decay)})


ROWS = (
    Row("observe", factory=lambda: observed(gradtx.adam(0.05))),
    Row("observe-seldom", factory=lambda: gradtx.observe(gradtx.adam(gradtx.linear_schedule(0.1, 0.0, 10)), every=3)),
    Row("observe-clip", factory=lambda: gradtx.observe(gradtx.clip_by_global_norm(2.0))),
    Row("monitor", factory=monitored, sign="keeps", holds_a_function=True),
    Row(
        "snapshot",
        {},
        {"measure_name": "norm", "measure": norm},
        peer=optax.snapshot,
        sign="keeps",
        holds_a_function=True,
    ),
)
WRAPPED = around("observe", observed)
