"""Pairs of differences (of params, of gradients), and the inverse Hessian that agrees with them: shared by L-BFGS."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from .._manual_axes import vary_with
from .._maths import safe_divisor
from .._trees.precision import step_dtype
from .._trees.vectors import (
    PairProducts,
    leading_zeros,
    smallest_ratio,
    tree_add_scaled,
    tree_norm,
    tree_scale,
    tree_vdot,
)
from .._types import Count, Params, PyTree, ScalarArray, Updates

FIRST_CHANGE, LONGEST_FIRST = 0.01, 10.0
"""The first step's bounds: the change of some parameter relative to itself, and the length relative to all."""


@runtime_checkable
class Memory(Protocol):
    """A state with pairs in it: `s`, a difference of params, and `y`, of gradients."""

    @property
    def pairs(self) -> Count:
        """How many were taken so far."""
        ...

    @property
    def diff_params_memory(self) -> PyTree:
        """The last s of each parameter, behind an axis of the memory's size."""
        ...

    @property
    def diff_updates_memory(self) -> PyTree:
        """The last y, likewise."""
        ...

    @property
    def weights_memory(self) -> jax.Array:
        """1 / <s, y> of each pair, 0 where there is none."""
        ...

    @property
    def scale(self) -> ScalarArray:
        """The factor of the identity that the pairs correct."""
        ...


def empty_memory(params: Params, size: int) -> dict[str, Any]:
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
def initial_scale(gradient: Updates, params: Params, scale: ScalarArray, is_first: jax.Array) -> ScalarArray:
    """The scale; in the first step, what gives the gradient a length that fits the parameters.

    Before there is a pair, nothing is known of the curvature, and a step of a gradient's own length is as often far too
    long (scipy and optax cap it at 1 too). A gradient shorter than the root of the rounding is made that long, below
    which a step is lost when it is added to parameters near 1.

    Where parameters are not near 1, because they have another unit, neither is a step that fits them. So the step
    changes some parameter by a hundredth of itself at least (as the first step of CG_DESCENT does: Hager and Zhang,
    2006, algorithm 851, https://doi.org/10.1145/1132973.1132979), and is at most ten times as long as they are.
    """

    def first() -> jax.Array:
        length, size, nearest = tree_norm(gradient), tree_norm(params), smallest_ratio(params, gradient)
        least = np.sqrt(jnp.finfo(length.dtype).eps).astype(length.dtype)
        fitting = jnp.clip(length, least, 1) / safe_divisor(length)
        fitting = jnp.maximum(fitting, jnp.where(jnp.isfinite(nearest), FIRST_CHANGE * nearest, 0))
        longest = jnp.where(size > 0, LONGEST_FIRST * size / safe_divisor(length), jnp.inf)
        return jnp.minimum(fitting, longest).astype(scale.dtype)

    # The norms are a pass over the gradient each, and are of use once.
    gradient, scale = vary_with((gradient, scale), params, gradient, scale)
    return jax.lax.cond(is_first, first, lambda: scale)


def push_pair(state: Memory, s: PyTree, y: PyTree, products: PairProducts, is_taken: jax.Array) -> dict[str, Any]:
    """The fields of `Memory` but for `scale`, with one more pair if `is_taken`; the oldest makes room."""
    weights = jnp.asarray(state.weights_memory)  # a restored state's may be NumPy's
    slot = state.pairs % weights.shape[0]

    def pushed(memory: PyTree, row: PyTree) -> PyTree:
        memory = jax.tree.map(jnp.asarray, memory)
        return jax.tree.map(lambda m, r: m.at[slot].set(jnp.where(is_taken, r.astype(m.dtype), m[slot])), memory, row)

    weight = 1 / safe_divisor(products.sy.astype(weights.dtype))
    return {
        "pairs": state.pairs + is_taken.astype(jnp.int32),
        "diff_params_memory": pushed(state.diff_params_memory, s),
        "diff_updates_memory": pushed(state.diff_updates_memory, y),
        "weights_memory": weights.at[slot].set(jnp.where(is_taken, weight, weights[slot])),
    }


def precondition(gradient: Updates, state: Memory) -> Updates:
    """The inverse Hessian times the gradient, by the two-loop recursion: newest to oldest, then back.

    Source: Nocedal, 1980; Nocedal and Wright, 2006, algorithm 7.4 (page 178).
    """
    memories = state.diff_params_memory, state.diff_updates_memory
    return _two_loops(gradient, state.pairs, memories, state.weights_memory, state.scale)


@partial(jax.jit, inline=True)  # so that an update which nobody jitted compiles them once
def _two_loops(
    gradient: Updates, pairs: Count, memories: tuple[PyTree, PyTree], weights: jax.Array, scale: ScalarArray
) -> Updates:
    size = weights.shape[0]
    newest_first = (pairs - 1 - jnp.arange(size, dtype=jnp.int32)) % size

    def pair(i: jax.Array) -> tuple[PyTree, PyTree, jax.Array]:
        s, y = (jax.tree.map(lambda m: m[i], memory) for memory in memories)
        return s, y, weights[i]

    # An empty place has weight 0, and changes nothing.
    def down(q: PyTree, i: jax.Array) -> tuple[PyTree, jax.Array]:
        s, y, weight = pair(i)
        alpha = weight * tree_vdot(s, q).astype(weight.dtype)
        return tree_add_scaled(q, -alpha, y), alpha

    def up(r: PyTree, turn: tuple[jax.Array, jax.Array]) -> tuple[PyTree, None]:
        i, alpha = turn
        s, y, weight = pair(i)
        return tree_add_scaled(r, alpha - weight * tree_vdot(y, r).astype(weight.dtype), s), None

    q, alphas = jax.lax.scan(down, vary_with(gradient, gradient, memories, scale), newest_first)
    return jax.lax.scan(up, tree_scale(q, scale), (newest_first, alphas), reverse=True)[0]
