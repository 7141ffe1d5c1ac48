"""Rows of the table: averages of parameters, look-ahead and schedule-free."""

from __future__ import annotations

from typing import Any

import gradtx

from ..row import Row
from ..wrapped import INNER, around

LINE = gradtx.linear_schedule(0.0, 0.1, 3)
NESTEROV = {"learning_rate": 0.7, "momentum": 0.8, "nesterov": True}


def averaging(name: str, *args: Any, **kwargs: Any) -> Any:
    """A wrapper around Adam."""

    def make(**changes: Any) -> Any:
        return getattr(gradtx, name)(gradtx.adam(0.05), *args, **{**kwargs, **changes})

    return make


def free(base: Any = None, **kwargs: Any) -> Any:
    """`schedule_free` around gradient descent."""
    return lambda **changes: gradtx.schedule_free(
        gradtx.sgd(0.05) if base is None else base, **{"learning_rate": 0.05, **kwargs, **changes}
    )


ROWS: tuple[Row, ...] = (
    Row("average", factory=averaging("average", decay=0.8)),
    Row("average-warmup", factory=averaging("average", decay=LINE, warmup=10.0)),
    Row("average-raw", factory=averaging("average", decay=0.8, debias=False, start_step=1, every=2)),
    Row("polyak_average", factory=averaging("polyak_average", every=2)),
    Row("polyak_average-power", factory=averaging("polyak_average", power=2.5)),
    Row("tail_average", factory=averaging("tail_average", fraction=0.4)),
    Row("lawa", factory=averaging("lawa", 2, 2)),
    Row("lookahead", factory=averaging("lookahead", 2, 0.4)),
    Row("lookahead-reset", factory=averaging("lookahead", 3, 0.4, reset_state=True)),
    Row("lookahead-nesterov", factory=averaging("lookahead", 2, 0.9, outer=gradtx.sgd(**NESTEROV))),
    Row("schedule_free", {"b1": 0.8, "weight_lr_power": 1.5}, factory=free()),
    Row("schedule_free-scheduled", {"b1": 0.8}, factory=free(gradtx.sgd(LINE), learning_rate=LINE, r=2.0)),
    Row("schedule_free-x", {"b1": 0.0}, factory=free(keep_x=True)),
    Row("schedule_free_sgd", {"b1": 0.8, "weight_lr_power": 1.5}, rate=0.05),
    Row("schedule_free_sgd-warmup", {"warmup_steps": 3.0, "weight_decay": 0.1}, rate=0.05),
    Row(
        "schedule_free_adamw",
        {"b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1, "weight_lr_power": 1.5},
        rate=0.05,
    ),
    Row("schedule_free_adamw-warmup", {"warmup_steps": 3.0, "b2": 0.95}, rate=0.05),
)
WRAPPED: tuple[Row, ...] = (
    *around("average", lambda tx: gradtx.average(tx, 0.8)),
    *around("polyak_average", gradtx.polyak_average),
    *around("tail_average", gradtx.tail_average),
    *around("lawa", lambda tx: gradtx.lawa(tx, 2, 2)),
    *around("lookahead", lambda tx: gradtx.lookahead(tx, 2, 0.5)),
    *around("lookahead-nesterov", lambda tx: gradtx.lookahead(tx, 2, 0.9, outer=gradtx.sgd(**NESTEROV))),
    # Around L-BFGS roundings of float32 grow beyond what the laws allow: `test_schedule_free.py` has it in float64.
    *around("schedule_free", lambda tx: gradtx.schedule_free(tx, 0.05), [row for row in INNER if row.name != "lbfgs"]),
    *around("schedule_free-x", lambda tx: gradtx.schedule_free(tx, 0.05, keep_x=True)),
)
