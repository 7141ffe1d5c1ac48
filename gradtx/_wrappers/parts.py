"""A transformation on some of the leaves: it sees `None` in place of all others, whatever it is called with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax

from .._core.contract import GradientTransformation
from .._trees.select import only
from .._trees.vectors import completed
from .._types import OptState, Params, PyTree, Updates

OF_PARAMS = ("value_fn", "obj_fn", "outputs_fn", "grad_fn")
"""Extra arguments that are functions of the parameters; what `grad_fn` returns is like them."""


class Part(NamedTuple):
    """The leaves that have one of the labels."""

    labels: PyTree
    """A label for each leaf."""
    label: Hashable
    """Theirs."""
    cuts_trees: bool
    """Whether an extra argument of the updates' structure, under whatever name, is one for each leaf."""

    def of(self, name: str, tree: PyTree) -> PyTree:
        """The tree with `None` in place of other leaves; `name` is what messages call it."""
        return None if tree is None else only(name, tree, self.labels, self.label)

    def update(
        self,
        tx: GradientTransformation,
        updates: Updates,
        state: OptState,
        params: Params | None,
        extra: dict[str, Any],
    ) -> tuple[Updates, OptState]:
        """What `tx` makes of the part, given the whole of all arguments but the state."""
        inside = {name: self._argument(name, value, updates, params) for name, value in extra.items()}
        return tx.update(self.of("updates", updates), state, self.of("params", params), **inside)

    def point(self, method: str, tx: GradientTransformation, params: Params, state: OptState) -> Params:
        """What a `method` of `tx`, `eval_params` say, makes of the part."""
        own = self.of("params", params)
        return getattr(tx, method)(own, state) if tx._defines(method) else own

    def _argument(self, name: str, value: Any, updates: Updates, params: Params | None) -> Any:
        if name == "grad" or (self.cuts_trees and _structure(value) == _structure(updates)):
            return self.of(name, value)
        return self._function(name, value, params) if name in OF_PARAMS and callable(value) else value

    def _function(self, name: str, function: Callable[..., Any], params: Params | None) -> Callable[..., Any]:
        """The function, which completes what it is given by the current values of all other parameters."""
        if params is None:
            return function

        # What it is a wrapper of tells its signature: line searches hand on the extra arguments named there.
        @functools.wraps(function)
        def completing(own: Params, *args: Any, **kwargs: Any) -> Any:
            result = function(completed(own, params), *args, **kwargs)
            return self.of("what `grad_fn` returns", result) if name == "grad_fn" else result

        return completing


def _structure(tree: PyTree) -> Any:
    return jax.tree.structure(tree, is_leaf=lambda leaf: leaf is None)
