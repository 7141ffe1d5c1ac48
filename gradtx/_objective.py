"""Objectives: their value is one real number, and their gradient the direction of steepest ascent."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._trees.checks import describe, shape_of
from ._types import Updates


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


def value_and_gradient(function: Callable[..., Any]) -> Callable[..., tuple[jax.Array, Updates]]:
    """The function's value, and its gradient by the first argument: the direction of steepest ascent.

    For a complex parameter x + iy that is df/dx + i df/dy, the conjugate of what `jax.grad` returns.
    """

    def both(*args: object) -> tuple[jax.Array, Updates]:
        value, derivative = jax.value_and_grad(function)(*args)
        return jnp.asarray(value), ascent(derivative)  # a constant may be Python's number

    return both


def ascent(derivative: Updates) -> Updates:
    """What `jax.grad` returned, with complex leaves conjugated (https://github.com/jax-ml/jax/issues/4891)."""
    return jax.tree.map(lambda d: jnp.conj(d) if jnp.iscomplexobj(d) else d, derivative)
