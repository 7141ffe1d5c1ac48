"""Parameters and gradients to try a transformation on, and others that derive from them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._types import Params, PyTree


def ramp(shape: tuple[int, ...], dtype: DTypeLike, phase: float = 0.0) -> jax.Array:
    """Numbers between 0.5 and 1.5 in size that do not repeat: of both signs in an array, positive for a scalar.

    A parameter and a gradient that are scalars have the same sign, since a trust ratio, whose step is as long as the
    parameter, would otherwise lead to p - p: 0 in one program and a rounding in another, and the next ratio is that
    of 0 / 0.
    """
    # In NumPy, which compiles nothing for a new shape.
    angles = np.arange(np.prod(shape, dtype=int)).reshape(shape) + phase
    value = (1 + 0.5 * np.sin(angles)) * np.where((angles.astype(int) % 2 == 1) & (len(shape) > 0), -1, 1)
    if np.dtype(dtype).kind == "c":
        value = value * np.exp(1j * angles)
    return jax.device_put(value.astype(dtype))


def sample_params(dtype: DTypeLike = np.float32) -> dict[str, Any]:
    """A tree with what trees have: a matrix, a vector, a nested list, a scalar, an empty array, a `None`."""
    return {
        "b": ramp((3,), dtype, 0.3),
        "empty": jax.device_put(np.zeros((0, 2), dtype)),
        "nested": [ramp((2, 2), dtype, 0.7)],
        "none": None,
        "scalar": ramp((), dtype, 0.1),
        "w": ramp((4, 3), dtype),
    }


def ramps(like: PyTree, step: int = 0) -> PyTree:
    """A ramp for each leaf, different for each leaf and step."""
    leaves, structure = jax.tree.flatten(like)
    return structure.unflatten(
        [ramp(jnp.shape(p), jnp.result_type(p), 1.7 * i + 0.9 * step) for i, p in enumerate(leaves)]
    )


def cast(params: Params, dtype: DTypeLike) -> Params:
    """The same parameters in another dtype. Complex ones stay complex; those that become so have both parts."""
    dtype = np.dtype(dtype)

    def one(leaf: ArrayLike) -> jax.Array:
        array = np.asarray(leaf)
        if np.iscomplexobj(array) and dtype.kind != "c":
            return jax.device_put(array.astype(np.complex128 if dtype == np.float64 else np.complex64))
        turned = array.astype(np.complex128) * (0.8 + 0.6j) if dtype.kind == "c" else array
        return jax.device_put(turned.astype(dtype))

    return jax.tree.map(one, params)


def scaled(tree: PyTree, factor: float | complex) -> PyTree:
    """Each leaf times a number, in the leaf's own dtype and in NumPy, which compiles nothing."""
    return jax.tree.map(lambda leaf: jax.device_put((np.asarray(leaf) * factor).astype(leaf.dtype)), tree)


def jittered(tree: PyTree, share: float) -> PyTree:
    """Each entry times 1 + share or 1 - share, by turns, in the dtype of its leaf."""

    def one(leaf: jax.Array) -> jax.Array:
        array = np.asarray(leaf)
        signs = np.where(np.arange(array.size).reshape(array.shape) % 2 == 0, 1.0, -1.0)
        precise = array.astype(np.result_type(array, np.float64)) * (1 + share * signs)
        return jax.device_put(precise.astype(leaf.dtype))

    return jax.tree.map(one, tree)


class Pair(NamedTuple):
    """A NamedTuple of parameters."""

    kernel: Any
    bias: Any


@jax.tree_util.register_pytree_with_keys_class
class Node:
    """A custom node of a pytree, as modules are."""

    def __init__(self, kernel: PyTree, bias: PyTree):
        self.kernel, self.bias = kernel, bias

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], None]:
        """The two children by their names."""
        return tuple((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in ("kernel", "bias")), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[Any, Any]) -> Node:
        """The node of two children."""
        return cls(*children)


def trees(params: Params | None) -> dict[str, PyTree]:
    """Trees of all kinds; of parameters that were given, the same with a `None` in each place."""
    if params is None:
        kernel, bias = ramp((2, 3), np.float32), ramp((2,), np.float32, 0.5)
        return {
            "an empty tree": {},
            "a bare scalar": ramp((), np.float32),
            "an array of size 0": {"empty": jnp.zeros((0, 3)), "kernel": kernel},
            "a None leaf": {"none": None, "kernel": kernel},
            "a tuple": (kernel, bias),
            "a NamedTuple": Pair(kernel, bias),
            "a custom node": {"layer": Node(kernel, bias)},
        }
    leaves, structure = jax.tree.flatten(params)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)]
    without = {
        f"None at {path}": structure.unflatten([None if i == j else leaf for j, leaf in enumerate(leaves)])
        for i, path in enumerate(paths)
        if path
    }
    return {"the parameters given": params, **without}


def huge(params: Params | None) -> PyTree:
    """Structs so large that whatever is really allocated for them cannot be; `None` where there are only scalars."""
    if params is None:
        return {"huge": jax.ShapeDtypeStruct((1 << 20, 1 << 20), np.float32)}
    if not any(np.ndim(leaf) for leaf in jax.tree.leaves(params)):
        return None

    def one(leaf: ArrayLike) -> jax.ShapeDtypeStruct:
        shape = np.shape(leaf)
        large = (*shape[:-2], 1 << 20, 1 << 20) if len(shape) > 1 else (1 << 40,) * len(shape)
        return jax.ShapeDtypeStruct(large, jnp.result_type(leaf))

    return jax.tree.map(one, params)
