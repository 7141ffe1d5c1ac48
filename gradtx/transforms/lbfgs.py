r"""L-BFGS's direction: the inverse Hessian out of the last few steps, without ever forming it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core.maths import nonzero, safe_increment
from .._core.precision import restore, step_dtype, widen
from .._core.transformation import Transform, transformation
from .._core.tree import inner, map_leaves, zeros_like


class LBFGSState(NamedTuple):
    """What the pairs of differences were made of, and the pairs.

    `count` of updates and `pairs` that were taken, int32; the last `params` and `updates`; the differences of each in
    the last few steps, leading with an axis of `memory_size`; $1 / \\langle s, y \\rangle$ of each pair, 0 where there
    is none; and the `scale` of the identity that the pairs mend.
    """

    count: jax.Array
    pairs: jax.Array
    params: Any
    updates: Any
    diff_params_memory: Any
    diff_updates_memory: Any
    weights_memory: jax.Array
    scale: jax.Array


def _remembers(memory_size: int, **_: Any) -> None:
    if memory_size < 1:
        raise ValueError(f"scale_by_lbfgs: `memory_size` must be at least 1 pair, got {memory_size}")


@transformation(check=_remembers)
def scale_by_lbfgs(memory_size: int = 10, scale_init_precond: bool = True) -> Transform:
    r"""Multiply the gradient by an inverse Hessian that agrees with the last step: $H_t y_{t-1} = s_{t-1}$.

    $$H_{i+1} = (I - \rho_i s_i y_i^T) H_i (I - \rho_i y_i s_i^T) + \rho_i s_i s_i^T, \qquad
    s_i = \theta_{i+1} - \theta_i,\; y_i = g_{i+1} - g_i,\; \rho_i = 1 / \langle s_i, y_i \rangle$$

    from $\gamma I$, $\gamma = \langle s, y \rangle / \langle y, y \rangle$ of the last pair, by the two-loop recursion.
    A pair of no positive curvature (beyond rounding) is left out, so that H stays positive definite.

    Give it full-batch gradients: a difference of two mini-batches' gradients is mostly noise.

    State: `LBFGSState`, 2 `memory_size` + 2 copies of the parameters (float32 for half precision).
    Units: parameter squared over objective, times the gradient's. Not negated: the updates and the gradient have a
    positive inner product, as H is positive definite.

    Args:
        memory_size: Pairs that are kept, at least 1.
        scale_init_precond: Whether gamma is as above, and min(1, 1 / ||g||) in the first step; else 1.

    Raises:
        ValueError: `memory_size` is less than 1.

    Source: Nocedal, 1980; Liu and Nocedal, 1989. Differs from optax, which takes each pair, whatever its curvature.
    """

    def init(params: Any) -> LBFGSState:
        dtype = step_dtype(params)

        def memory() -> Any:
            return jax.tree.map(lambda p: jnp.broadcast_to(p[None], (memory_size, *p.shape)), zeros_like(params))

        return LBFGSState(
            jnp.zeros([], jnp.int32),
            jnp.zeros([], jnp.int32),
            zeros_like(params),
            zeros_like(params),
            memory(),
            memory(),
            jnp.zeros([memory_size], dtype),
            jnp.ones([], dtype),
        )

    def update(updates: Any, state: LBFGSState, params: Any) -> tuple[Any, LBFGSState]:
        dtype = state.scale.dtype
        gradient, here = widen(updates), widen(params)
        s = map_leaves(_minus, [here], reads=[state.params])
        y = map_leaves(_minus, [gradient], reads=[state.updates])
        sy, yy = inner(s, y).astype(dtype), inner(y, y).astype(dtype)
        # As scipy's L-BFGS-B: curvature within rounding of none is none.
        is_taken = (state.count > 0) & (sy > jnp.finfo(dtype).eps * yy)
        slot = state.pairs % memory_size

        def kept(memory: Any, row: Any) -> Any:
            return jax.tree.map(
                lambda m, r: m.at[slot].set(jnp.where(is_taken, r.astype(m.dtype), m[slot])), memory, row
            )

        weight = jnp.where(is_taken, 1 / nonzero(sy), state.weights_memory[slot])
        scale = state.scale
        if scale_init_precond:
            norm = jnp.sqrt(inner(gradient, gradient)).astype(dtype)
            first = 1 / jnp.maximum(norm, 1)
            scale = jnp.where(is_taken, sy / nonzero(yy), jnp.where(state.count == 0, first, scale))
        new = LBFGSState(
            safe_increment(state.count),
            state.pairs + is_taken.astype(jnp.int32),
            _as(here, state.params),
            _as(gradient, state.updates),
            kept(state.diff_params_memory, s),
            kept(state.diff_updates_memory, y),
            state.weights_memory.at[slot].set(weight),
            scale,
        )
        return restore(_precondition(gradient, new), updates), new

    return Transform(init, update, state_type=LBFGSState)


def _precondition(gradient: Any, state: LBFGSState) -> Any:
    """The two-loop recursion: newest to oldest, then back."""
    size = state.weights_memory.shape[0]
    order = (state.pairs - 1 - jnp.arange(size, dtype=jnp.int32)) % size

    def pair(i: jax.Array) -> tuple[Any, Any, jax.Array]:
        s, y = (
            jax.tree.map(lambda m: m[i], memory) for memory in (state.diff_params_memory, state.diff_updates_memory)
        )
        return s, y, state.weights_memory[i]

    def down(q: Any, i: jax.Array) -> tuple[Any, jax.Array]:
        s, y, weight = pair(i)
        part = weight * inner(s, q).astype(weight.dtype)
        return map_leaves(_add_scaled, [q], [-part], reads=[y]), part

    def up(r: Any, turn: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        i, part = turn
        s, y, weight = pair(i)
        return map_leaves(_add_scaled, [r], [part - weight * inner(y, r).astype(weight.dtype)], reads=[s]), None

    q, parts = jax.lax.scan(down, gradient, order)
    return jax.lax.scan(up, map_leaves(_times, [q], [state.scale]), (order, parts), reverse=True)[0]


def _as(tree: Any, like: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.asarray(x).astype(y.dtype), tree, like)


def _minus(a: jax.Array, b: jax.Array) -> jax.Array:
    return a - b


def _times(a: jax.Array, factor: jax.Array) -> jax.Array:
    return factor * a


def _add_scaled(a: jax.Array, b: jax.Array, factor: jax.Array) -> jax.Array:
    return a + factor * b
