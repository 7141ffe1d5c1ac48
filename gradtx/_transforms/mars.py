r"""Variance reduction by the change of the gradient since the last step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._core.contract import GradientTransformation
from .._core.fields import Decay, NonNegative, Positive
from .._maths import safe_divisor, safe_increment
from .._trees.map import map_leaves, zeros_like
from .._trees.norms import array_norm
from .._types import Count, Leaf, Params, ScalarArray, Updates


def _corrected(
    updates: Leaf, grad: Leaf, prev: Leaf, b1: ScalarArray, gamma: ScalarArray, max_norm: ScalarArray
) -> tuple[Leaf, Leaf]:
    c = updates + gamma * b1 / (1 - b1) * (updates - prev)
    norm = array_norm(c)
    # A NaN norm compares false and comes through.
    return jnp.where(norm <= max_norm, c, c / safe_divisor(norm) * max_norm), updates


def _approximate(
    updates: Leaf, grad: Leaf, b1: ScalarArray, gamma: ScalarArray, max_norm: ScalarArray, first: ScalarArray
) -> tuple[Leaf, Leaf]:
    return _corrected(updates, grad, jnp.where(first > 0, updates, grad), b1, gamma, max_norm)


class MarsState(NamedTuple):
    """State of `mars`."""

    count: Count
    """Number of updates."""
    grad: Updates
    """The last gradient, like the parameters."""


class mars(GradientTransformation):
    r"""Correct the gradient by its change since the last step, before an optimizer (MARS).

    $$c_t = g_t + \gamma\,\frac{\beta_1}{1-\beta_1}\,(g_t - g'_{t-1}),
    \qquad u_t = c_t \min(1, C / \lVert c_t \rVert)$$

    The norm is of one leaf. $g'_{t-1}$ is the gradient of the *new* batch at the last parameters: the extra argument
    `grad_prev`. Without it the approximate form takes the last step's gradient, which costs nothing.

        tx = chain(mars(b1=0.95), adamw(3e-3, b1=0.95, b2=0.99))

    State: `count`, int32, and `grad`, like `params` (float32 for half precision): one copy.
    Units: as the gradient.

    Args:
        b1: The decay of the first moment in the optimizer that follows, in [0, 1). Per step.
        gamma: How much of the correction there is, >= 0.
        max_norm: C > 0, the largest norm of a leaf. Unit: gradient.

    Raises:
        ValueError: if `b1` is outside [0, 1), `gamma` is negative, or `max_norm` is not positive.

    Source: Yuan et al., MARS, 2024, https://arxiv.org/abs/2411.10438. Differs: the first correction is 0, as in the
    paper, whose last parameters are the same there; its code takes a last gradient of 0.
    """

    b1: Decay = 0.95
    gamma: NonNegative = 0.025
    max_norm: Positive = 1.0

    def init(self, params: Params) -> MarsState:
        return MarsState(jnp.zeros([], jnp.int32), zeros_like(params))

    def update(
        self, updates: Updates, state: MarsState, params: Params | None = None, *, grad_prev: Updates | None = None
    ) -> tuple[Updates, MarsState]:
        trees, count = {"updates": updates, "grad": state.grad}, jnp.asarray(state.count)
        numbers: dict[str, Any] = {"b1": self.b1, "gamma": self.gamma, "max_norm": self.max_norm}
        if grad_prev is None:
            updates, grad = map_leaves(_approximate, trees, first=count == 0, **numbers)
        else:
            updates, grad = map_leaves(_corrected, trees, reads={"prev": grad_prev}, **numbers)
        return updates, MarsState(safe_increment(count), grad)
