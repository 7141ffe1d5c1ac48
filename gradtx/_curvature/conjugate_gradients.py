"""Conjugate gradients that stop early, or where the curvature is negative."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._manual_axes import inside_shard_map, while_loop
from .._maths import safe_divisor
from .._trees.vectors import max_abs, power_of_two_scale, tree_add_scaled, tree_scale, tree_sub, tree_vdot, tree_where
from .._types import Count, PyTree, ScalarArray
from .hessian import MatrixVectorProduct


class CGInfo(NamedTuple):
    """How a solution was found."""

    hvps: Count
    """Products with the matrix."""
    curvature: ScalarArray
    """x'Ax."""
    negative_curvature: jax.Array
    """Whether a direction of no positive curvature was met; bool."""


class _Search(NamedTuple):
    x: PyTree
    residual: PyTree
    direction: PyTree
    squared_residual: ScalarArray
    hvps: Count
    negative_curvature: jax.Array


def solve(product: MatrixVectorProduct, target: PyTree, rtol: ScalarArray, max_cg_steps: int) -> tuple[PyTree, CGInfo]:
    """Find x with A x = `target`, within `rtol` of the target's norm, beginning at 0.

    Every step lowers x'Ax / 2 - x'target. A direction of negative curvature is the last one; along it x goes as far as
    the curvature's absolute value says, for which the model falls faster than along one of positive curvature. So
    x'target is positive, and for Newton's method minus x is a descent direction. A direction of no curvature, or NaN,
    gives no length; if it is the first, x is the target itself.
    Derivatives are those of the exact solution, by systems with A that are solved as roughly as this one.

    Args:
        product: `v -> A v`, linear and symmetric.
        target: A tree.
        rtol: 0 for as exact as `max_cg_steps` products allow.
        max_cg_steps: Products with A, at least 1.

    Source: Nocedal and Wright, 2006, algorithm 7.1, inner loop (page 169), which stops before a direction of negative
    curvature; the absolute value is that of saddle-free Newton (Dauphin et al., 2014, https://arxiv.org/abs/1406.2572).
    """
    dtype = jnp.result_type(rtol)

    def search(product: MatrixVectorProduct, target: PyTree) -> tuple[PyTree, CGInfo]:
        # The target is divided by its size, so that squares of the residual stay in range.
        size = power_of_two_scale(max_abs(target))
        target = tree_scale(target, 1 / size)
        squared_target = tree_vdot(target, target).astype(dtype)

        def goes_on(now: _Search) -> jax.Array:
            is_far = now.squared_residual > jnp.square(rtol) * squared_target
            return is_far & ~now.negative_curvature & (now.hvps < max_cg_steps)

        def step(now: _Search) -> _Search:
            along = product(now.direction)
            curvature = tree_vdot(now.direction, along).astype(dtype)
            length = now.squared_residual / safe_divisor(jnp.abs(curvature))
            is_usable = jnp.isfinite(length) & (curvature != 0)  # NaN and 0 give no length
            length, along = jnp.where(is_usable, length, 0), tree_where(is_usable, along, now.residual)
            x = tree_add_scaled(now.x, length, now.direction)
            residual = tree_add_scaled(now.residual, -length, along)
            squared = tree_vdot(residual, residual).astype(dtype)
            direction = tree_add_scaled(residual, squared / safe_divisor(now.squared_residual), now.direction)
            return _Search(x, residual, direction, squared, now.hvps + 1, ~(curvature > 0))

        none, no = jnp.zeros([], jnp.int32), jnp.zeros([], bool)
        start = _Search(tree_scale(target, 0.0), target, target, squared_target, none, no)
        end = while_loop(goes_on, step, start)
        # Where not even the first direction has a curvature to rely on, the target itself.
        is_nowhere = end.negative_curvature & (max_abs(end.x) == 0)
        x = tree_scale(tree_where(is_nowhere, target, end.x), size)
        # A x = target - residual, so that x'Ax costs no product.
        curvature = tree_vdot(x, tree_scale(tree_sub(target, end.residual), size)).astype(dtype)
        return x, CGInfo(end.hvps, curvature, end.negative_curvature)

    if inside_shard_map():
        # custom_linear_solve asks there that all it reads varies alike. Without it there is no reverse mode.
        return search(product, target)
    return jax.lax.custom_linear_solve(product, target, search, symmetric=True, has_aux=True)
