"""`map_leaves` for a network: every entry has several numbers of memory, and the kernel reads all of its weights."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from .._trees.checks import aligned
from .._trees.map import Kernel, map_rows
from .._trees.precision import scalar
from .._types import PyTree


def map_network(
    kernel: Kernel, trees: Mapping[str, PyTree], /, *, memory: str, weights: Mapping[str, PyTree], **flags: int
) -> tuple[PyTree, ...]:
    """Replace the leaves of `trees` by what `kernel` makes of them and of the weights.

    As `gradtx.map_leaves`, whose laws hold: half precision is computed in float32 and cast back, one trace serves all
    leaves of a shape, what is `None` in the first tree keeps what it has, nothing is broadcast.

    Args:
        kernel: A module-level function of one leaf of each tree and of `weights`, by their names.
        trees: What is replaced: the updates, then the state that belongs to them.
        memory: The tree whose leaves have one more axis before the parameter's own, so that these, and their sharding,
            stay the parameter's.
        weights: Trees of arrays of any shape, which the kernel gets whole, in its real dtype.
        flags: Static arguments of the kernel.

    Raises:
        ValueError: if structures or shapes differ; the path is named.
        TypeError: if a leaf is not floating or complex.
    """
    names = tuple(trees)
    compared = {**trees, memory: jax.tree.map(_behind_the_leading_axis, trees[memory])}
    try:
        structure, _, kinds = aligned(names, tuple(compared.values()), 0)
    except ValueError as error:
        raise ValueError(f"{error} (`{memory}` is compared without its leading axis)") from None
    rows = list(zip(*(structure.flatten_up_to(tree) for tree in trees.values()), strict=True))
    if not rows:
        return tuple(trees.values())

    def in_dtype(dtype: np.dtype) -> dict[str, Any]:
        return jax.tree.map(lambda weight: scalar(weight, dtype), dict(weights))

    new = map_rows(kernel, names, len(names), tuple(flags.items()), rows, kinds, 0, in_dtype, structure)
    return tuple(structure.unflatten(column) for column in zip(*new, strict=True))


def _behind_the_leading_axis(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
