"""What two transformations differ in, apart from their numbers, in words."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from .._core.data import PyTreeNode, layout
from .._core.paths import Path, children
from .._core.values import StaticValues

_SHOWN = 100
_STATIC = "A static argument is part of the program: make one sweep for each of its values"
_FUNCTION = (
    "A plain function is part of the program, and numbers inside it cannot be lanes: write it as a subclass of "
    "gradtx.Schedule or gradtx.GradientTransformation with those numbers as fields, or make one sweep for each"
)
_KIND = "Make one sweep for each kind"
_NONE = "Give a number in every lane, or None in every lane"
_STAGES = "Make one sweep for each, or give the same stages with numbers that switch one off"
_ARRAYS = "Give the same arrays in every lane"


class _Difference(NamedTuple):
    path: Path
    first: Any
    second: Any
    hint: str


def difference(first: PyTreeNode, second: PyTreeNode, name: str, other: str) -> str:
    """The first place where two transformations of different structures differ.

    Args:
        first: One of the two.
        second: The other.
        name: What the first is called.
        other: What the second is called.
    """
    found = _find(first, second, ()) or _Difference((), first, second, _KIND)
    place = f"`{'.'.join(found.path)}`" if found.path else "the transformation"
    return (
        f"lanes of one sweep may differ in numbers alone, but {place} is {_brief(found.first)} in {name} and "
        f"{_brief(found.second)} in {other}. {found.hint}"
    )


def _find(first: object, second: object, path: Path) -> _Difference | None:
    if type(first) is not type(second) and (isinstance(first, PyTreeNode) or isinstance(second, PyTreeNode)):
        return _Difference(path, first, second, _NONE if first is None or second is None else _KIND)
    if isinstance(first, PyTreeNode):
        return _find_inside(first, second, path, layout(type(first)).static)
    if type(first) is type(second) and isinstance(first, (tuple, list, dict)):
        return _find_inside(first, second, path, ())
    if jax.tree.structure(first) == jax.tree.structure(second):
        return None
    return _Difference(path, first, second, _NONE if first is None or second is None else _ARRAYS)


def _find_inside(first: object, second: object, path: Path, static: tuple[str, ...]) -> _Difference | None:
    ours, theirs = children(first), children(second)
    if list(ours) != list(theirs):
        return _Difference(path, first, second, _STAGES)
    for name in ours:
        if name not in static:
            found = _find(ours[name], theirs[name], (*path, name))
            if found:
                return found
        elif StaticValues("", {name: ours[name]}) != StaticValues("", {name: theirs[name]}):
            hint = _FUNCTION if callable(ours[name]) or callable(theirs[name]) else _STATIC
            return _Difference((*path, name), ours[name], theirs[name], hint)
    return None


def _brief(value: object) -> str:
    shown = getattr(value, "__qualname__", None) or repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
