r"""Clip the gradient of each example of a batch, and add them up; with noise, differentially private."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._core.contract import GradientTransformation
from .._core.fields import NonNegative
from .._core.schedule import value_at
from .._maths import abs_sq, safe_divisor, safe_sqrt
from .._trees.checks import check_rank
from .._trees.map import map_leaves
from .._trees.precision import cast_like, in_precision, scalar, step_dtype
from .._types import Leaf, Params, PyTree, ScalarArray, Updates
from .noise import RandomKey, chosen_key, normal_like, own_key


def per_example_global_norm_clip(grads: Updates, l2_norm_clip: ArrayLike) -> tuple[Updates, jax.Array]:
    r"""The sum over a batch of gradients of which each is shrunk to a norm of at most `l2_norm_clip`.

    $$\sum_i g_i \min(1, c / \lVert g_i \rVert), \qquad \text{the norm over all leaves}$$

    A gradient of norm 0 is not clipped. With an infinite entry, or NaN, in one example the sum has NaN in that entry
    (for NaN: in all). Where a square overflows (from 2e19 on in float32), its example counts for nothing. Half
    precision is summed in float32.

    Args:
        grads: A tree of gradients with the batch as the first axis of each leaf, as `jax.vmap(jax.grad(loss))` gives.
        l2_norm_clip: c >= 0.

    Returns:
        The sum, and the number of examples that were clipped, int32.

    Raises:
        ValueError: if a leaf has no batch axis, or another batch than the first one; its path is named.

    Source: Abadi et al., 2016.
    """
    grads = _checked("per_example_global_norm_clip", grads)
    check_rank("l2_norm_clip", l2_norm_clip)
    return _clipped_sum(grads, scalar(jnp.asarray(l2_norm_clip), step_dtype(grads)))


def per_example_layer_norm_clip(
    grads: Updates, global_l2_norm_clip: ArrayLike, uniform: bool = True
) -> tuple[Updates, PyTree]:
    r"""The sum over a batch of gradients with each leaf shrunk by itself, to at most `global_l2_norm_clip` over all.

    Of L leaves with $D_l$ of all D entries, each has the bound $c / \sqrt{L}$ (`uniform`), or $c \sqrt{D_l / D}$.

    Args:
        grads: As of `per_example_global_norm_clip`.
        global_l2_norm_clip: c >= 0.
        uniform: Whether each leaf has the same bound.

    Returns:
        The sum, and for each leaf the number of examples that were clipped, int32.

    Raises:
        ValueError: if a leaf has no batch axis, or another batch than the first one; its path is named.

    Source: McMahan et al., 2017.
    """
    grads = _checked("per_example_layer_norm_clip", grads)
    check_rank("global_l2_norm_clip", global_l2_norm_clip)
    clip = scalar(jnp.asarray(global_l2_norm_clip), step_dtype(grads))
    leaves, structure = jax.tree.flatten(grads)
    sizes = [1 if uniform else math.prod(leaf.shape[1:]) for leaf in leaves]
    shares = [np.asarray((size / max(sum(sizes), 1)) ** 0.5, clip.dtype) for size in sizes]
    both = [_clipped_sum(leaf, clip * share) for leaf, share in zip(leaves, shares, strict=True)]
    return structure.unflatten(each for each, _ in both), structure.unflatten(number for _, number in both)


@jax.jit
def _clipped_sum(grads: Updates, clip: ScalarArray) -> tuple[Updates, jax.Array]:
    dtype = step_dtype(grads)
    wide = [leaf.astype(in_precision(np.dtype(leaf.dtype), dtype)) for leaf in jax.tree.leaves(grads)]
    if not wide:
        return grads, jnp.zeros([], jnp.int32)
    with jax.numpy_dtype_promotion("standard"):  # of a real number to a complex leaf
        squares = [jnp.sum(abs_sq(leaf), tuple(range(1, leaf.ndim))) for leaf in wide]
        norms = safe_sqrt(sum(squares[1:], start=squares[0]))
        # A NaN compares false and has to come through.
        factors = jnp.where(norms <= clip, 1, clip / safe_divisor(norms))
        # A sum and not a product of matrices: that needs to be told the sharding of its result.
        sums = [jnp.sum(_along(factors, leaf) * leaf, 0) for leaf in wide]
    return cast_like(jax.tree.structure(grads).unflatten(sums), grads), jnp.sum(norms > clip, dtype=jnp.int32)


def _along(numbers: jax.Array, leaf: Leaf) -> jax.Array:
    return numbers.reshape(-1, *[1] * (leaf.ndim - 1))


def _checked(owner: str, grads: Updates) -> Updates:
    """The tree with integers as floats. Raises ValueError where leaves do not have one batch axis."""
    size = None
    for path, leaf in jax.tree.leaves_with_path(grads):
        where = f"{owner}: grads{jax.tree_util.keystr(path)}"
        if np.ndim(leaf) == 0:
            raise ValueError(f"{where} has no axes, expected the batch as the first: take gradients with jax.vmap")
        size = np.shape(leaf)[0] if size is None else size
        if np.shape(leaf)[0] != size:
            raise ValueError(f"{where} has a batch of {np.shape(leaf)[0]}, expected {size} as of the first leaf")

    def floating(leaf: Any) -> jax.Array:
        leaf = jnp.asarray(leaf)
        return leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf.astype(jnp.result_type(float))

    return jax.tree.map(floating, grads)


class DifferentiallyPrivateAggregateState(NamedTuple):
    """State of `differentially_private_aggregate`."""

    rng_key: jax.Array
    """The key of the next update."""


def _noised_mean(updates: Leaf, noise: Leaf, size: ScalarArray, batch: ScalarArray) -> Leaf:
    return (updates + size * noise) / batch


class differentially_private_aggregate(GradientTransformation):
    r"""Make one gradient of those of a batch: each clipped, and noise added to their sum (DP-SGD).

    $$u = \frac1B \Big(\sum_i g_i \min(1, c / \lVert g_i \rVert) + \sigma c\, \mathcal N(0, 1)\Big)$$

    Updates that come in have the batch as the first axis of each leaf, as `jax.vmap(jax.grad(loss))` gives them;
    those that go out are like the parameters. So it comes first in a chain. An average over several of its updates
    (`optax.MultiSteps`) is not its update of the larger batch: it has the noise of each.

    State: `rng_key`, which is split at each update. Units: as the gradient.

    Args:
        l2_norm_clip: c >= 0. Unit: gradient.
        noise_multiplier: sigma >= 0, the noise's standard deviation over c.
        key: A key of `jax.random.key` or `jax.random.PRNGKey`, or a seed. Data: `vmap` runs over keys.
        seed: A seed in place of the key.

    Raises:
        ValueError: if `l2_norm_clip` or `noise_multiplier` is negative; from `update`, if leaves have no common batch
            axis, or do not fit `params` without it.
        TypeError: unless one of `key` and `seed` is given.

    Source: Abadi et al., 2016.
    """

    l2_norm_clip: NonNegative
    noise_multiplier: NonNegative
    key: RandomKey

    def __init__(
        self, l2_norm_clip: float, noise_multiplier: float, key: RandomKey | None = None, *, seed: int | None = None
    ) -> None:
        key = chosen_key("differentially_private_aggregate", key, seed)
        self._set_fields(l2_norm_clip=l2_norm_clip, noise_multiplier=noise_multiplier, key=key)

    def init(self, params: Params) -> DifferentiallyPrivateAggregateState:
        return DifferentiallyPrivateAggregateState(own_key(self.key))

    def update(
        self, updates: Updates, state: DifferentiallyPrivateAggregateState, params: Params | None = None
    ) -> tuple[Updates, DifferentiallyPrivateAggregateState]:
        leaves = jax.tree.leaves(_checked(type(self).__name__, updates))
        dtype = step_dtype(updates)
        clip = value_at("l2_norm_clip", self.l2_norm_clip, 0, dtype)
        size = clip * value_at("noise_multiplier", self.noise_multiplier, 0, dtype)
        total, _ = _clipped_sum(updates, clip)
        # As optax splits it, for equal numbers.
        key, *own = jax.random.split(state.rng_key, len(leaves) + 1)
        numbers = {"size": size, "batch": float(leaves[0].shape[0]) if leaves else 1.0}
        reads = {"noise": normal_like(own, total)} | ({} if params is None else {"params": params})
        new = map_leaves(_noised_mean if params is None else _like_params, {"updates": total}, reads=reads, **numbers)
        return new, DifferentiallyPrivateAggregateState(key)


def _like_params(updates: Leaf, noise: Leaf, params: Leaf, size: ScalarArray, batch: ScalarArray) -> Leaf:
    return _noised_mean(updates, noise, size, batch)
