r"""The length of one method's step in the direction of another's."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .._core.contract import GradientTransformation, refuse_changed_step
from .._maths import safe_divisor
from .._transforms.clip import global_norm
from .._trees.map import map_leaves
from .._trees.norms import array_norm
from .._trees.precision import restore, widen
from .._types import Leaf, OptState, Params, ScalarArray, Updates


def _by_leaf(updates: Leaf, magnitude: Leaf) -> Leaf:
    return _as_long(updates, array_norm(updates), array_norm(magnitude))


def _as_long(updates: Leaf, norm: ScalarArray, size: ScalarArray) -> Leaf:
    return updates / safe_divisor(norm) * size


class GraftingState(NamedTuple):
    """State of `grafting`."""

    magnitude_state: OptState
    """State of the transformation whose length it is."""
    direction_state: OptState
    """State of the transformation whose direction it is."""


class grafting(GradientTransformation):
    r"""Step in the direction of one transformation, as far as another would.

    $$u_t = d_t\,\lVert m_t \rVert / \lVert d_t \rVert$$

    Both see the same gradient. With it a matrix method takes over the learning rate and schedule that a simple one was
    tuned with. A direction of 0 gives a step of 0.

    State: those of the two. Units: as those of `magnitude`. Keeps the sign of `direction`.

    Args:
        magnitude: The transformation whose update has the norm to take over.
        direction: The transformation whose update has the direction to keep.
        scope: "leaf", a norm for each leaf; "global", one over all leaves.

    Raises:
        ValueError: if `scope` is another word; if one of the two keeps track of the parameters, or defines
            `gradient_params`.

    Source: Agarwal et al., 2020, https://arxiv.org/abs/2002.11803.
    """

    magnitude: GradientTransformation
    direction: GradientTransformation
    scope: Literal["leaf", "global"] = "leaf"

    def __check_init__(self) -> None:
        for inner in (self.magnitude, self.direction):
            refuse_changed_step("grafting", inner)

    def init(self, params: Params) -> GraftingState:
        return GraftingState(self.magnitude.init(params), self.direction.init(params))

    def update(
        self, updates: Updates, state: GraftingState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, GraftingState]:
        wide = widen(updates)
        size, magnitude_state = self.magnitude.update(wide, state.magnitude_state, params, **extra)
        step, direction_state = self.direction.update(wide, state.direction_state, params, **extra)
        if self.scope == "leaf":
            step = map_leaves(_by_leaf, {"updates": step}, reads={"magnitude": size})
        else:
            step = map_leaves(_as_long, {"updates": step}, norm=global_norm(step), size=global_norm(size))
        return restore(step, updates), GraftingState(magnitude_state, direction_state)
