"""Rows of corrections on any update."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import optax

import gradtx

from ..row import Row
from ..wrapped import INNER, around


def before(params: Any, grads: Any) -> dict[str, Any]:
    """The gradient of the new batch at the last parameters."""
    return {"grad_prev": jax.tree.map(lambda g: 0.5 * g, grads)}


def value(params: Any, grads: Any) -> dict[str, Any]:
    """A loss that does not fall."""
    return {"value": 1.5}


def adam(wrap: Any) -> Any:
    """A factory of a wrapper around adam."""
    return partial(wrap, gradtx.adam(0.05, b1=0.8))


PLATEAU = {
    "factor": 0.7,
    "patience": 2.0,
    "rtol": 0.01,
    "atol": 0.02,
    "cooldown": 2.0,
    "accumulation_size": 2.0,
    "min_scale": 0.1,
}
MECHANIC = {"weight_decay": 0.05, "eps": 1e-6, "s_init": 1e-3}

ROWS: tuple[Row, ...] = (
    Row("cautious", factory=adam(gradtx.cautious), quick=True),
    Row("cautious-count", {}, {"normalization": "count"}, factory=adam(gradtx.cautious)),
    Row("cautious-part", {}, {"normalization": "none"}, factory=partial(gradtx.cautious, gradtx.scale_by_adam(0.8))),
    Row("grokfast", {"alpha": 0.8, "lamb": 1.5}),
    Row("mars", {"b1": 0.8, "gamma": 0.1, "max_norm": 1.5}),
    Row("mars-exact", {"b1": 0.8, "gamma": 0.1, "max_norm": 1.5}, extra=before),
    Row("grafting", factory=lambda: gradtx.grafting(gradtx.sgd(0.05, 0.8), gradtx.adam(0.1)), quick=True),
    Row(
        "grafting-global",
        {},
        {"scope": "global"},
        factory=partial(gradtx.grafting, gradtx.scale_by_adam(), gradtx.trace(0.8)),
    ),
    Row("mechanize", MECHANIC, {"num_betas": 3}, factory=adam(gradtx.mechanize)),
    Row("reduce_on_plateau", PLATEAU, extra=value),
    Row("scale_by_trust_ratio", peer=optax.scale_by_trust_ratio),
    Row(
        "scale_by_trust_ratio-floor",
        {"min_norm": 0.5, "trust_coefficient": 0.7, "eps": 1e-2},
        peer=optax.scale_by_trust_ratio,
    ),
)
WRAPPED: tuple[Row, ...] = (
    *around("cautious", partial(gradtx.cautious, descends=True)),
    *around("grafting", lambda inner: gradtx.grafting(gradtx.sgd(0.05), inner)),
    # Steps that are long enough for differences of parameters, which L-BFGS keeps, to have digits in float32.
    *around("mechanize", partial(gradtx.mechanize, s_init=0.3), INNER),
)
