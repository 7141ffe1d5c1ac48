r"""Amplify the slow part of the gradient."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from .._core.contract import GradientTransformation
from .._core.fields import Decay, NonNegative
from .._maths import safe_increment
from .._trees.map import map_leaves, zeros_like
from .._types import Count, Leaf, Params, ScalarArray, Updates


def _amplify(updates: Leaf, ema: Leaf, alpha: ScalarArray, lamb: ScalarArray, first: ScalarArray) -> tuple[Leaf, Leaf]:
    # Begun at the first gradient, the average needs no bias correction.
    ema = jnp.where(first > 0, updates, alpha * ema + (1 - alpha) * updates)
    return updates + lamb * ema, ema


class GrokfastState(NamedTuple):
    """State of `grokfast`."""

    count: Count
    """Number of updates."""
    ema: Updates
    """Decaying mean of gradients, like the parameters."""


class grokfast(GradientTransformation):
    r"""Add the slow part of the gradient to it once more, before an optimizer.

    $$\mu_t = \alpha\mu_{t-1} + (1-\alpha) g_t, \quad \mu_1 = g_1, \qquad u_t = g_t + \lambda\mu_t$$

    It speeds up generalisation that comes long after the training loss has fallen ("grokking").

    State: `count`, int32, and `ema`, like `params` (float32 for half precision): one copy.
    Units: as the gradient; a constant gradient becomes $1 + \lambda$ times as large.

    Args:
        alpha: Decay of the average, in [0, 1). Per step.
        lamb: lambda >= 0, how many times the slow part is added.

    Raises:
        ValueError: if `alpha` is outside [0, 1), or `lamb` is negative.

    Source: Lee et al., Grokfast, 2024, https://arxiv.org/abs/2405.20233, the form with an exponential average.
    """

    alpha: Decay = 0.98
    lamb: NonNegative = 2.0

    def init(self, params: Params) -> GrokfastState:
        return GrokfastState(jnp.zeros([], jnp.int32), zeros_like(params))

    def update(
        self, updates: Updates, state: GrokfastState, params: Params | None = None
    ) -> tuple[Updates, GrokfastState]:
        trees, first = {"updates": updates, "ema": state.ema}, jnp.asarray(state.count) == 0
        updates, ema = map_leaves(_amplify, trees, alpha=self.alpha, lamb=self.lamb, first=first)
        return updates, GrokfastState(safe_increment(state.count), ema)
