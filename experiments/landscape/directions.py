"""Directions in the space of weights: random ones of the filters' size, and those of a trajectory."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments.models import Params


def filter_normalized(direction: Params, params: Params) -> Params:
    r"""Each filter of `direction` made as long as that of `params`: $d_f \leftarrow d_f \, |\theta_f| / |d_f|$.

    A filter is what makes one output: a slice of the last axis of a kernel. Biases and the parameters of batch
    normalisation are not moved. So a step of 1 changes all filters by as much as they are, and two networks that
    compute the same with larger or smaller filters (ReLU and batch normalisation allow it) have one surface.

    Source: Li et al., 2018.
    """
    return jax.tree.map(_filter_normalized, direction, params)


def _filter_normalized(direction: Float[Array, "..."], param: Float[Array, "..."]) -> Float[Array, "..."]:
    if param.ndim < 2:
        return jnp.zeros_like(param)
    others = tuple(range(param.ndim - 1))
    size, wanted = (jnp.sqrt(jnp.square(each).sum(others, keepdims=True)) for each in (direction, param))
    return direction * jnp.where(size > 0, wanted / jnp.where(size > 0, size, 1), 0)


def random_direction(params: Params, key: Key[Array, ""]) -> Params:
    """Normal, filter-normalized. Networks with the same kernels get the same numbers, whatever else they have."""
    leaves, structure = jax.tree.flatten(params)
    kernels = iter(range(len(leaves)))
    drawn = [
        jax.random.normal(jax.random.fold_in(key, next(kernels)), leaf.shape, leaf.dtype) if leaf.ndim > 1 else leaf
        for leaf in leaves
    ]
    return filter_normalized(structure.unflatten(drawn), params)


class Principal(NamedTuple):
    """The plane that is nearest to a trajectory.

    Attributes:
        mean: Of the trajectory.
        components: Two directions of length 1, at right angles; the trajectory's end is on their positive side.
        path: The trajectory on the plane.
        explained: Parts of the trajectory's variance, by direction.
    """

    mean: Float[np.ndarray, " n"]
    components: Float[np.ndarray, "2 n"]
    path: Float[np.ndarray, "moments 2"]
    explained: Float[np.ndarray, "2"]


def principal(trajectory: Float[np.ndarray, "moments n"]) -> Principal:
    """The first two principal components.

    Raises:
        ValueError: There are fewer than three moments, or they are on a line, or not finite.
    """
    if len(trajectory) < 3:
        raise ValueError(f"expected three moments or more that are not on a line, got {len(trajectory)}")
    mean = trajectory.mean(axis=0, dtype=np.float64)
    centred = trajectory - mean
    if not np.isfinite(centred).all():
        raise ValueError("expected a trajectory of finite weights; this training has diverged")
    _, sizes, rows = np.linalg.svd(centred, full_matrices=False)
    if sizes[1] <= 1e-6 * sizes[0]:
        raise ValueError(f"expected moments that are not on a line, got {len(trajectory)} that are")
    signs = np.where(centred[-1] @ rows[:2].T < 0, -1.0, 1.0)
    components = rows[:2] * signs[:, None]
    return Principal(mean, components, centred @ components.T, sizes[:2] ** 2 / (sizes**2).sum())
