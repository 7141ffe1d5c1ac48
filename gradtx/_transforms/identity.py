"""Transformations that remember nothing: the identity, and a function as it is."""

from __future__ import annotations

from collections.abc import Callable

from .._core.contract import EmptyState, Stateless
from .._types import Params, Updates


class stateless(Stateless):
    """A transformation from a function `(updates, params) -> updates` that remembers nothing.

    State: `EmptyState()`. `function` is static: what it closes over is fixed in a compiled step.

    Args:
        function: Pure; keeps structure, shapes and dtypes. `params` is `None` where the caller gives none.
    """

    function: Callable

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        """`function(updates, params)`."""
        return self.function(updates, params), state


class identity(Stateless):
    """Updates pass unchanged. State: `EmptyState()`."""

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        """`updates`."""
        return updates, state
