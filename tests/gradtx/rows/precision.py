"""Rows of the table: the precision of the state, and of the step."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

import gradtx
from gradtx._trees.precision import widen

from ..row import Row, paraboloid
from ..wrapped import INNER, around

OTHERS = [row for row in INNER if row.name != "lbfgs"]
LBFGS = [row for row in INNER if row.name == "lbfgs"]
ADAM: dict[str, Any] = {"learning_rate": 0.05, "b1": 0.8, "b2": 0.95, "eps": 1e-3}


def quantized(inner: Any, dtypes: Any = "int8", block_size: int = 4) -> Any:
    """All leaves with an axis, in blocks so small that the sample's arrays have several."""
    return gradtx.quantize_state(inner, dtypes, block_size=block_size, min_size=1)


def stochastic(inner: Any) -> Any:
    """State rounded at random."""
    return gradtx.state_dtype(inner, {"*/mu": "bfloat16"}, rounding="stochastic", key=jax.random.key(0))


def of_adam(name: str, wrap: Any, **known: Any) -> Row:
    """A wrapper around Adam."""
    return Row(name, factory=lambda: wrap(gradtx.adam(**ADAM)), **known)


def wide_paraboloid(params: Any, grads: Any) -> dict[str, Any]:
    """An objective of float32 parameters, as what is inside `master_weights` has them."""
    return paraboloid(widen(params), widen(grads))


ROWS: tuple[Row, ...] = (
    of_adam("state_dtype", partial(gradtx.state_dtype, dtypes={"*/mu": "bfloat16"}), quick=True),
    of_adam("state_dtype-float16", partial(gradtx.state_dtype, dtypes="float16")),
    of_adam("state_dtype-stochastic", stochastic),
    of_adam("quantize_state", gradtx.quantize_state),
    of_adam("quantize_state-int8", quantized, quick=True),
    of_adam(
        "quantize_state-stochastic",
        partial(gradtx.quantize_state, block_size=4, min_size=1, rounding="stochastic", key=jax.random.key(0)),
    ),
    of_adam("quantize_state-e4m3", partial(quantized, dtypes="float8_e4m3fn")),
    of_adam("quantize_state-e5m2", partial(quantized, dtypes={"*/nu": "float8_e5m2", "*/mu": "int8"})),
    of_adam("quantize_state-bfloat16", partial(quantized, dtypes="bfloat16")),
    of_adam("master_weights", gradtx.master_weights, quick=True),
    of_adam("master_weights-remainders", partial(gradtx.master_weights, remainders=True)),
    of_adam("stochastic_round", gradtx.stochastic_round, quick=True),
)
# What a line search compares its state with is no longer what it put there, so its leaves stay as they are.
WRAPPED: tuple[Row, ...] = (
    *around("state_dtype", partial(gradtx.state_dtype, dtypes={"*/trace": "bfloat16", "*/mu": "bfloat16"})),
    *around("quantize_state", quantized, OTHERS),
    *around("quantize_state", gradtx.quantize_state, LBFGS),
    *around("master_weights", gradtx.master_weights, OTHERS),
    *around("master_weights", gradtx.master_weights, LBFGS, extra=wide_paraboloid),
    *around("stochastic_round", gradtx.stochastic_round),
)
