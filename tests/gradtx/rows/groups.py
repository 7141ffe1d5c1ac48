"""Rows of the table: groups of parameters, masks, and factors by rule.

States of groups have `None` where optax has a `MaskedNode`, so `test_groups.py` compares their steps with optax's.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import optax

import gradtx

from ..row import Row, matrices
from ..wrapped import around

ADAM: dict[str, Any] = {"b1": 0.8, "b2": 0.95, "eps": 1e-3}
LINE = gradtx.linear_schedule(2.0, 0.5, 10)


def by_kind(params: Any) -> Any:
    """Labels that every tree has: what has axes, and what has none."""
    return jax.tree.map(lambda leaf: "matrix" if leaf.ndim > 1 else "other", params)


def vectors(params: Any) -> Any:
    """A mask that is the opposite of `by_rank(2)`, and in both libraries may select nothing."""
    return jax.tree.map(lambda leaf: leaf.ndim < 2, params)


def labelled(lib: Any) -> Any:
    """Two groups by a function that makes labels."""
    groups = {"matrix": lib.adam(0.05, **ADAM), "other": lib.sgd(0.1, momentum=0.8)}
    return lib.partition(groups, by_kind)


def by_rules(matrix: Any, other: Any) -> Any:
    """Groups by rank; the path of a lone parameter is empty."""
    return gradtx.partition({gradtx.by_rank(2): matrix, re.compile("^never$"): gradtx.freeze(), "*": other})


def nested() -> Any:
    """Groups in a group, behind what looks at all leaves."""
    inner = gradtx.partition({gradtx.by_rank(2): gradtx.adam(0.05), "*": gradtx.nag(0.1, 0.8)})
    outer = gradtx.partition({gradtx.by_rank(1): inner, "*": gradtx.sgd(0.1)})
    return gradtx.chain(gradtx.clip_by_global_norm(1.0), outer)


ROWS: tuple[Row, ...] = (
    Row(
        "partition",
        factory=lambda: by_rules(gradtx.adam(0.05, **ADAM), gradtx.sgd(0.1, momentum=0.8)),
        quick=True,
    ),
    Row("partition-labels", factory=lambda: labelled(gradtx), holds_a_function=True),
    Row("partition-nested", factory=nested),
    Row(
        "masked",
        factory=lambda: gradtx.masked(gradtx.trace(0.8), vectors),
        holds_a_function=True,
        quick=True,
    ),
    Row("masked-rule", factory=lambda: gradtx.masked(gradtx.scale_by_adam(**ADAM), gradtx.by_rank(2)), sign="any"),
    Row("freeze", peer=lambda: optax.freeze(True)),
    Row("freeze-masked", {}, {"mask": matrices}, peer=lambda mask: optax.masked(optax.set_to_zero(), mask),
        holds_a_function=True),
    Row(
        "selective_transform",
        factory=lambda: gradtx.selective_transform(gradtx.adam(0.05, **ADAM), freeze_mask=gradtx.by_rank(2)),
    ),
    Row("scale_by_rule", factory=lambda: gradtx.scale_by_rule({gradtx.by_rank(2): 3.0, "*": 0.5})),
    Row("scale_by_rule-scheduled", factory=lambda: gradtx.scale_by_rule({gradtx.by_rank(2): LINE, "*": 0.5})),
    Row("layerwise_decay", factory=lambda: gradtx.layerwise_decay(0.7, [gradtx.by_rank(3), gradtx.by_rank(2), "*"])),
)  # fmt: skip

WRAPPED: tuple[Row, ...] = (
    *around("partition", lambda tx: by_rules(tx, gradtx.sgd(0.1))),
    *around("masked", lambda tx: gradtx.masked(tx, gradtx.by_rank(1)), sign="any"),
)
