"""Steps that are taken or not, by a traced condition.

Where nearly every step is taken, `update_and_keep` computes it and selects: the old state is read anyway, and written
in place. Where most are not, `update_if` branches, so that what is not due is not computed; under `vmap` a branch
becomes a selection.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact

from .._core.contract import GradientTransformation
from .._manual_axes import cond
from .._trees.gate import Gate, gated
from .._trees.map import chunks
from .._trees.precision import cast_like
from .._types import OptState, Params, PyTree, Updates

Condition = Bool[Array, ""]


def update_and_keep(
    condition: Condition,
    inner: GradientTransformation,
    updates: Updates,
    inner_state: OptState,
    params: Params | None,
    extra: dict[str, Any],
) -> tuple[Updates, OptState]:
    """The inner update and state where the condition holds; else zeros, and the state as it is, to the bit."""
    with gated(condition) as gate:
        new, state = inner.update(zero_unless(condition, updates), inner_state, params, **extra)
    return zero_unless(condition, new), where_tree(condition, state, inner_state, gate)


def where_tree(condition: Condition, then: PyTree, otherwise: PyTree, gate: Gate | None = None) -> PyTree:
    """`then` where the condition holds, else `otherwise`, whole and to the bit; in the dtypes of `otherwise`.

    Random keys and integers, too. Leaves of one type are selected a few in a call, as in `map_leaves`. Those for which
    kernels have selected already (`gate`) are taken as they are.
    """
    new, structure = jax.tree.flatten(then)
    old, expected = jax.tree.flatten(otherwise)
    if structure != expected:
        raise TypeError(f"the structure of a state changes: {expected} becomes {structure}")
    groups: dict[Any, list[int]] = {}
    for i, (x, y) in enumerate(zip(new, old, strict=True)):
        if gate is not None and gate.has_done(x, y):
            continue
        groups.setdefault((jax.typeof(x), jax.typeof(y)), []).append(i)
    for group in groups.values():
        for indices in chunks(group):
            picked = _select(condition, [new[i] for i in indices], [old[i] for i in indices])
            for i, leaf in zip(indices, picked, strict=True):
                new[i] = leaf
    return structure.unflatten(new)


@jax.jit
def _select(condition: Condition, new: list[jax.Array], old: list[jax.Array]) -> list[jax.Array]:
    return [jnp.where(condition, x.astype(y.dtype), y) for x, y in zip(new, old, strict=True)]


def zero_tree(updates: Updates) -> Updates:
    """Zeros like the updates, whatever is in them."""
    return jax.tree.map(jnp.zeros_like, updates)


def zero_unless(condition: Condition, updates: Updates) -> Updates:
    """The updates where the condition holds, else zeros.

    In front of an inner update, too: what is computed of a NaN and not selected makes NaN of derivatives, since 0 times
    NaN is NaN (https://docs.jax.dev/en/latest/faq.html#gradients-contain-nan-where-using-where).
    """
    return where_tree(condition, updates, zero_tree(updates))


def all_finite(tree: PyTree) -> Condition:
    """Whether no entry is infinite or NaN; true for an empty tree."""
    leaves = [_is_finite(leaf) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_and, leaves, jnp.ones([], bool))


@jax.jit
def _is_finite(leaf: Inexact[Array, "*shape"]) -> Condition:
    # x - x is 0 where x is finite, else NaN: a sum of floats, which XLA:CPU makes five times as fast as one of bools
    # (8 for 41 ms on 14 M entries, where Adam's step takes 60).
    return jnp.isfinite(jnp.sum(leaf - leaf))


def check_function(what: str, value: object) -> None:
    """An argument that is called later has to be a function. Raises TypeError otherwise, where it is given."""
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{what} must be a function, got {value!r}")


def as_condition(what: str, value: object, verb: str = "return") -> Condition:
    """One bool, which a function of the user's has answered or an argument is. Raises TypeError for anything else.

    Args:
        what: What messages begin with.
        value: A bool of Python, NumPy or JAX.
        verb: What it must do: "return" a bool, or "be" one.
    """
    if isinstance(value, (bool, np.bool_)):
        return jnp.asarray(bool(value))
    if not isinstance(value, (jax.Array, np.ndarray)) or value.dtype != bool or value.shape != ():
        came = f"{value.dtype}{list(value.shape)}" if isinstance(value, (jax.Array, np.ndarray)) else repr(value)
        raise TypeError(f"{what} must {verb} one bool, True or False or a boolean array of rank 0, got {came}")
    return jnp.asarray(value)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(*trees, extra=..., **static)` under `jax.jit`, unless there are functions among the extra arguments.

    A branch is a function that is made anew at each call, and without jit JAX would compile it each time. A function
    that is an extra argument (`value_fn`) is mostly a new one at each call itself.
    """
    jitted: dict[tuple[str, ...], Any] = {}

    @functools.wraps(function)
    def run(*args: Any, extra: dict[str, Any], **static: Any) -> Any:
        if not all(map(_is_array, jax.tree.leaves(extra))):
            return function(*args, extra=extra, **static)
        names = tuple(sorted(static))
        if names not in jitted:
            jitted[names] = jax.jit(function, static_argnames=names, inline=True)
        return jitted[names](*args, extra=extra, **static)

    return run


def _is_array(leaf: object) -> bool:
    # A bool may be a flag, which the program depends on.
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, float, complex, int)) and not isinstance(leaf, bool)


@compiled
def update_if(
    condition: Condition,
    inner: GradientTransformation,
    updates: Updates,
    inner_state: OptState,
    params: Params | None,
    *,
    extra: dict[str, Any],
    otherwise: Literal["zeros", "same"],
) -> tuple[Updates, OptState]:
    """The inner update where the condition holds; else updates of zero or the same ones, and the same state."""

    def run(updates: Updates, inner_state: OptState) -> tuple[Updates, OptState]:
        new, state = inner.update(updates, inner_state, params, **extra)
        return cast_like(new, updates), cast_states(state, inner_state)

    def rest(updates: Updates, inner_state: OptState) -> tuple[Updates, OptState]:
        return zero_tree(updates) if otherwise == "zeros" else updates, inner_state

    return cond(condition, run, rest, updates, inner_state)


def cast_states(new: OptState, old: OptState) -> OptState:
    """The new state in the dtypes of the old one: branches need equal types, and optax's may differ by a weak one."""
    return jax.tree.map(lambda x, y: x if jax.typeof(x) == jax.typeof(y) else jnp.asarray(x).astype(y.dtype), new, old)
