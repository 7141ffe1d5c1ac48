r"""Steps in proportion to the parameters, leaf by leaf."""

from __future__ import annotations

import jax.numpy as jnp

from .._core.contract import EmptyState, Stateless
from .._core.fields import NonNegative
from .._maths import safe_divisor
from .._trees.map import map_leaves
from .._trees.norms import array_norm
from .._types import Leaf, Params, ScalarArray, Updates


def _trust(
    updates: Leaf, params: Leaf, min_norm: ScalarArray, trust_coefficient: ScalarArray, eps: ScalarArray
) -> Leaf:
    param_norm = jnp.maximum(array_norm(params), min_norm)
    update_norm = jnp.maximum(array_norm(updates), min_norm)
    # A parameter of 0 could never leave it, and an update of 0 has no direction.
    has_ratio = (param_norm != 0) & (update_norm != 0)
    # The quotient of the norms alone may be no float, where the norms are.
    direction = updates / safe_divisor(update_norm + eps)
    return jnp.where(has_ratio, direction * (trust_coefficient * param_norm), updates)


class scale_by_trust_ratio(Stateless):
    r"""Make each leaf's update as long as its parameter: $u_t = \phi\,g_t\,\lVert\theta\rVert / \lVert g_t\rVert$.

    The norms are of one leaf. Where one of the two is 0 the update stays as it is. LARS and LAMB have it before the
    learning rate, which then is the length of a step relative to the parameter.

    State: `EmptyState()`. Needs `params`. Units: of the parameters. Keeps the gradient's direction in each leaf.

    Args:
        min_norm: The least value of both norms. Unit: of parameters and updates.
        trust_coefficient: phi >= 0, a factor.
        eps: Added to the norm of the update. Unit: update.

    Raises:
        ValueError: if an argument is negative.

    Source: You, Gitman and Ginsburg, 2017 (LARS), https://arxiv.org/abs/1708.03888.
    """

    min_norm: NonNegative = 0.0
    trust_coefficient: NonNegative = 1.0
    eps: NonNegative = 0.0

    def update(self, updates: Updates, state: EmptyState, params: Params) -> tuple[Updates, EmptyState]:
        updates = map_leaves(
            _trust,
            {"updates": updates},
            reads={"params": params},
            min_norm=self.min_norm,
            trust_coefficient=self.trust_coefficient,
            eps=self.eps,
        )
        return updates, state
