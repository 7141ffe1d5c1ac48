"""Optimizers of each kind to wrap: plain, recursive, with a line search, learned, and optax's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

import gradtx

from .row import Row, paraboloid


def _mlp() -> Any:
    return gradtx.learned.mlp(gradtx.learned.mlp_weights(jax.random.key(0), 4), hidden=4)


INNER = (
    Row("sgd", rate=0.05),
    Row("lbfgs", {}, {"memory_size": 2}, extra=paraboloid, sign="flips"),
    Row("mlp", factory=_mlp, refuses=("complex",), sign="any"),
    Row("optax", factory=lambda: gradtx.chain(optax.adam(0.05)), sign="flips", holds_a_function=True),
)
"""Beside `adam`, which every wrapper has a row of the table with."""


def around(name: str, wrap: Callable[[Any], Any], inner: Sequence[Row] = INNER, **known: Any) -> tuple[Row, ...]:
    """Rows of a wrapper around each kind of optimizer.

    Args:
        name: The wrapper's public name.
        wrap: Makes it of the inner transformation.
        inner: What to wrap.
        known: What is to be known about the rows, in place of what is about the inner ones.
    """

    def row(each: Row) -> Row:
        return dataclasses.replace(
            each, name=f"{name}-{each.name}", numbers={}, flags={}, rate=None,
            factory=lambda: wrap(each.make()), **known,
        )  # fmt: skip

    return tuple(map(row, inner))
