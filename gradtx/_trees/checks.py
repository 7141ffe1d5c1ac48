"""Do trees fit each other? Compared fast; a difference is looked for, and put into words, only when there is one."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._types import PyTree


@functools.lru_cache(maxsize=256)
def _is_inexact(dtype: np.dtype) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.inexact))


def _is_number(leaf: object) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return isinstance(leaf, (float, complex)) if dtype is None else _is_inexact(dtype)


def checked_leaves(tree: object, name: str) -> list[Any]:
    """The leaves, each floating or complex. Raises TypeError that names the path of one which is not."""
    leaves = jax.tree.leaves(tree)
    if all(map(_is_number, leaves)):
        return leaves
    path, leaf = next((path, leaf) for path, leaf in jax.tree.leaves_with_path(tree) if not _is_number(leaf))
    kind = f"dtype {leaf.dtype}" if hasattr(leaf, "dtype") else f"type {type(leaf).__name__} ({leaf!r})"
    raise TypeError(
        f"{name}{jax.tree_util.keystr(path)} has {kind}, expected a floating or complex array. "
        "Leave what is not trained out of the tree, or put None in its place"
    )


def check_rank(name: str, value: Any) -> None:
    """A hyperparameter in use is one number; a batch of them is for vmap. Raises ValueError otherwise."""
    if np.ndim(value) != 0:
        raise ValueError(
            f"`{name}` has shape {np.shape(value)}, expected one number. To run several at once, map over them: "
            "jax.vmap(step, in_axes=(gradtx.batch_axes(tx), ...))(tx, ...)"
        )


def check_real(owner: str, name: str, tree: PyTree, why: str) -> None:
    """Raise TypeError for a complex leaf, by its path."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
            where = f"{name}{jax.tree_util.keystr(path)}"
            raise TypeError(f"{owner}: {where} is complex, expected real numbers: {why}")


Kind = tuple[tuple[int, ...], np.dtype | None] | None
"""A leaf's shape and dtype (`None` for a Python number's); `None` for an absent leaf."""


def aligned(
    names: Sequence[str], trees: Sequence[PyTree], optional: int
) -> tuple[Any, list[tuple[Any, ...]], list[tuple[Kind, ...]]]:
    """The structure to put new leaves into, and for each place its leaves, one of each tree, and their kinds.

    Args:
        names: What messages call the trees.
        trees: At least one.
        optional: Which tree may have `None` where the others have a leaf; the `None` is then among the leaves.

    Raises:
        ValueError: if structures or shapes differ.
        TypeError: if a leaf is not floating or complex.
    """
    columns, structures = zip(*map(jax.tree.flatten, trees), strict=True)
    if any(s != structures[0] for s in structures[1:]):
        flat = [jax.tree.flatten(tree, is_leaf=_is_none) for tree in trees]
        columns, structures = zip(*flat, strict=True)
        absent = [{i for i, leaf in enumerate(column) if leaf is None} for column in columns]
        if any(s != structures[0] for s in structures[1:]) or not all(a <= absent[optional] for a in absent):
            raise ValueError(_difference(names, trees, optional))
    # A tracer's shape and dtype are asked for once: with many leaves that is most of what a check costs.
    kinds = list(zip(*[[_kind(leaf) for leaf in column] for column in columns], strict=True))
    for kind in set(kinds):
        known = [each for each in kind if each is not None]
        if any(shape != known[0][0] for shape, _ in known[1:]):
            raise ValueError(_difference(names, trees, optional))
        if any(dtype is None or not _is_inexact(dtype) for _, dtype in known):
            for name, tree in zip(names, trees, strict=True):
                checked_leaves(tree, name)
    return structures[0], list(zip(*columns, strict=True)), kinds


def _is_none(leaf: object) -> bool:
    return leaf is None


def _kind(leaf: object) -> Kind:
    return None if leaf is None else (shape_of(leaf), getattr(leaf, "dtype", None))


def shape_of(leaf: object) -> tuple[int, ...]:
    return getattr(leaf, "shape", ())


def _difference(names: Sequence[str], trees: Sequence[PyTree], optional: int) -> str:
    """The first path at which a later tree (params, state) and the first differ."""
    first = _by_path(trees[0])
    for name, tree in zip(names[1:], trees[1:], strict=True):
        other = _by_path(tree)
        for path in [*other, *first]:
            here, there = first.get(path), other.get(path)
            if path in first and path in other and (here if optional == 0 else there) is None:
                continue  # `None` where it may be
            if here is None and there is not None:
                return f"{names[0]} has nothing at {path or 'its root'}, but {name} has {describe(there)} there"
            if there is None and here is not None:
                return f"{names[0]}{path} is {describe(here)}, but {name} has nothing there"
            if shape_of(here) != shape_of(there):
                return (
                    f"{names[0]}{path} has shape {shape_of(here)}, but {name}{path} has shape {shape_of(there)}; "
                    "they must be equal, nothing is broadcast"
                )
    return (
        f"{names[0]} and {names[1]} have the same leaves in different containers: expected "
        f"{jax.tree.structure(trees[1])}, got {jax.tree.structure(trees[0])}"
    )


def _by_path(tree: object) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree, is_leaf=_is_none)}


def describe(leaf: object) -> str:
    return f"{getattr(leaf, 'dtype', type(leaf).__name__)}{list(shape_of(leaf))}"
