"""Which dtype to compute in: float32 for half precision, else what the leaves have."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._types import PyTree

_DOUBLE = frozenset(np.dtype(t) for t in ("float64", "complex128"))


@functools.lru_cache(maxsize=256)
def compute_dtype(dtype: DTypeLike) -> np.dtype:
    """The dtype to compute and to accumulate in: float32 for half precision, else the dtype itself."""
    dtype = np.dtype(dtype)
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def real_dtype(dtype: DTypeLike) -> np.dtype:
    """The dtype of the absolute value: float32 for complex64."""
    return np.dtype(jnp.finfo(dtype).dtype)


def in_precision(dtype: np.dtype, real: np.dtype) -> np.dtype:
    """`real`, or the complex dtype of its precision where `dtype` is complex."""
    return np.dtype(f"c{2 * real.itemsize}") if dtype.kind == "c" else real


@functools.lru_cache(maxsize=1024)
def kernel_dtype(*dtypes: np.dtype | None) -> np.dtype:
    """The real dtype of a kernel on leaves of these dtypes: the widest, and at least float32."""
    known = (compute_dtype(jnp.result_type(float) if dtype is None else dtype) for dtype in dtypes)
    return max(map(real_dtype, known), key=lambda dtype: dtype.itemsize)


def step_dtype(tree: PyTree) -> np.dtype:
    """The dtype of once-per-step scalars: float64 if any leaf of `tree` is 64-bit, else float32."""
    double = any(getattr(leaf, "dtype", None) in _DOUBLE for leaf in jax.tree.leaves(tree))
    # NumPy leaves of 64 bits are computed in 32 where JAX does not have 64.
    return np.dtype(jax.dtypes.canonicalize_dtype(np.float64 if double else np.float32))


def scalar(value: ArrayLike, dtype: DTypeLike) -> Any:
    """A hyperparameter in the dtype of once-per-step scalars, to compute with before the kernels see it.

    A plain number becomes a NumPy scalar: converting it, and arithmetic on it, cost no dispatch.
    """
    if isinstance(value, float):
        return np.dtype(dtype).type(value)
    if getattr(value, "dtype", None) == dtype and not getattr(value, "weak_type", False):
        return value
    # NumPy leaves ask for 64 bits where JAX may not have them.
    return jnp.asarray(value).astype(jax.dtypes.canonicalize_dtype(dtype))


def widen(tree: PyTree) -> PyTree:
    """Half-precision leaves as float32; the same tree where there are none."""
    leaves, structure = jax.tree.flatten(tree)
    if not any(_is_half(leaf) for leaf in leaves):
        return tree
    return structure.unflatten([leaf.astype(np.float32) if _is_half(leaf) else leaf for leaf in leaves])


def restore(tree: PyTree, like: PyTree) -> PyTree:
    """Undo `widen`: each leaf in the dtype of the corresponding leaf of `like`."""
    originals = jax.tree.leaves(like)
    if not any(_is_half(leaf) for leaf in originals):
        return tree
    return jax.tree.map(lambda new, old: new.astype(old.dtype) if _is_half(old) else new, tree, like)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """Each leaf in the dtype of the corresponding leaf of `like`."""
    return jax.tree.map(lambda new, old: jnp.asarray(new).astype(old.dtype), tree, like)


def _is_half(leaf: object) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and dtype.itemsize < 4 and jnp.issubdtype(dtype, jnp.floating)
