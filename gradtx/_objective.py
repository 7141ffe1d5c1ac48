"""Checks on an objective's value: it is one real number."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._core.checks import describe, shape_of


def check_number(what: str, value: object) -> None:
    """An objective's value is one real number. Raises TypeError otherwise, with what to do about it."""
    leaves, structure = jax.tree.flatten(value)
    if not jax.tree_util.treedef_is_leaf(structure):
        hint = "give the objective's value alone; what is computed beside it (aux) belongs elsewhere"
    elif shape_of(value) != ():
        hint = "take the mean or the sum"
    elif not isinstance(value, float) and not jnp.issubdtype(getattr(value, "dtype", np.bool_), jnp.floating):
        hint = "convert it to a float, or take the real part or the absolute value"
    else:
        return
    came = ", ".join(map(describe, leaves)) or "nothing"
    raise TypeError(f"{what} must be one real number, got {came}; {hint}")


def one_number(what: str, function: Callable[..., Any]) -> Callable[..., jax.Array]:
    """The function, which raises TypeError where what it returns is not one real number."""

    def checked(*args: object) -> jax.Array:
        value = function(*args)
        check_number(what, value)
        return jnp.asarray(value)  # a constant may be Python's number

    return checked
