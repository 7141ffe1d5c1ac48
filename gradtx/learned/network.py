"""What learned optimizers share: dense layers on features that lead, and what their weights must look like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Shapes = Mapping[str, Any]
"""A tree of dicts whose leaves are shapes: what weights must look like."""


def dense(features: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """A dense layer along the leading axis, whatever the others are: (inputs, ...) becomes (outputs, ...).

    An entry's features lead, so that the axes behind them, and their sharding, are the parameter's own.
    """
    out = jnp.tensordot(kernel, features, axes=((0,), (0,)))
    return out + bias.reshape(-1, *[1] * (features.ndim - 1))


def real_only(owner: str, tree: Any) -> Any:
    """The tree, if no leaf is complex: a network of real weights reads real numbers. Raises TypeError otherwise."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if jnp.iscomplexobj(leaf):
            raise TypeError(f"{owner} does not take complex numbers; the leaf at {jax.tree_util.keystr(path)} has some")
    return tree


def random_kernel(key: jax.Array, inputs: int, outputs: int, scale: float = 1.0) -> jax.Array:
    """Normal, of variance `scale`^2 / inputs (LeCun), so that a layer keeps the size of what it reads."""
    return scale / math.sqrt(inputs) * jax.random.normal(key, (inputs, outputs), jnp.float32)


def check_weights(owner: str, weights: Any, shapes: Shapes, mend: str) -> None:
    """Hold weights to names and shapes; one more axis before them all is a batch, to `vmap` over.

    Raises:
        TypeError: A leaf is no floating array.
        ValueError: A name is missing or unknown, a shape differs, or an entry is not finite. Its path is named.
    """
    wanted = {jax.tree_util.keystr(path): shape for path, shape in _leaves(shapes)}
    came = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(weights)}
    for path in [*wanted, *came]:
        if path not in came:
            raise ValueError(f"{owner}: `weights{path}` is missing. {mend}")
        if path not in wanted:
            raise ValueError(f"{owner}: `weights{path}` is unknown; there are {', '.join(wanted)}. {mend}")
        leaf = came[path]
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic)) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(f"{owner}: `weights{path}` must be an array of floats, got {leaf!r}. {mend}")
        if not np.all(np.isfinite(np.asarray(leaf, np.float64))):
            raise ValueError(f"{owner}: `weights{path}` has an entry that is not finite")
    batches = {leaf.shape[: leaf.ndim - len(wanted[path])] for path, leaf in came.items()}
    for path, leaf in came.items():
        fits = leaf.shape[leaf.ndim - len(wanted[path]) :] == wanted[path]
        if not fits or len(batches) > 1:
            raise ValueError(
                f"{owner}: `weights{path}` has shape {leaf.shape}, expected {wanted[path]} (or one more axis before "
                f"it, the same for all, to map over). {mend}"
            )


def check_one(owner: str, weights: Any, shapes: Shapes) -> None:
    """Raise ValueError for a batch of weights where one network is to be run."""
    wanted = {jax.tree_util.keystr(path): shape for path, shape in _leaves(shapes)}
    for path, leaf in jax.tree.leaves_with_path(weights):
        where = jax.tree_util.keystr(path)
        if leaf.ndim > len(shape := wanted[where]):
            raise ValueError(
                f"{owner}: `weights{where}` has shape {leaf.shape}, expected one of {shape}. To run several networks "
                "at once, map over them: jax.vmap(step, in_axes=(gradtx.batch_axes(tx), ...))(tx, ...)"
            )


def _leaves(shapes: Shapes) -> list[tuple[Any, Any]]:
    return jax.tree.leaves_with_path(shapes, is_leaf=lambda node: isinstance(node, tuple))
