"""Rows of what says where to differentiate."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import gradtx

from ..row import Row
from ..wrapped import INNER, around


def another_gradient(params: Any, grads: Any) -> dict[str, Any]:
    """What a step in one call asks for: the gradient elsewhere, here of another batch, of a loss that hardly bends.

    One that bends more would tell the points of half precision from those of float32.
    """
    # Gradients that do not fit are for the transformation to refuse, so here they may not fail.
    fits = jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, grads)

    def grad_fn(there: Any, i: int) -> Any:
        def one(g: Any, at: Any, p: Any) -> Any:
            return g / (2 + i) + 0.01 * (at - p).astype(g.dtype)

        return jax.tree.map(one, grads, there, params) if fits else grads

    return {"grad_fn": grad_fn}


def adam(wrap: Any) -> Any:
    """A factory of a wrapper around adam."""
    return partial(wrap, gradtx.adam(0.05, b1=0.8))


ASAM = gradtx.sam_perturbation(0.3, adaptive=True)
MOMENTUM = gradtx.chain(gradtx.normalize(), gradtx.sgd(0.03, 0.8))
LOOKING_AHEAD = partial(gradtx.ema_nesterov, gamma=0.8, beta=0.3)

ROWS: tuple[Row, ...] = (
    Row("sam_perturbation", {"rho": 0.3}, sign="flips"),
    # At parameters of 0 it is eta times the plain one.
    Row("sam_perturbation-adaptive", {"rho": 0.3, "eta": 0.02}, {"adaptive": True}, sign="flips"),
    Row("sam", {}, {"adv_optimizer": gradtx.sam_perturbation(0.03)}, factory=adam(gradtx.sam), quick=True),
    Row("sam-adaptive", {}, {"adv_optimizer": ASAM}, factory=adam(gradtx.sam)),
    Row(
        "sam-three",
        {},
        {"adv_optimizer": MOMENTUM, "sync_period": 3, "reset_state": False},
        factory=adam(gradtx.sam),
    ),
    Row("sam-opaque", {}, {"opaque_mode": True}, factory=adam(gradtx.sam), extra=another_gradient),
    Row("extragradient", factory=adam(gradtx.extragradient)),
    Row("extragradient-carry", {}, {"carry": True}, factory=adam(gradtx.extragradient)),
    Row("extragradient-past", {}, {"form": "past"}, factory=adam(gradtx.extragradient)),
    Row("ema_nesterov", {"gamma": 0.8, "beta": 0.3}, factory=adam(gradtx.ema_nesterov), quick=True),
    Row(
        "ema_nesterov-from-params",
        {"gamma": 0.8},
        {"beta": gradtx.linear_schedule(0.0, 0.6, 10), "from_look_ahead": False},
        factory=adam(gradtx.ema_nesterov),
    ),
)
WRAPPED: tuple[Row, ...] = (
    *around("sam", gradtx.sam),
    *around("extragradient", gradtx.extragradient),
    *around("ema_nesterov", LOOKING_AHEAD, [row for row in INNER if row.name != "lbfgs"]),
    # Told of the look-ahead point, L-BFGS takes differences of points that are rounded to bfloat16.
    *around("ema_nesterov", partial(LOOKING_AHEAD, from_look_ahead=False), [r for r in INNER if r.name == "lbfgs"]),
)
