"""Pairs of differences (of params, of gradients), and the inverse Hessian that agrees with them: of all L-BFGS."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from .._core.maths import nonzero
from .._core.precision import step_dtype
from .._core.tree import inner, leading_zeros
from .._core.vectors import Products, add_scaled, norm, times


@runtime_checkable
class Memory(Protocol):
    """A state with pairs in it.

    `pairs` that were taken so far; the differences, leading with an axis of the memory's size; 1 / <s, y> of each
    pair, 0 where there is none; and the `scale` of the identity that the pairs mend.
    """

    @property
    def pairs(self) -> jax.Array: ...
    @property
    def diff_params_memory(self) -> Any: ...
    @property
    def diff_updates_memory(self) -> Any: ...
    @property
    def weights_memory(self) -> jax.Array: ...
    @property
    def scale(self) -> jax.Array: ...


def check_size(owner: str, memory_size: int) -> None:
    """Raise ValueError where there is no room for a pair."""
    if memory_size < 1:
        raise ValueError(f"{owner}: `memory_size` must be at least 1 pair, got {memory_size}")


def empty(params: Any, size: int) -> dict[str, Any]:
    """The fields of `Memory`, without a pair."""
    dtype = step_dtype(params)
    return {
        "pairs": jnp.zeros([], jnp.int32),
        "diff_params_memory": leading_zeros(params, size),
        "diff_updates_memory": leading_zeros(params, size),
        "weights_memory": jnp.zeros([size], dtype),
        "scale": jnp.ones([], dtype),
    }


@partial(jax.jit, inline=True)
def scale_of(gradient: Any, scale: jax.Array, is_first: jax.Array) -> jax.Array:
    """The scale; at first, what makes the gradient at most 1 long, and not so short that it moves nothing."""

    def first() -> jax.Array:
        length = norm(gradient)
        least = np.sqrt(jnp.finfo(length.dtype).eps).astype(length.dtype)
        return (jnp.clip(length, least, 1) / nonzero(length)).astype(scale.dtype)

    # The norm is a pass over the gradient, and is of use once.
    return jax.lax.cond(is_first, first, lambda: scale)


def taken(state: Memory, s: Any, y: Any, products: Products, is_taken: jax.Array) -> dict[str, Any]:
    """The fields of `Memory` but for `scale`, with one more pair if `is_taken`; the oldest makes room."""
    slot = state.pairs % state.weights_memory.shape[0]

    def kept(memory: Any, row: Any) -> Any:
        return jax.tree.map(lambda m, r: m.at[slot].set(jnp.where(is_taken, r.astype(m.dtype), m[slot])), memory, row)

    weight = 1 / nonzero(products.sy.astype(state.weights_memory.dtype))
    return {
        "pairs": state.pairs + is_taken.astype(jnp.int32),
        "diff_params_memory": kept(state.diff_params_memory, s),
        "diff_updates_memory": kept(state.diff_updates_memory, y),
        "weights_memory": state.weights_memory.at[slot].set(jnp.where(is_taken, weight, state.weights_memory[slot])),
    }


def precondition(gradient: Any, state: Memory) -> Any:
    """The inverse Hessian times the gradient, by the two-loop recursion: newest to oldest, then back."""
    memories = state.diff_params_memory, state.diff_updates_memory
    return _two_loops(gradient, state.pairs, memories, state.weights_memory, state.scale)


@partial(jax.jit, inline=True)  # so that an update which nobody jitted compiles them once
def _two_loops(gradient: Any, pairs: jax.Array, memories: tuple[Any, Any], weights: jax.Array, scale: jax.Array) -> Any:
    size = weights.shape[0]
    order = (pairs - 1 - jnp.arange(size, dtype=jnp.int32)) % size

    def pair(i: jax.Array) -> tuple[Any, Any, jax.Array]:
        s, y = (jax.tree.map(lambda m: m[i], memory) for memory in memories)
        return s, y, weights[i]

    def down(q: Any, i: jax.Array) -> tuple[Any, jax.Array]:
        s, y, weight = pair(i)
        part = weight * inner(s, q).astype(weight.dtype)
        return add_scaled(q, -part, y), part

    def up(r: Any, turn: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        i, part = turn
        s, y, weight = pair(i)
        return add_scaled(r, part - weight * inner(y, r).astype(weight.dtype), s), None

    q, parts = jax.lax.scan(down, gradient, order)
    return jax.lax.scan(up, times(q, scale), (order, parts), reverse=True)[0]
