"""What learned optimizers share: dense layers on leading features, and what their weights must look like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from .._types import PyTree

Shapes: TypeAlias = Mapping[str, Any]
"""A tree of dicts whose leaves are shapes: what weights must look like."""

WHY_REAL = "a network of real weights reads and writes real numbers"
"""The reason that `check_real` gives."""


def dense(
    features: Float[Array, " inputs *shape"], kernel: Float[Array, " inputs outputs"], bias: Float[Array, " outputs"]
) -> Float[Array, " outputs *shape"]:
    """A dense layer along the leading axis.

    An entry's features lead, so that the axes behind them, and their sharding, are the parameter's own.
    """
    out = jnp.tensordot(kernel, features, axes=((0,), (0,)))
    return out + bias.reshape(-1, *[1] * (features.ndim - 1))


def random_kernel(
    key: Key[Array, ""], inputs: int, outputs: int, scale: float = 1.0
) -> Float[Array, "{inputs} {outputs}"]:
    """Normal, of variance `scale`^2 / inputs (LeCun et al., 1998), so that a layer keeps the size of what it reads."""
    return scale / math.sqrt(inputs) * jax.random.normal(key, (inputs, outputs), jnp.float32)


def check_weights(owner: str, weights: PyTree, shapes: Shapes, hint: str) -> None:
    """Hold weights to names and shapes; one more axis before them all is a batch, to `vmap` over.

    Raises:
        TypeError: if a leaf is not a floating array.
        ValueError: if a name is missing or unknown, a shape differs, or an entry is not finite. Its path is named.
    """
    expected = {jax.tree_util.keystr(path): shape for path, shape in _leaves(shapes)}
    given = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(weights)}
    for path in [*expected, *given]:
        if path not in given:
            raise ValueError(f"{owner}: `weights{path}` is missing. {hint}")
        if path not in expected:
            raise ValueError(f"{owner}: `weights{path}` is unknown; there are {', '.join(expected)}. {hint}")
        leaf = given[path]
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic)) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(f"{owner}: `weights{path}` must be an array of floats, got {leaf!r}. {hint}")
        if not isinstance(leaf, Tracer) and not np.all(np.isfinite(np.asarray(leaf, np.float64))):
            raise ValueError(f"{owner}: `weights{path}` has an entry that is not finite")
    batches = {leaf.shape[: leaf.ndim - len(expected[path])] for path, leaf in given.items()}
    for path, leaf in given.items():
        fits = leaf.shape[leaf.ndim - len(expected[path]) :] == expected[path]
        if not fits or len(batches) > 1:
            raise ValueError(
                f"{owner}: `weights{path}` has shape {leaf.shape}, expected {expected[path]} (or one more axis before "
                f"it, the same for all, to map over). {hint}"
            )


def check_single(owner: str, weights: PyTree, shapes: Shapes) -> None:
    """Raise ValueError for a batch of weights where one network is to be run."""
    expected = {jax.tree_util.keystr(path): shape for path, shape in _leaves(shapes)}
    for path, leaf in jax.tree.leaves_with_path(weights):
        where = jax.tree_util.keystr(path)
        if leaf.ndim > len(shape := expected[where]):
            raise ValueError(
                f"{owner}: `weights{where}` has shape {leaf.shape}, expected one of {shape}. To run several networks "
                "at once, map over them: jax.vmap(lambda weights: step(tx.replace(weights=weights), ...))(weights)"
            )


def _leaves(shapes: Shapes) -> list[tuple[Any, Any]]:
    return jax.tree.leaves_with_path(shapes, is_leaf=lambda node: isinstance(node, tuple))
