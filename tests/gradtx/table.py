"""The table: every transformation, each of its variants once.

Laws, saved configurations, pickling, key paths, first steps, oracles, optax's twins, export, precision and sharding
run over it. A new transformation needs one row here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import optax
import pytest

import gradtx

from . import oracles, rows
from .row import OptaxNag, Row, composed, doubled, falling, matrices, paraboloid

LINE = gradtx.linear_schedule(0.4, 0.1, 10)
RMSPROP = {"decay": 0.8, "eps": 1e-3, "initial_scale": 0.01}
ADAGRAD = {"initial_accumulator_value": 0.2, "eps": 1e-3}
ADAM = {"b1": 0.8, "b2": 0.95, "eps": 1e-3, "eps_root": 1e-4}
OUTSIDE = {"eps_in_sqrt": False}
MOMENTUM = {"momentum": 0.8}

Optimizer = partial(Row, rate=0.05)
Searching = partial(Row, extra=paraboloid)
Curvature = partial(Searching, refuses=("complex",))
Learned = partial(Row, refuses=("complex",), sign="any")


def lstm_weights() -> Any:
    return gradtx.learned.lstm_weights(jax.random.key(0), 3)


def mlp_weights() -> Any:
    return gradtx.learned.mlp_weights(jax.random.key(0), 4)


def descending(search: Any, **arguments: Any) -> Any:
    """A line search needs a direction of descent."""
    return gradtx.chain(gradtx.scale_by_learning_rate(1.0), search(**arguments))


PARTS = (
    Row("identity", peer=optax.identity),
    Row("set_to_zero", peer=optax.set_to_zero),
    Row("stateless", {}, {"function": doubled}, peer=lambda function: optax.stateless(function), holds_a_function=True),
    Row("scale", {"step_size": -0.3}, peer=optax.scale, sign="flips"),
    Row("scale_by_learning_rate", {"learning_rate": 0.3}, peer=optax.scale_by_learning_rate),
    Row(
        "scale_by_learning_rate-upwards",
        {},
        {"learning_rate": LINE, "flip_sign": False},
        peer=optax.scale_by_learning_rate,
        sign="keeps",
    ),
    Row("scale_by_schedule", {}, {"step_size_fn": LINE}, peer=optax.scale_by_schedule),
    Row("trace", {"decay": 0.8}, peer=optax.trace),
    Row("trace-nesterov", {"decay": 0.8}, {"nesterov": True}, peer=optax.trace),
    Row("trace-float32", {"decay": 0.8}, {"accumulator_dtype": "float32"}, refuses=("complex",)),
    Row("ema", {"decay": 0.8}, peer=optax.ema),
    Row("ema-raw", {"decay": 0.8}, {"debias": False}, peer=optax.ema),
    Row("bias_correction", {"decay": 0.8}),
    Row("scale_by_rms", RMSPROP, peer=optax.scale_by_rms),
    Row("scale_by_rms-outside", RMSPROP, OUTSIDE, peer=optax.scale_by_rms),
    Row("scale_by_rms-corrected", RMSPROP, {"bias_correction": True}, peer=optax.scale_by_rms),
    Row("scale_by_stddev", RMSPROP, peer=optax.scale_by_stddev),
    Row("scale_by_stddev-outside", RMSPROP, OUTSIDE, peer=optax.scale_by_stddev),
    # The variance of one gradient is 0: a large eps, against which its rounding is nothing.
    Row("scale_by_stddev-corrected", {"decay": 0.8, "eps": 0.1}, {"bias_correction": True}),
    Row("scale_by_rss", ADAGRAD, peer=optax.scale_by_rss),
    Row("scale_by_rss-from-0", {"initial_accumulator_value": 0.0, "eps": 1e-10}, OUTSIDE),
    Row("scale_by_adadelta", {"rho": 0.8, "eps": 1e-3}, peer=optax.scale_by_adadelta),
    Row("scale_by_adam", ADAM, peer=optax.scale_by_adam),
    Row("scale_by_adam-nesterov", ADAM, {"nesterov": True}, peer=optax.scale_by_adam),
    Row("scale_by_adam-eps-0", {"eps": 0.0}),
    Row("scale_by_lion", {"b1": 0.8, "b2": 0.95}, peer=optax.scale_by_lion),
    Row("scale_by_lion-smooth", {"b1": 0.8, "b2": 0.95, "smooth_beta": 2.0}, {"mode": "smooth"}),
    Row("lion", {"b1": 0.8, "b2": 0.95, "weight_decay": 0.1}, rate=0.05, peer=optax.lion),
    Row("add_decayed_weights", {"weight_decay": 0.1}, peer=optax.add_decayed_weights),
    Row(
        "add_decayed_weights-masked",
        {"weight_decay": 0.1},
        {"mask": matrices},
        peer=optax.add_decayed_weights,
        holds_a_function=True,
    ),
    Row("clip", {"max_delta": 0.5}, peer=optax.clip, refuses=("complex",)),
    Row("clip_by_global_norm", {"max_norm": 2.0}, peer=optax.clip_by_global_norm),
    Row("clip_by_global_norm-unused", {"max_norm": 1e6}, peer=optax.clip_by_global_norm),
)

OPTIMIZERS = (
    Optimizer("sgd", oracle=oracles.sgd, peer=optax.sgd),
    Optimizer("sgd-momentum", MOMENTUM, oracle=oracles.sgd, peer=optax.sgd),
    Optimizer("sgd-nesterov", MOMENTUM, {"nesterov": True}, oracle=oracles.sgd, peer=optax.sgd),
    Optimizer("nag", MOMENTUM, oracle=oracles.nag, peer=OptaxNag, quick=True),
    Optimizer("adagrad", ADAGRAD, oracle=oracles.adagrad, peer=optax.adagrad),
    Optimizer("adagrad-outside", ADAGRAD, OUTSIDE, oracle=oracles.adagrad),
    Optimizer(
        "adagrad-from-0",
        {"initial_accumulator_value": 0.0, "eps": 1e-7},
        oracle=oracles.adagrad,
        peer=optax.adagrad,
    ),
    Optimizer(
        "adadelta",
        {"rho": 0.8, "eps": 1e-3, "weight_decay": 0.1},
        oracle=oracles.adadelta,
        peer=optax.adadelta,
    ),
    Optimizer("adadelta-no-decay", {"rho": 0.8, "eps": 1e-3}, oracle=oracles.adadelta, peer=optax.adadelta),
    Optimizer("rmsprop", RMSPROP, oracle=oracles.rmsprop, peer=optax.rmsprop),
    Optimizer("rmsprop-outside", RMSPROP, OUTSIDE, oracle=oracles.rmsprop, peer=optax.rmsprop),
    Optimizer("rmsprop-momentum", {**RMSPROP, "momentum": 0.7}, oracle=oracles.rmsprop, peer=optax.rmsprop),
    Optimizer(
        "rmsprop-nesterov",
        {**RMSPROP, "momentum": 0.7},
        {"nesterov": True},
        oracle=oracles.rmsprop,
        peer=optax.rmsprop,
    ),
    Optimizer(
        "rmsprop-corrected",
        {"decay": 0.8, "eps": 1e-3},
        {"bias_correction": True},
        oracle=oracles.rmsprop,
        peer=optax.rmsprop,
    ),
    Optimizer("rmsprop-centered", RMSPROP, {"centered": True}, oracle=oracles.rmsprop, peer=optax.rmsprop),
    Optimizer("adam", {"b1": 0.8, "b2": 0.95, "eps": 1e-3}, oracle=oracles.adam, peer=optax.adam),
    Optimizer("adam-eps-root", ADAM, oracle=oracles.adam, peer=optax.adam),
    Optimizer("adam-nesterov", ADAM, {"nesterov": True}, oracle=oracles.adam, peer=optax.adam),
    Optimizer("adamw", {**ADAM, "weight_decay": 0.1}, oracle=oracles.adam, peer=optax.adamw),
    Optimizer(
        "adamw-masked",
        {**ADAM, "weight_decay": 0.1},
        {"mask": matrices},
        oracle=oracles.adam,
        peer=optax.adamw,
        quick=True,
        holds_a_function=True,
    ),
)

COMPOSED = (
    Row("adam-scheduled", {}, {"learning_rate": gradtx.warmup_cosine_decay_schedule(0.01, 0.1, 2, 10)}),
    Row("adam-function", {}, {"learning_rate": falling}, holds_a_function=True),
    Row(
        "chain",
        factory=lambda: gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.ema(0.9), gradtx.scale(0.5)),
    ),
    Row("chain-foreign", factory=lambda: gradtx.chain(optax.scale(2.0), gradtx.scale_by_rms()), holds_a_function=True),
    Row(
        "named_chain",
        factory=lambda: gradtx.named_chain(("norm", gradtx.scale_by_rms()), ("rate", gradtx.scale(0.5))),
    ),
)

SECOND_ORDER = (
    Row("scale_by_lbfgs", {}, {"memory_size": 2}),
    Row("scale_by_lbfgs-from-1", {}, {"memory_size": 2, "scale_init_precond": False}),
    Searching(
        "scale_by_zoom_linesearch",
        factory=lambda: descending(gradtx.scale_by_zoom_linesearch, max_linesearch_steps=10),
    ),
    Searching(
        "scale_by_backtracking_linesearch",
        factory=lambda: descending(gradtx.scale_by_backtracking_linesearch, max_backtracking_steps=10),
    ),
    Searching("lbfgs", {}, {"memory_size": 2}, sign="flips"),
    Curvature("scale_by_newton", {"damping": 0.5}),
    Curvature("scale_by_newton-saddle-free", {"damping": 0.5}, {"saddle_free": True}),
    Curvature("scale_by_newton_cg", {"damping": 0.5}, {"max_cg_steps": 5}),
    Curvature("scale_by_gauss_newton_cg", {"damping": 0.5}, {"max_cg_steps": 5}, extra=composed),
    Curvature("newton", {"learning_rate": 0.5, "damping": 0.1}),
    Curvature("newton_cg", {}, {"max_cg_steps": 5}),
    Curvature("gauss_newton_cg", {}, {"max_cg_steps": 5}, extra=composed),
    Curvature("scale_by_stochastic_lbfgs", {}, {"memory_size": 2, "every": 1}),
    Curvature(
        "scale_by_stochastic_lbfgs-gradients",
        {"damping": 0.1},
        {"memory_size": 2, "every": 1, "curvature": "gradients"},
    ),
    Curvature("stochastic_lbfgs", {}, {"memory_size": 2, "every": 2}, rate=0.1),
)

LEARNED = (
    Learned("learned.scale_by_lstm", factory=lambda: gradtx.learned.scale_by_lstm(lstm_weights(), hidden=3)),
    Learned("learned.scale_by_mlp", factory=lambda: gradtx.learned.scale_by_mlp(mlp_weights(), hidden=4)),
    Learned("learned.lstm", factory=lambda: gradtx.learned.lstm(lstm_weights(), hidden=3)),
    Learned("learned.mlp", factory=lambda: gradtx.learned.mlp(mlp_weights(), hidden=4)),
)

TABLE: tuple[Row, ...] = (*PARTS, *OPTIMIZERS, *COMPOSED, *SECOND_ORDER, *LEARNED, *rows.ROWS)
BY_NAME = {row.name: row for row in TABLE}

# One of each kernel and flag.
VARIED = ("sgd-momentum", "nag", "adagrad-from-0", "adadelta", "rmsprop-nesterov", "adam-eps-root", "adamw-masked")


# Rows of second order cost ten times as much as others; these two stand for them.
STAND_FOR_ALL = ("scale_by_lbfgs", "scale_by_zoom_linesearch")


def says_more(row: Row) -> bool:
    """Whether no cheaper row says nearly the same, as the first of variants does, and a part of a recipe."""
    costly = row in SECOND_ORDER and row.name not in STAND_FOR_ALL
    return not (costly or "-" in row.name or row.name in ("learned.lstm", "learned.mlp"))


def is_quick(row: Row) -> bool:
    """Whether costly tests of it belong to the quick part."""
    return row.quick


def each(
    rows: Sequence[Row], quick: Callable[[Row], bool] = lambda row: True, slow: Callable[[Row], bool] = says_more
) -> pytest.MarkDecorator:
    """Parametrise over `row`: what is not quick is left to the whole suite, or to the exhaustive tests."""

    def marks(row: Row) -> Any:
        return () if quick(row) else pytest.mark.slow if slow(row) else pytest.mark.exhaustive

    return pytest.mark.parametrize("row", [pytest.param(row, marks=marks(row), id=row.name) for row in rows])


each_row = each(TABLE)
each_row_once = each(TABLE, says_more)
each_row_costly = each(TABLE, is_quick)
each_optimizer = each(OPTIMIZERS)
each_optimizer_costly = each(OPTIMIZERS, is_quick, lambda row: True)
each_varied_optimizer = each([BY_NAME[name] for name in VARIED], is_quick, lambda row: True)
each_wrapped = each(rows.WRAPPED, lambda row: False)
each_part = each([row for row in (*PARTS, *rows.ROWS) if row.peer is not None])
