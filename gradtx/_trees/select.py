"""Parts of a tree: the leaves that a label selects, with `None` in place of the others, and such parts put together.

What is `None` in the tree that a transformation sees does not exist for it, and costs no state.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import jax

from .._types import PyTree
from .checks import describe


def only(name: str, tree: PyTree, labels: PyTree, label: Hashable) -> PyTree:
    """The tree with `None` in place of leaves that have another label.

    Args:
        name: What messages call the tree.
        tree: As `labels`; it may have `None` where those have a label.
        labels: A label for each leaf.
        label: Which leaves to keep.

    Raises:
        ValueError: if the structures differ; the first path that only one of the two has is named.
    """
    leaves, theirs, structure = _aligned(name, tree, labels)
    return structure.unflatten([leaf if own == label else None for leaf, own in zip(leaves, theirs, strict=True)])


def merged(trees: Mapping[Any, PyTree], labels: PyTree) -> PyTree:
    """Each leaf from the tree of its label."""
    owners, structure = jax.tree.flatten(labels, is_leaf=_is_none)
    columns = {label: _aligned(f"the tree of {label!r}", tree, labels)[0] for label, tree in trees.items()}
    return structure.unflatten([None if own is None else columns[own][i] for i, own in enumerate(owners)])


def _aligned(name: str, tree: PyTree, labels: PyTree) -> tuple[list[Any], list[Any], Any]:
    leaves, structure = jax.tree.flatten(tree, is_leaf=_is_none)
    theirs, expected = jax.tree.flatten(labels, is_leaf=_is_none)
    if structure != expected:
        raise ValueError(_difference(name, tree, labels))
    return leaves, theirs, structure


def _is_none(leaf: object) -> bool:
    return leaf is None


def _difference(name: str, tree: PyTree, labels: PyTree) -> str:
    here, there = (
        {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(each, is_leaf=_is_none)}
        for each in (tree, labels)
    )
    for path in (path for path in here if path not in there):
        return f"{name}{path} is {describe(here[path])}, but the parameters have nothing there"
    for path in (path for path in there if path not in here):
        return f"{name} has nothing at {path or 'its root'}, where the parameters have a leaf"
    return f"{name} has the parameters' leaves in other containers: expected {jax.tree.structure(labels)}"
