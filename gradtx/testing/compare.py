"""Comparing trees of leaves: their kinds, their values, their finiteness."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._types import PyTree


class LawBroken(AssertionError):
    """A transformation broke a law. `law` is its name; the message says how."""

    law = ""
    number = 0
    """The law's place among those that are registered."""

    def __str__(self) -> str:
        what = super().__str__()
        return f"law {self.number} ({self.law}): {what}" if self.number else what


def is_float(leaf: object) -> bool:
    """Whether a leaf is a floating or complex number: neither a random key, nor raw bits of one, nor a count."""
    return isinstance(leaf, (float, complex)) or jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def is_key(leaf: object) -> bool:
    """Whether a leaf is a typed random key, or several."""
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def as_numbers(leaf: Any) -> np.ndarray:
    """A leaf to compare, in NumPy; a random key as the bits that it consists of."""
    if is_key(leaf):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    return array.astype(np.complex128) if is_float(leaf) else array


def describe(leaf: object) -> str:
    """Shape, dtype and weak type, as a law compares them."""
    aval = jax.typeof(leaf) if not isinstance(leaf, jax.ShapeDtypeStruct) else leaf
    return f"{aval.dtype}{list(aval.shape)}{' weak' if getattr(aval, 'weak_type', False) else ''}"


def expect_same_kind(what: str, got: PyTree, expected: PyTree) -> None:
    """Structure, shapes, dtypes and weak types of `got` are those of `expected`."""
    _expect_same_structure(what, got, expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        if describe(a) != describe(b):
            raise LawBroken(f"{what}{jax.tree_util.keystr(path)} is {describe(a)}, not {describe(b)}")


def expect_close(
    what: str, got: PyTree, expected: PyTree, *, rtol: float, atol: float, of_largest: bool = False
) -> None:
    """Equal values: floats within a tolerance, and integers and random keys exactly.

    `rtol` is relative to each entry, or to the largest of its leaf.
    """
    _expect_same_structure(what, got, expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        where, (x, y) = f"{what}{jax.tree_util.keystr(path)}", map(as_numbers, (a, b))
        if x.shape != y.shape:
            raise LawBroken(f"{where} has shape {x.shape}, not {y.shape}")
        if x.dtype.kind != "c" and not np.array_equal(x, y):
            raise LawBroken(f"{where} differs: {a} and not {b}")
        size = np.max(np.abs(y), initial=0.0, where=np.isfinite(y)) if of_largest else 0.0
        if x.dtype.kind == "c" and not np.allclose(x, y, rtol=rtol, atol=atol + rtol * size, equal_nan=True):
            raise LawBroken(f"{where} differs by {float(np.max(np.abs(x - y), initial=0.0))}")


def expect_finite(what: str, tree: PyTree, first: PyTree = None) -> None:
    """No entry is NaN or infinite, but for those that are infinite in `first`."""
    starts = jax.tree.leaves(tree if first is None else first)
    for (path, leaf), start in zip(jax.tree.leaves_with_path(tree), starts, strict=True):
        value, stays = as_numbers(leaf), first is not None and np.isinf(as_numbers(start))
        if not np.all(np.isfinite(value) | (np.isinf(value) & stays)):
            raise LawBroken(f"{what}: not finite at {jax.tree_util.keystr(path)}")


def _expect_same_structure(what: str, got: PyTree, expected: PyTree) -> None:
    if jax.tree.structure(got) != jax.tree.structure(expected):
        raise LawBroken(f"{what} has structure {jax.tree.structure(got)}, not {jax.tree.structure(expected)}")
