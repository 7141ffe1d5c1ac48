r"""L-BFGS's direction: the inverse Hessian out of the last few steps, without ever forming it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._core.contract import GradientTransformation
from .._core.fields import AtLeastOne
from .._manual_axes import vary_with
from .._maths import safe_divisor, safe_increment
from .._trees.checks import aligned
from .._trees.map import zeros_like
from .._trees.precision import cast_like, restore, widen
from .._trees.vectors import completed, pair_products, present, tree_sub
from .._types import Count, Params, ScalarArray, Updates
from .lbfgs_memory import empty_memory, initial_scale, precondition, push_pair

PER_PARAMETER = ("params", "updates", "diff_params_memory", "diff_updates_memory")
"""The fields of the state with a leaf for each parameter."""


class ScaleByLBFGSState(NamedTuple):
    """State of `scale_by_lbfgs`: optax's fields, and two more."""

    count: Count
    """Number of updates."""
    params: Params
    """The last parameters."""
    updates: Updates
    """The last gradient."""
    diff_params_memory: Params
    """Differences of parameters in the last steps, behind an axis of `memory_size`."""
    diff_updates_memory: Updates
    """Differences of gradients, likewise."""
    weights_memory: jax.Array
    """1 over the inner product of each pair; 0 where there is none."""
    pairs: Count
    """Number of pairs that were taken."""
    scale: ScalarArray
    """The factor of the identity that the pairs correct."""


class scale_by_lbfgs(GradientTransformation):
    r"""Multiply the gradient by an inverse Hessian that agrees with the last step: $H_t y_{t-1} = s_{t-1}$.

    $$H_{i+1} = (I - \rho_i s_i y_i^T) H_i (I - \rho_i y_i s_i^T) + \rho_i s_i s_i^T, \qquad
    s_i = \theta_{i+1} - \theta_i,\; y_i = g_{i+1} - g_i,\; \rho_i = 1 / \langle s_i, y_i \rangle$$

    from $\gamma I$, $\gamma = \langle s, y \rangle / \langle y, y \rangle$ of the last pair, by the two-loop recursion.
    A pair of no positive curvature ($\langle s, y \rangle \le \epsilon \|s\| \|y\|$, epsilon the dtype's rounding) is
    left out, so that H stays positive definite.

    Give it full-batch gradients: a difference of two mini-batches' gradients is mostly noise
    (`scale_by_stochastic_lbfgs` is for those).

    State: `ScaleByLBFGSState`, 2 `memory_size` + 2 copies of the parameters (float32 for half precision).
    Needs `params`.
    Units: parameter squared over objective, times the gradient's. Not negated: the updates and the gradient have a
    positive inner product, as H is positive definite.

    Args:
        memory_size: Pairs that are kept, at least 1.
        scale_init_precond: Whether gamma is as above, and in the first step gives the gradient a length that fits the
            parameters: at most 1, where that changes some parameter by a hundredth of itself, and at most ten times
            the parameters' own; else gamma is 1.

    Raises:
        ValueError: if `memory_size` is less than 1.

    Source: Nocedal, 1980; Liu and Nocedal, 1989; Nocedal and Wright, 2006, algorithm 7.4 and equation 7.20.
    Differs from optax, which takes each pair, whatever its curvature, and whose first step is a gradient of at most 1,
    in whatever unit the parameters are.
    """

    memory_size: AtLeastOne = 10
    scale_init_precond: bool = True

    def init(self, params: Params) -> ScaleByLBFGSState:
        memory = empty_memory(params, self.memory_size)
        state = ScaleByLBFGSState(jnp.zeros([], jnp.int32), zeros_like(params), zeros_like(params), **memory)
        return vary_with(state, params)

    def update(self, updates: Updates, state: ScaleByLBFGSState, params: Params) -> tuple[Updates, ScaleByLBFGSState]:
        aligned(("updates", "params"), (updates, params), 0)
        # What has no gradient is left out of every inner product, and keeps its state.
        whole, params = state, present(params, updates)
        state = state._replace(**{name: present(getattr(state, name), updates) for name in PER_PARAMETER})
        dtype = state.scale.dtype
        gradient, here = widen(updates), widen(params)
        s, y = tree_sub(here, state.params), tree_sub(gradient, state.updates)
        products = pair_products(s, y)
        # Curvature within rounding of none is none: s and y are at right angles. The norms are taken apart, because
        # their squares' product may leave the range of floats.
        rounding = jnp.finfo(dtype).eps * jnp.sqrt(products.ss) * jnp.sqrt(products.yy)
        is_taken = (state.count > 0) & (products.sy * products.y_scale > rounding)
        scale = state.scale
        if self.scale_init_precond:
            from_pair = products.y_scale * (products.sy * products.y_scale / safe_divisor(products.yy))
            otherwise = initial_scale(gradient, here, state.scale, state.count == 0)
            scale = jnp.where(is_taken, from_pair, otherwise).astype(dtype)
        new = ScaleByLBFGSState(
            count=safe_increment(state.count),
            params=cast_like(here, state.params),
            updates=cast_like(gradient, state.updates),
            scale=scale,
            **push_pair(state, s, y, products, is_taken),
        )
        kept = {name: completed(getattr(new, name), getattr(whole, name)) for name in PER_PARAMETER}
        return restore(precondition(gradient, new), updates), new._replace(**kept)
