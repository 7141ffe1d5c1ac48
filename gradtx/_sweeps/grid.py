"""A grid of hyperparameters as one batch of transformations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .._types import PyTree
from .lanes import Grid, plain_number, stacked


def grid(factory: Callable[..., Any], /, **axes: Iterable[Any]) -> Grid:
    """Every combination of some values of a factory's arguments, as one batch.

        lanes = gradtx.grid(gradtx.adam, learning_rate=[0.01, 0.1], b1=[0.5, 0.9, 0.99])      # 6 lanes
        results = gradtx.sweep(train, lanes)                                # its arrays lead with the axes (2, 3)
        best = gradtx.lane(lanes, results["loss"].argmin())

    The factory is called once for each combination, with plain Python numbers, and may do with them what it likes:
    build a schedule or a chain, or compute a decay from a number of steps.

    Args:
        factory: An optimizer, or a function that makes a transformation from keyword arguments. What is fixed is set in
            it: `functools.partial(gradtx.adam, eps=1e-6)`.
        axes: For each argument that varies, its values. Arrays of float32 are read as the shortest decimals that name
            their entries.

    Returns:
        `(txs, labels)`: the batch as `stack` makes it, the last axis fastest; and the values along each axis.

    Raises:
        ValueError: if an axis is empty or there is none, or what the factory makes differs in more than numbers; then
            the two combinations and the place are named.
        TypeError: if an axis is no sequence of values, or the factory makes no transformation of gradtx.
    """
    if not axes:
        raise ValueError("grid: give at least one axis, such as learning_rate=[0.01, 0.1]")
    values = {name: _values(name, axis) for name, axis in axes.items()}
    points = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]

    def name(i: int) -> str:
        return "the lane " + ", ".join(f"{key}={value!r}" for key, value in points[i].items())

    txs = stacked("grid", [factory(**point) for point in points], name)
    return Grid(txs, {name: _label(axis) for name, axis in values.items()})


def _values(name: str, axis: PyTree) -> list[Any]:
    if isinstance(axis, (str, bytes)) or not hasattr(axis, "__iter__") or getattr(axis, "ndim", 1) != 1:
        raise TypeError(
            f"grid: `{name}` must be a sequence of values, got {axis!r} ({type(axis).__name__}). What does not vary is "
            f"set in the factory: functools.partial(factory, {name}=...)"
        )
    values = [_plain(value) for value in axis]
    if not values:
        raise ValueError(f"grid: `{name}` has no values")
    return values


def _plain(value: PyTree) -> Any:
    """What is a number as a Python one."""
    if getattr(value, "ndim", None) != 0 or not hasattr(value, "dtype"):
        return value
    kind = np.dtype(value.dtype).kind
    return np.asarray(value).item() if kind in "biuUS" else plain_number(value)


def _label(values: list[Any]) -> np.ndarray:
    """Numbers and strings as an array of them, all else as objects."""
    if all(isinstance(value, (bool, int, float, str)) for value in values):
        return np.asarray(values)
    label = np.empty(len(values), object)
    label[:] = values
    return label
