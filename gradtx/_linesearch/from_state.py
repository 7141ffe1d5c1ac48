"""What a line search has evaluated already, read off its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.tree_util import DictKey, keystr

from .._core.chain import chain
from .._core.contract import GradientTransformation, Recipe
from .._objective import ascent
from .._trees.precision import cast_like
from .._types import Count, OptState, Params, ScalarArray, Updates


@runtime_checkable
class LinesearchState(Protocol):
    """The state of a line search, by its fields; gradtx's have them, and so may yours."""

    @property
    def value(self) -> ScalarArray:
        """The objective at the new parameters."""
        ...

    @property
    def grad(self) -> Updates:
        """Its gradient there; `None` where the search does not keep it."""
        ...

    @property
    def evaluations(self) -> Count:
        """Evaluations of the objective, in all searches."""
        ...

    @property
    def outcome(self) -> Count:
        """How the last search ended, an `Outcome`."""
        ...


def linesearch_states(tx: GradientTransformation, state: OptState) -> list[LinesearchState]:
    """The states of all searches in a chain, in the order in which they run; also in chains and recipes inside it."""
    if isinstance(tx, (chain, Recipe)):
        return [found for _, stage, part in tx._inside(state) for found in linesearch_states(stage, part)]
    return [state] if isinstance(state, LinesearchState) else []


def last_linesearch_state(tx: GradientTransformation, state: OptState) -> LinesearchState | None:
    """The state of the search that is the very last stage, if one is: it alone knows the new parameters."""
    while isinstance(tx, (chain, Recipe)):
        stages = tx._inside(state)
        if not stages:
            return None
        _, tx, state = stages[-1]
    return state if isinstance(state, LinesearchState) else None


def value_and_grad_from_state(
    value_fn: Callable[..., jax.Array],
) -> Callable[..., tuple[jax.Array, Updates]]:
    """Make a `jax.value_and_grad(value_fn)` that takes both from a line search's state where they are known.

        value_and_grad = gradtx.value_and_grad_from_state(loss)
        for _ in range(100):
            value, grads = value_and_grad(params, state=state)
            updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=loss)
            params = gradtx.apply_updates(params, updates)

    The state may be nested in any way, and may be optax's. Of several searches in it the last one counts, which knows
    the parameters that all of them led to. At the first step, and where the value is not finite, both are computed.

    The objective has to be one function: with mini-batches, what was evaluated belongs to the batch before.

    Args:
        value_fn: An objective `(params, *args, **kwargs) -> value`.

    Returns:
        A function `(params, *args, state, **kwargs) -> (value, grad)`. The value has the dtype of the state's, the
        gradient that of the parameters; for complex ones it is the direction of steepest ascent, as updates are.

    Raises:
        ValueError: from that function, if no state of a line search is found, if it has no gradient, or that of a
            group alone (of `partition`), or if which one is the last cannot be told, because they are in a dict (of
            `named_chain`).
    """

    def value_and_grad(params: Params, *args: object, state: OptState, **kwargs: object) -> tuple[jax.Array, Updates]:
        known = _last_known(state)
        if len(jax.tree.leaves(known.grad)) < len(jax.tree.leaves(params)):
            raise ValueError(
                "value_and_grad_from_state: the search in the state is one of a group of parameters, and does not know "
                "the moves of the others. Use jax.value_and_grad"
            )

        def computed() -> tuple[jax.Array, Updates]:
            value, grad = jax.value_and_grad(value_fn)(params, *args, **kwargs)
            return value.astype(known.value.dtype), ascent(grad)

        # optax's searches keep what `jax.grad` returned.
        grad = known.grad if isinstance(known, LinesearchState) else ascent(known.grad)
        return jax.lax.cond(jnp.isfinite(known.value), lambda: (known.value, cast_like(grad, params)), computed)

    return value_and_grad


def _last_known(state: OptState) -> Any:
    """The last part of a state that has a value and a gradient."""
    nodes = jax.tree.leaves_with_path(state, is_leaf=_has_value_and_grad)
    found = [(path, node) for path, node in nodes if _has_value_and_grad(node)]
    if not found:
        raise ValueError(
            "value_and_grad_from_state: the state has no value and gradient in it. A line search keeps them: put "
            "gradtx.scale_by_zoom_linesearch last in the chain, or use jax.value_and_grad"
        )
    last, node = found[-1]
    for path, _ in found[:-1]:
        ours, theirs = next((a, b) for a, b in zip(last, path, strict=False) if a != b)
        if isinstance(ours, DictKey) and isinstance(theirs, DictKey):
            raise ValueError(
                f"value_and_grad_from_state: state{keystr(path)} and state{keystr(last)} both are of line searches, "
                "and a dict does not say which comes last; give the state of that one alone"
            )
    if node.grad is None:
        raise ValueError(
            f"value_and_grad_from_state: state{keystr(last)} has a value, but its gradient is None; make the search "
            "with store_grad=True"
        )
    return node


def _has_value_and_grad(node: object) -> bool:
    return {"value", "grad"} <= set(getattr(node, "_fields", ()))
