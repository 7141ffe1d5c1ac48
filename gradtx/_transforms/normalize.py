r"""The direction of updates, without their length."""

from __future__ import annotations

from .._core.contract import EmptyState, Stateless
from .._trees.map import map_leaves
from .._types import Params, Updates
from .clip import divided, global_norm


class normalize(Stateless):
    r"""Divide all updates together by their norm: $u_t = g_t / \lVert g_t \rVert$.

    State: `EmptyState()`. Units: none; the norm is 1, or 0 for a gradient of 0. Keeps its direction.

    Differs: optax's `contrib.normalize` gives NaN for a gradient of 0.
    """

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        return map_leaves(divided, {"updates": updates}, norm=global_norm(updates)), state
