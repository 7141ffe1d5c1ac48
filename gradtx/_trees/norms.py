"""The norm of one array, or of parts of it, for entries of any size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._maths import abs_sq, safe_sqrt
from .._types import PyTree
from .checks import checked_leaves
from .precision import compute_dtype, in_precision
from .vectors import power_of_two_scale


def array_norm(x: jax.Array, axes: tuple[int, ...] | None = None) -> jax.Array:
    """The root of the sum of squares; over all axes a scalar, else over `axes`, which then are of size 1.

    Squares are taken of what is about 1, so that none leaves the range of floats. The derivative at 0 is 0.
    """
    keep = axes is not None
    size = power_of_two_scale(jnp.max(jnp.abs(x), axis=axes, keepdims=keep, initial=0))
    near_one = (1 / size) * x
    return size * safe_sqrt(jnp.sum(abs_sq(near_one), axis=axes, keepdims=keep))


def summed_axes(ndim: int, axis: int | tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The axes to sum over, counted from the front; `None` for all, also where an array lacks one of them."""
    several = (axis,) if isinstance(axis, int) else axis
    if several is None or any(not -ndim <= i < ndim for i in several):
        return None
    return tuple(sorted({i % ndim for i in several}))


def norms(tree: PyTree, axis: int | tuple[int, ...] | None = None) -> PyTree:
    """The norm of each parameter, in float32 for half precision; over `axis`, where it has those axes, as size 1.

    Raises:
        TypeError: if a leaf is not floating or complex; its path is named.
    """
    checked_leaves(tree, "params")
    return jax.tree.map(lambda leaf: _norm_of(leaf, summed_axes(jnp.ndim(leaf), axis)), tree)


def _norm_of(leaf: ArrayLike, axes: tuple[int, ...] | None) -> jax.Array:
    dtype = np.dtype(jnp.result_type(leaf))
    wide = in_precision(dtype, compute_dtype(np.finfo(dtype).dtype)) if dtype.kind == "c" else compute_dtype(dtype)
    return _compiled_norm(jnp.asarray(leaf).astype(wide), axes)


def _standard(x: jax.Array, axes: tuple[int, ...] | None) -> jax.Array:
    with jax.numpy_dtype_promotion("standard"):  # of a real number to a complex leaf
        return array_norm(x, axes)


_compiled_norm = jax.jit(_standard, static_argnums=1, inline=True)
