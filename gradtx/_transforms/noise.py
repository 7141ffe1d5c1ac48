r"""Gaussian noise on gradients, from a key in the state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import GradientTransformation
from .._core.fields import Convert, NonNegative
from .._core.schedule import value_at
from .._maths import safe_increment, safe_sqrt
from .._trees.map import map_leaves
from .._trees.precision import compute_dtype, step_dtype
from .._trees.vectors import axpy
from .._types import Count, Params, PyTree, Updates


def _as_key(value: Any) -> Any:
    """A seed as a key; keys, typed or raw, as they are."""
    dtype = np.dtype(int) if type(value) is int else getattr(value, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return value
    if dtype is None or not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(
            f"expected a key (jax.random.key(0)) or a seed (an int), got {value!r} ({type(value).__name__})"
        )
    return jax.random.key(value) if np.ndim(value) == 0 else value


if TYPE_CHECKING:
    RandomKey: TypeAlias = jax.Array | int
else:
    RandomKey: TypeAlias = Annotated[Any, "data", Convert(_as_key)]
"""A key as data, so that one program serves every seed; a seed becomes one."""


def chosen_key(owner: str, key: RandomKey | None, seed: int | None) -> RandomKey:
    """The key out of optax's two arguments for it. Raises TypeError unless one is given."""
    if (key is None) == (seed is None):
        came = "none" if key is None else "both"
        raise TypeError(f"{owner} takes one of `key` and `seed`, got {came}: key=jax.random.key(0), or key=0")
    return seed if key is None else key  # pyright: ignore[reportReturnType]


def own_key(key: RandomKey) -> jax.Array:
    """A copy of a key for a state, which may be donated."""
    return jnp.array(key, copy=True)


def normal_like(keys: Any, tree: PyTree) -> PyTree:
    """Standard normal numbers for each leaf, from a key for each, sharded as it; float32 for half precision."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(map(_normal, keys, leaves))


def _normal(key: jax.Array, leaf: jax.Array) -> jax.Array:
    sharding = jax.typeof(leaf).sharding
    by_axes = any(axis is not None for axis in sharding.spec)
    placed = {"out_sharding": sharding} if by_axes else {}
    return jax.random.normal(key, leaf.shape, compute_dtype(leaf.dtype), **placed)


class AddNoiseState(NamedTuple):
    """State of `add_noise`."""

    count: Count
    """Number of updates."""
    rng_key: jax.Array
    """The key of the next update."""


class add_noise(GradientTransformation):
    r"""Add Gaussian noise whose variance falls: $u_t = g_t + \mathcal N(0, \eta / t^\gamma)$.

    The first update is t = 1.

    State: `count`, int32, and `rng_key`, which is split at each update.
    Units: of $\eta$: gradient squared. For complex gradients it is the variance of real and imaginary part together.

    Args:
        eta: The variance at the first update.
        gamma: The power of the step that the variance is divided by.
        key: A key of `jax.random.key` or `jax.random.PRNGKey`, or a seed. Data: `vmap` runs over keys.
        seed: A seed in place of the key.

    Raises:
        ValueError: if `eta` or `gamma` is negative.
        TypeError: unless one of `key` and `seed` is given.

    Source: Neelakantan et al., 2015.
    """

    eta: NonNegative
    gamma: NonNegative
    key: RandomKey

    def __init__(self, eta: float, gamma: float, key: RandomKey | None = None, *, seed: int | None = None) -> None:
        self._set_fields(eta=eta, gamma=gamma, key=chosen_key("add_noise", key, seed))

    def init(self, params: Params) -> AddNoiseState:
        return AddNoiseState(jnp.zeros([], jnp.int32), own_key(self.key))

    def update(
        self, updates: Updates, state: AddNoiseState, params: Params | None = None
    ) -> tuple[Updates, AddNoiseState]:
        count, dtype = safe_increment(state.count), step_dtype(updates)
        eta, gamma = (value_at(name, getattr(self, name), count, dtype) for name in ("eta", "gamma"))
        # As optax splits it, for equal numbers.
        key, own = jax.random.split(state.rng_key)
        noise = normal_like(jax.random.split(own, len(jax.tree.leaves(updates))), updates)
        size = safe_sqrt(jnp.asarray(eta / count.astype(dtype) ** gamma))
        new = map_leaves(axpy, {"updates": updates}, reads={"other": noise}, factor=size)
        return new, AddNoiseState(count, key)
