r"""L-BFGS's direction: the inverse Hessian out of the last few steps, without ever forming it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core.maths import nonzero, safe_increment
from .._core.precision import cast_like, restore, widen
from .._core.transformation import Transform, transformation
from .._core.tree import zeros_like
from .._core.vectors import products, subtract
from . import pairs


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


@transformation(check=lambda memory_size, **_: pairs.check_size("scale_by_lbfgs", memory_size))
def scale_by_lbfgs(memory_size: int = 10, scale_init_precond: bool = True) -> Transform:
    r"""Multiply the gradient by an inverse Hessian that agrees with the last step: $H_t y_{t-1} = s_{t-1}$.

    $$H_{i+1} = (I - \rho_i s_i y_i^T) H_i (I - \rho_i y_i s_i^T) + \rho_i s_i s_i^T, \qquad
    s_i = \theta_{i+1} - \theta_i,\; y_i = g_{i+1} - g_i,\; \rho_i = 1 / \langle s_i, y_i \rangle$$

    from $\gamma I$, $\gamma = \langle s, y \rangle / \langle y, y \rangle$ of the last pair, by the two-loop recursion.
    A pair of no positive curvature ($\langle s, y \rangle \le \epsilon \|s\| \|y\|$, epsilon the dtype's rounding) is
    left out, so that H stays positive definite.

    Give it full-batch gradients: a difference of two mini-batches' gradients is mostly noise
    (`scale_by_stochastic_lbfgs` is for those).

    State: `LBFGSState`, 2 `memory_size` + 2 copies of the parameters (float32 for half precision).
    Units: parameter squared over objective, times the gradient's. Not negated: the updates and the gradient have a
    positive inner product, as H is positive definite.

    Args:
        memory_size: Pairs that are kept, at least 1.
        scale_init_precond: Whether gamma is as above, and in the first step makes the gradient at most 1 long and at
            least the root of the dtype's rounding; else gamma is 1.

    Raises:
        ValueError: `memory_size` is less than 1.

    Source: Nocedal, 1980; Liu and Nocedal, 1989. Differs from optax, which takes each pair, whatever its curvature.
    """

    def init(params: Any) -> LBFGSState:
        memory = pairs.empty(params, memory_size)
        return LBFGSState(jnp.zeros([], jnp.int32), params=zeros_like(params), updates=zeros_like(params), **memory)

    def update(updates: Any, state: LBFGSState, params: Any) -> tuple[Any, LBFGSState]:
        dtype = state.scale.dtype
        gradient, here = widen(updates), widen(params)
        s, y = subtract(here, state.params), subtract(gradient, state.updates)
        of_pair = products(s, y)
        # Curvature within rounding of none is none: s and y are at right angles.
        rounding = jnp.finfo(dtype).eps * jnp.sqrt(of_pair.ss) * jnp.sqrt(of_pair.yy)
        is_taken = (state.count > 0) & (of_pair.sy * of_pair.unit > rounding)
        scale = state.scale
        if scale_init_precond:
            learned = of_pair.unit * (of_pair.sy * of_pair.unit / nonzero(of_pair.yy))
            before = pairs.scale_of(gradient, state.scale, state.count == 0)
            scale = jnp.where(is_taken, learned, before).astype(dtype)
        new = LBFGSState(
            safe_increment(state.count),
            params=cast_like(here, state.params),
            updates=cast_like(gradient, state.updates),
            scale=scale,
            **pairs.taken(state, s, y, of_pair, is_taken),
        )
        return restore(pairs.precondition(gradient, new), updates), new

    return Transform(init, update, state_type=LBFGSState)
