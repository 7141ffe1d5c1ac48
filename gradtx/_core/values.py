"""How values of fields compare, hash and print."""

import math
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .fields import own


class StaticValues:
    """The static fields of one instance: values to use, and a key to compare and hash by."""

    __slots__ = ("hash", "key", "values")

    def __init__(self, owner: str, values: dict[str, Any]):
        try:
            self.values = {
                name: value if _is_atom(value) else jax.tree.map(_frozen, value) for name, value in values.items()
            }
            self.key = tuple(_static_key(value) for value in self.values.values())
            self.hash = hash(self.key)
        except (TypeError, ValueError) as error:
            # No hash, a tracer, or a dict whose keys JAX cannot sort.
            raise TypeError(
                f"{owner}: a static argument must be concrete and hashable: {error}; got {values}"
            ) from error

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, StaticValues) and self.key == other.key)

    def __hash__(self) -> int:
        return self.hash

    def __repr__(self) -> str:
        return repr(self.values)


def _is_atom(value: object) -> bool:
    return value is None or type(value) in (bool, int, str, float) or isinstance(value, np.dtype)


def _frozen(leaf: object) -> Any:
    if isinstance(leaf, Tracer):
        raise TypeError(f"a static argument must be concrete, got the tracer {leaf}")
    return (
        leaf.item() if isinstance(leaf, np.generic) else own(np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf)
    )


def _static_key(value: object) -> Any:
    if _is_atom(value):
        return type(value), value
    leaves, structure = jax.tree.flatten(value)
    return structure, tuple(map(key_of, leaves))


def key_of(leaf: object) -> Any:
    """Hashable, equal for the same value of the same kind: 1, 1.0, True and a float32 array of 1 all differ."""
    if isinstance(leaf, Tracer):
        raise TypeError(f"{leaf} is a tracer: only concrete hyperparameters hash")
    if isinstance(leaf, (jax.Array, np.ndarray)):
        return leaf.shape, str(leaf.dtype), plain(leaf).tobytes()
    return type(leaf), leaf


def plain(array: Any) -> np.ndarray:
    """As NumPy has it; a random key as its numbers."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return np.asarray(array)


def same(a: object, b: object) -> bool:
    """Whether two leaves are of one kind and value; a tracer is the same as itself only."""
    if a is b:
        return True
    if isinstance(a, Tracer) or isinstance(b, Tracer):
        return False
    try:
        return key_of(a) == key_of(b)
    except TypeError:
        return False


def shortest(number: np.generic) -> float:
    """The shortest decimal that names a floating number in its dtype.

    0.1, and not the 0.10000000149011612 that a float32 of 0.1 is. Brought back to the dtype it is the same number.
    """
    return float(str(number)) if number.dtype.itemsize >= 4 else float(number)


def show(value: object) -> str:
    """The value in a `repr`."""
    if isinstance(value, (jax.Array, np.ndarray)) and not isinstance(value, Tracer):
        # As many figures as name a float32: 0.001, not 0.0010000000474974513.
        return f"{np.array2string(plain(value), separator=', ', threshold=8)}:{value.dtype}"
    if isinstance(value, types.FunctionType):
        return value.__qualname__
    leaves = jax.tree.leaves(value, is_leaf=_is_node) if isinstance(value, dict) else []
    if leaves and all(hasattr(leaf, "shape") for leaf in leaves):
        # Weights: thousands of numbers that nobody reads.
        return f"<{sum(math.prod(leaf.shape) for leaf in leaves):,} numbers in {len(leaves)} arrays>"
    return repr(value)


def _is_node(value: object) -> bool:
    return hasattr(value, "_items")  # of a PyTreeNode
