"""Axes of a leaf to sum along, as an argument and as what is meant where none are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np

from .._core.fields import Convert


def _axes(value: Any) -> tuple[int, ...] | None:
    axes = value if isinstance(value, (tuple, list)) else None if value is None else (value,)
    for axis in axes or ():
        if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool):
            raise TypeError(f"expected an axis, a tuple of axes or None, got {value!r}")
    return None if axes is None else tuple(map(int, axes))


if TYPE_CHECKING:
    Axes: TypeAlias = int | tuple[int, ...] | None
else:
    Axes: TypeAlias = Annotated[Any, "static", Convert(_axes)]


def axes_of(axis: tuple[int, ...] | None, ndim: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that are meant, without those that a leaf of `ndim` axes does not have."""
    if axis is None:
        return default
    return tuple(sorted({each % ndim for each in axis if -ndim <= each < ndim}))
