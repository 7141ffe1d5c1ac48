r"""Bring updates to a common form: to norm 1, to mean 0, to finite numbers."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._core.contract import EmptyState, GradientTransformation, Stateless
from .._core.fields import NonNegative, Scalar
from .._maths import safe_divisor
from .._trees.checks import checked_leaves
from .._trees.map import map_leaves
from .._trees.select import only
from .._types import Leaf, Params, PyTree, ScalarArray, Updates
from .axes import Axes, axes_of
from .clip import global_norm


def _normalized(updates: Leaf, norm: ScalarArray, scale_factor: ScalarArray, eps: ScalarArray) -> Leaf:
    return updates / safe_divisor(norm + eps) * scale_factor


def _centralized(updates: Leaf, *, axis: tuple[int, ...] | None) -> Leaf:
    axes = axes_of(axis, updates.ndim, tuple(range(1, updates.ndim))) if updates.ndim > 1 else ()
    return updates - jnp.mean(updates, axes, keepdims=True) if axes else updates


def _without_nans(updates: Leaf) -> Leaf:
    return jnp.where(jnp.isnan(updates), 0, updates)


class normalize(Stateless):
    r"""Divide by the norm: $u_t = g_t / \lVert g_t \rVert$, over all leaves; 0 where the gradient is.

    State: `EmptyState()`. Units: $u_t$ has none; its norm is 1. Keeps the gradient's direction. With an infinite entry
    that one becomes NaN and all others 0.
    """

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        return map_leaves(
            _normalized, {"updates": updates}, norm=global_norm(updates), scale_factor=1.0, eps=0.0
        ), state


class normalize_by_update_norm(Stateless):
    r"""Bring the norm of the updates to a given one: $u_t = s\, g_t / (\lVert g_t \rVert + \epsilon)$.

    State: `EmptyState()`. Units: those of s. Keeps the gradient's direction for positive s.

    Args:
        scale_factor: s, the new norm; a negative one turns the updates around.
        eps: Added to the norm. Unit: gradient. At 0, a gradient of 0 still gives 0.

    Raises:
        ValueError: if `eps` is negative.
    """

    scale_factor: Scalar = 1.0
    eps: NonNegative = 1e-6

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        norm = global_norm(updates)
        numbers = {"norm": norm, "scale_factor": self.scale_factor, "eps": self.eps}
        return map_leaves(_normalized, {"updates": updates}, **numbers), state


class centralize(Stateless):
    r"""Subtract the mean of each slice along the first axis; vectors and scalars stay as they are.

    State: `EmptyState()`. Units: as the gradient. Keeps its sign, as an inner product.

    Args:
        axis: The axes that the mean is taken along, of every leaf that has them. `None`: all but the first, as in
            optax, which is one output's weights where outputs come first (PyTorch). For kernels of Flax, in x out, that
            is `axis=0`, and `(0, 1, 2)` for convolutions.

    Raises:
        TypeError: if `axis` is no whole number, and no tuple of them.

    Source: Yong et al., 2020.
    """

    axis: Axes = None

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        return map_leaves(_centralized, {"updates": updates}, axis=self.axis), state


class ZeroNansState(NamedTuple):
    """State of `zero_nans`."""

    found_nan: PyTree
    """For each parameter, whether its last gradient had a NaN."""

    def _report(self) -> dict[str, jax.Array]:
        leaves = jax.tree.leaves(self.found_nan)
        return {"found_nan": functools.reduce(jnp.logical_or, leaves, jnp.zeros([], bool))}


class zero_nans(GradientTransformation):
    r"""Put 0 in the place of NaN. Infinite entries stay: `clip` bounds those.

    State: `found_nan`, one bool a parameter: a flag for the log, which `gradtx.report` shows for all together.
    Units: as the gradient. Keeps its sign.
    """

    def init(self, params: Params) -> ZeroNansState:
        flags = [jnp.zeros([], bool) for _ in checked_leaves(params, "params")]
        return ZeroNansState(jax.tree.structure(params).unflatten(flags))

    def update(
        self, updates: Updates, state: ZeroNansState, params: Params | None = None
    ) -> tuple[Updates, ZeroNansState]:
        new = map_leaves(_without_nans, {"updates": updates})
        same = only("updates", updates, jax.tree.map(lambda _: True, state.found_nan), True)
        found = jax.tree.map(lambda old, u: old if u is None else jnp.any(jnp.isnan(u)), state.found_nan, same)
        return new, ZeroNansState(found)
