"""Conjugate gradients that stop early, or where the curvature is negative."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core.maths import nonzero
from .._core.tree import inner
from .._core.vectors import add_scaled, largest, subtract, times, unit
from .curvature import Product
from .ray import where


class Solved(NamedTuple):
    """How a solution was found: `products` with the matrix, `curved` (x'Ax), and whether it `bends` down somewhere."""

    products: jax.Array
    curved: jax.Array
    bends: jax.Array


class _Search(NamedTuple):
    x: Any
    residual: Any
    direction: Any
    square: jax.Array  # of the residual
    products: jax.Array
    curved: jax.Array  # of the last direction
    bends: jax.Array


def solve(product: Product, target: Any, rtol: jax.Array, most: int) -> tuple[Any, Solved]:
    """An x with A x = `target`, within `rtol` of the target's norm, from 0.

    Every step lowers x'Ax / 2 - x'target. Where a direction has no positive curvature, x stays what it was before; if
    that is 0, it is the target itself: minus a gradient. Derivatives are those of the
    exact solution, by systems with A that are solved as roughly as this one.

    Args:
        product: `v -> A v`, linear and symmetric.
        target: A tree.
        rtol: 0 for as exact as `most` products allow.
        most: Products, at least 1.
    """
    dtype = jnp.result_type(rtol)

    def search(product: Product, target: Any) -> tuple[Any, Solved]:
        size = unit(largest(target))
        target = times(target, 1 / size)
        whole = inner(target, target).astype(dtype)

        def goes_on(now: _Search) -> jax.Array:
            is_far = now.square > jnp.square(rtol) * whole
            return is_far & ~now.bends & (now.products < most)

        def step(now: _Search) -> _Search:
            towards = product(now.direction)
            curved = inner(now.direction, towards).astype(dtype)
            bends = ~(curved > 0)  # NaN is no curvature to rely on
            length = jnp.where(bends, 0, now.square / nonzero(curved))
            x = add_scaled(now.x, length, now.direction)
            residual = add_scaled(now.residual, -length, where(bends, now.residual, towards))
            square = inner(residual, residual).astype(dtype)
            direction = add_scaled(residual, square / nonzero(now.square), now.direction)
            return _Search(x, residual, direction, square, now.products + 1, curved, bends)

        nothing, no = jnp.zeros([], jnp.int32), jnp.zeros([], bool)
        start = _Search(times(target, 0.0), target, target, whole, nothing, jnp.zeros([], dtype), no)
        end = jax.lax.while_loop(goes_on, step, start)
        is_first = end.bends & (end.products == 1)
        x = times(where(is_first, target, end.x), size)
        gained = inner(x, times(subtract(target, end.residual), size)).astype(dtype)
        along_target = (size * end.curved * size).astype(dtype)
        return x, Solved(end.products, jnp.where(is_first, along_target, gained), end.bends)

    return jax.lax.custom_linear_solve(product, target, search, symmetric=True, has_aux=True)
