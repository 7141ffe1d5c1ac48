"""Conjugate gradients that stop early, or where the curvature is negative."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._core.types import Count, PyTree, ScalarArray
from .._manual_axes import inside_shard_map, while_loop
from .._maths import safe_divisor
from .._vectors import max_abs, power_of_two_scale, tree_add_scaled, tree_scale, tree_sub, tree_vdot, tree_where
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
    curvature: ScalarArray  # along the last direction
    negative_curvature: jax.Array


def solve(product: MatrixVectorProduct, target: PyTree, rtol: ScalarArray, max_cg_steps: int) -> tuple[PyTree, CGInfo]:
    """Find x with A x = `target`, within `rtol` of the target's norm, beginning at 0.

    Every step lowers x'Ax / 2 - x'target. Where a direction has no positive curvature, x stays what it was before; if
    that is 0, it is the target itself: for Newton's method the gradient, so that minus x is steepest descent.
    Derivatives are those of the exact solution, by systems with A that are solved as roughly as this one.

    Args:
        product: `v -> A v`, linear and symmetric.
        target: A tree.
        rtol: 0 for as exact as `max_cg_steps` products allow.
        max_cg_steps: Products with A, at least 1.

    Source: Nocedal and Wright, 2006, algorithm 7.1, inner loop (page 169).
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
            negative_curvature = ~(curvature > 0)  # NaN is no curvature to rely on
            length = jnp.where(negative_curvature, 0, now.squared_residual / safe_divisor(curvature))
            x = tree_add_scaled(now.x, length, now.direction)
            residual = tree_add_scaled(now.residual, -length, tree_where(negative_curvature, now.residual, along))
            squared = tree_vdot(residual, residual).astype(dtype)
            direction = tree_add_scaled(residual, squared / safe_divisor(now.squared_residual), now.direction)
            return _Search(x, residual, direction, squared, now.hvps + 1, curvature, negative_curvature)

        none, no = jnp.zeros([], jnp.int32), jnp.zeros([], bool)
        start = _Search(tree_scale(target, 0.0), target, target, squared_target, none, jnp.zeros([], dtype), no)
        end = while_loop(goes_on, step, start)
        is_first = end.negative_curvature & (end.hvps == 1)
        x = tree_scale(tree_where(is_first, target, end.x), size)
        # A x = target - residual, so that x'Ax costs no product.
        curvature = tree_vdot(x, tree_scale(tree_sub(target, end.residual), size)).astype(dtype)
        along_target = (size * end.curvature * size).astype(dtype)
        return x, CGInfo(end.hvps, jnp.where(is_first, along_target, curvature), end.negative_curvature)

    if inside_shard_map():
        # custom_linear_solve asks there that all it reads varies alike. Without it there is no reverse mode.
        return search(product, target)
    return jax.lax.custom_linear_solve(product, target, search, symmetric=True, has_aux=True)
