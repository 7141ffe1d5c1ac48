"""Optimizers of each kind to wrap: plain, recursive, with a line search, learned, and optax's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

import gradtx

from .row import Row, paraboloid


def _mlp() -> Any:
    return gradtx.learned.mlp(gradtx.learned.mlp_weights(jax.random.key(0), 4), hidden=4)


def _lbfgs() -> Any:
    """With the search whose program is half as long as that of the default one."""
    search = gradtx.scale_by_backtracking_linesearch(max_backtracking_steps=10)
    return gradtx.lbfgs(memory_size=2, linesearch=search)


INNER = (
    Row("sgd", rate=0.05),
    Row("lbfgs", factory=_lbfgs, extra=paraboloid, sign="flips"),
    Row("mlp", factory=_mlp, refuses=("complex",), sign="any"),
    Row("optax", factory=lambda: gradtx.chain(optax.adam(0.05)), sign="flips", holds_a_function=True),
)
"""Beside `adam`, which every wrapper has a row of the table with."""


def small_params(dtype: Any) -> Any:
    """Parameters for wrappers around others, which their rows of the table have shown with leaves of all kinds."""
    return {"b": np.array([0.5, -1.0, 2.0], dtype), "w": np.array([[1.0, -2.0, 0.3], [0.4, 0.5, -0.6]], dtype)}


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
