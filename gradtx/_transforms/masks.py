"""Masks: which parameters a transformation applies to, as bools or as a rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import jax
import numpy as np
from jax.core import Tracer

from .._core.contract import GradientTransformation
from .._core.fields import Convert
from .._core.schedule import Schedule
from .._rules import by_path
from .._types import Params, PyTree


def _mask(value: Any) -> Any:
    """A mask as it is given, which is refused here and not by the `init` that reads it; a pattern becomes a rule."""
    if isinstance(value, (str, re.Pattern)):
        return by_path(value)
    if isinstance(value, (type, GradientTransformation, Schedule)):
        raise TypeError(f"a mask must be bools, a rule like by_rank(2), or a function to bools; got {value!r}")
    if not callable(value) or _is_tree(value):
        try:
            leaves = jax.tree.leaves_with_path(value)
        except ValueError:  # keys that cannot be sorted, which no static argument may have, as no tracer
            return value
        for path, keep in leaves:
            if not isinstance(keep, (bool, np.bool_, Tracer)) and not (
                isinstance(keep, (np.ndarray, jax.Array)) and keep.dtype == bool and keep.ndim == 0
            ):
                raise TypeError(f"mask{jax.tree_util.keystr(path)} must be True or False, got {keep!r}")
    return value


def _is_tree(mask: object) -> bool:
    """Whether it holds bools. A module of them, as of a network's parameters, can be called and is not meant to be."""
    leaves = jax.tree.leaves(mask)
    return bool(leaves) and all(np.dtype(getattr(leaf, "dtype", type(leaf))) == np.bool_ for leaf in leaves)


Mask: TypeAlias = Annotated[PyTree | Callable[[Any], Any] | None, "static", Convert(_mask)]
"""A tree of bools like the parameters or a prefix of it, or a function from parameters to one (a rule is one).

A pattern of `by_path` is a rule, too.
"""


def selected(mask: Any, params: Params) -> PyTree:
    """A bool for each parameter.

    Raises:
        TypeError: if an entry of the mask is no bool; its path is named.
        ValueError: if the mask does not fit the tree, or selects nothing in it.
    """
    found = chosen(mask, params)
    if jax.tree.leaves(params) and not any(jax.tree.leaves(found)):
        raise ValueError(f"the mask selects nothing in the tree: {mask!r}. Leave the weight decay out instead")
    return found


def chosen(mask: Any, params: Params) -> PyTree:
    """As `selected`, where a mask may select nothing."""
    if not jax.tree.leaves(params):  # nothing to choose from; `optax.tree_map_params` has such a tree of its own
        return params
    given = _mask(mask(params)) if callable(mask) and not _is_tree(mask) else mask
    try:
        return jax.tree.map(lambda keep, part: jax.tree.map(lambda _: bool(keep), part), given, params)
    except ValueError as error:
        raise ValueError(
            f"the mask does not fit the tree: expected bools like {jax.tree.structure(params)} or a prefix of it, "
            f"got {given!r} ({error})"
        ) from None
