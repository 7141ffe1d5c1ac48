"""Rows of the table: weight decay around optimizers."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradtx

from ..row import Row, matrices
from ..wrapped import INNER, around

RATE = gradtx.warmup_cosine_decay_schedule(0.01, 0.1, 2, 10)
OURS = [row for row in INNER if row.name != "optax"]
RULES = {gradtx.by_rank(2): 0.1, "*": gradtx.linear_schedule(0.4, 0.1, 10)}


def wrapped(weight_decay: Any = 0.1, rate: Any = RATE, **arguments: Any) -> Any:
    return gradtx.decay_weights(gradtx.adam(rate, eps=1e-3), weight_decay, **arguments)


def of_mode(name: str, **arguments: Any) -> Row:
    return Row(f"decay_weights-{name}", factory=partial(wrapped, **arguments))


ROWS: tuple[Row, ...] = (
    Row("decay_weights", factory=wrapped),
    of_mode("coupled", mode="coupled"),
    of_mode("independent", mode="independent"),
    of_mode("corrected", mode="corrected"),
    of_mode("corrected-peak", mode="corrected", rate=gradtx.linear_schedule(0.1, 0.0, 10), peak_learning_rate=0.2),
    of_mode("palm", mode="palm"),
    of_mode("proximal", mode="proximal", rate=0.05),
    of_mode("cautious", mode="cautious"),
    of_mode("own-rate", learning_rate=gradtx.linear_schedule(0.4, 0.1, 10)),
    of_mode("by-rule", weight_decay=RULES, mode="corrected"),
    of_mode("rank", mask=gradtx.by_rank(1)),
    Row("decay_weights-masked", factory=partial(wrapped, mask=matrices), holds_a_function=True),
    Row("add_decayed_weights-by-rule", {}, {"weight_decay": RULES}),
    Row("adamw-by-rule", {"b1": 0.8, "b2": 0.95, "eps": 1e-3}, {"weight_decay": RULES}, rate=0.05),
)
WRAPPED: tuple[Row, ...] = (
    *around("decay_weights-proximal", lambda inner: gradtx.decay_weights(inner, 0.1, "proximal", learning_rate=0.05)),
    # A coupled decay is differentiated through optax's Adam, whose root at 0 makes NaN of it (`test_weight_decay.py`).
    *around("decay_weights-coupled", lambda inner: gradtx.decay_weights(inner, 0.1, "coupled"), OURS),
)
