"""`map_leaves` for a network: every entry has several numbers of memory, and the kernel reads all of its weights."""

from collections.abc import Mapping
from typing import Any

import jax

from .._core.checks import aligned
from .._core.precision import kernel_dtype, scalar
from .._core.tree import Kernel, _chunks, _groups, _lifted
from .._core.types import PyTree


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
    new: list[Any] = list(rows)
    one, several = _lifted(kernel, names, len(names), tuple(flags.items()))
    for kind, group in _groups(kinds, 0).items():
        dtype = kernel_dtype(*(each[1] for each in kind if each is not None))
        converted = jax.tree.map(lambda weight, to=dtype: scalar(weight, to), dict(weights))
        for indices in _chunks(group):
            chunk = [rows[i] for i in indices]
            out = several(chunk, converted) if len(chunk) > 1 else [one(chunk[0], converted)]
            for i, leaves in zip(indices, out, strict=True):
                new[i] = leaves
    if not rows:
        return tuple(trees.values())
    return tuple(structure.unflatten(column) for column in zip(*new, strict=True))


def _behind_the_leading_axis(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
