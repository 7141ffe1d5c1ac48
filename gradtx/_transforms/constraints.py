r"""Constraints on parameters: last stages, which turn the planned step into one that ends at an allowed point.

A constraint reads the parameters and the step that the stages before it have planned, and returns the step that leads
to the projected point. It keeps no track of the parameters, so that several of them may follow each other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._core.contract import EmptyState, GradientTransformation, Stateless
from .._core.fields import Positive
from .._maths import safe_divisor
from .._trees.checks import check_rank, check_real
from .._trees.map import map_leaves
from .._trees.norms import array_norm, norms, summed_axes
from .._types import Leaf, Number, Params, PyTree, ScalarArray, Updates
from .axes import Axes


def _nonnegative(updates: Leaf, params: Leaf) -> Leaf:
    # To the bit: -p leads to 0, and a step that ends above 0 stays as it is.
    return jnp.where(params + updates < 0, -params, updates)


@functools.lru_cache(maxsize=256)
def _into_range(axis: Axes) -> Callable[..., Any]:
    """The kernel for norms over some axes, which are static: one function for each choice of them."""

    def into_range(updates: Leaf, params: Leaf, low: ScalarArray, high: ScalarArray) -> Leaf:
        planned = params + updates
        norm = array_norm(planned, summed_axes(planned.ndim, axis))
        target = jnp.clip(norm, low, high)
        # A point within the range keeps its step, without a rounding; one of norm 0 has no direction.
        projected = planned / safe_divisor(norm) * target
        return jnp.where((target == norm) | (norm == 0), updates, projected - params)

    return into_range


@functools.lru_cache(maxsize=256)
def _onto_sphere(axis: Axes) -> Callable[..., Any]:
    """The kernel for spheres whose radii are given, or are those of the parameters."""

    def onto_sphere(updates: Leaf, params: Leaf, radius: Leaf | None = None) -> Leaf:
        planned, axes = params + updates, summed_axes(params.ndim, axis)
        size = array_norm(params, axes) if radius is None else radius.real
        norm = array_norm(planned, axes)
        projected = planned / safe_divisor(norm) * size
        return jnp.where((size == 0) | (norm == 0), updates, projected - params)

    return onto_sphere


def _spread(radius: ArrayLike, params: Leaf) -> jax.Array:
    """The radius of each entry, sharded as it; the kernel reads it, and XLA makes no array of it."""
    radius = jnp.asarray(radius)  # a state that was restored has NumPy's
    return jnp.zeros_like(params, dtype=radius.dtype) + radius


class keep_params_nonnegative(Stateless):
    r"""End each step at parameters that are not negative: $u_t = \max(\theta + g_t, 0) - \theta$.

    A parameter that is negative goes to 0. In a chain it comes last, or is followed by other constraints only.

    State: `EmptyState()`. Needs `params`. Units: of the parameters, which updates have to be steps in.

    Raises:
        TypeError: from `update`, if parameters are complex, which have no order.
    """

    def update(self, updates: Updates, state: EmptyState, params: Params) -> tuple[Updates, EmptyState]:
        check_real("keep_params_nonnegative", "params", params, "they have no order")
        return map_leaves(_nonnegative, {"updates": updates}, reads={"params": params}), state


class max_norm(Stateless):
    r"""End each step in a ball: where $\lVert\theta + g_t\rVert > c$, at the nearest point with norm $c$.

    The norm is of one leaf, or of each unit in it: with `axis=0` of the weights of each output, in a kernel that is
    inputs by outputs. In a chain it comes last, or is followed by other constraints only.

    State: `EmptyState()`. Needs `params`. Units: of the parameters, which updates have to be steps in.

    Args:
        max_norm: c > 0. Unit: parameters.
        axis: The axes that a norm is over. A leaf that lacks one of them is taken as a whole. `None`: all.

    Raises:
        ValueError: if `max_norm` is not positive.
        TypeError: if `axis` is no axis.

    Source: Srebro, Rennie and Jaakkola, 2004; Hinton et al., 2012, https://arxiv.org/abs/1207.0580.
    """

    max_norm: Positive
    axis: Axes = None

    def update(self, updates: Updates, state: EmptyState, params: Params) -> tuple[Updates, EmptyState]:
        check_rank("max_norm", self.max_norm)
        return _projected(updates, params, self.axis, 0.0, self.max_norm), state


class norm_floor(Stateless):
    r"""End each step outside of a ball: where $\lVert\theta + g_t\rVert < c$, at the nearest point with norm $c$.

    A leaf that would be 0 stays so: there is no nearest point. See `gradtx.max_norm` for units of a leaf.

    State: `EmptyState()`. Needs `params`. Units: of the parameters, which updates have to be steps in.

    Args:
        min_norm: c > 0. Unit: parameters.
        axis: See `gradtx.max_norm`.

    Raises:
        ValueError: if `min_norm` is not positive.
        TypeError: if `axis` is no axis.
    """

    min_norm: Positive
    axis: Axes = None

    def update(self, updates: Updates, state: EmptyState, params: Params) -> tuple[Updates, EmptyState]:
        check_rank("min_norm", self.min_norm)
        return _projected(updates, params, self.axis, self.min_norm, np.inf), state


class project_norm(Stateless):
    r"""End each step on a sphere: at the point of norm $c$ in the direction of $\theta + g_t$.

    A leaf that would be 0 stays so: there is no nearest point. See `gradtx.max_norm` for units of a leaf, and
    `gradtx.hyperball` for the sphere on which the parameters begin.

    State: `EmptyState()`. Needs `params`. Units: of the parameters, which updates have to be steps in.

    Args:
        norm: c > 0. Unit: parameters.
        axis: See `gradtx.max_norm`.

    Raises:
        ValueError: if `norm` is not positive.
        TypeError: if `axis` is no axis.
    """

    norm: Positive
    axis: Axes = None

    def update(self, updates: Updates, state: EmptyState, params: Params) -> tuple[Updates, EmptyState]:
        check_rank("norm", self.norm)
        return _projected(updates, params, self.axis, self.norm, self.norm), state


def _projected(updates: Updates, params: Params, axis: Axes, low: Number, high: Number) -> Updates:
    return map_leaves(_into_range(axis), {"updates": updates}, reads={"params": params}, low=low, high=high)


class HyperballState(NamedTuple):
    """State of `hyperball`."""

    radius: PyTree
    """The norm that each leaf began with, or each of its parts; `None` where the radius is the current one."""


class hyperball(GradientTransformation):
    r"""Keep the norm of each leaf: end each step on the sphere that the leaf began on.

    $$\theta_t = R\,\frac{\theta_{t-1} + g_t}{\lVert\theta_{t-1} + g_t\rVert}, \qquad R = \lVert\theta_0\rVert$$

    After `scale_by_trust_ratio`, which makes steps as long as the leaf, the learning rate is nearly the angle that a
    leaf turns by in a step. With `scale_by_adam` that is AdamH:

        chain(scale_by_adam(0.95, 0.9), scale_by_trust_ratio(), scale_by_learning_rate(0.018), hyperball())

    It is meant for matrices. A leaf of zeros has no sphere: its steps stay as they are.

    State: `radius`, a number for each leaf or part of one. Needs `params`.
    Units: of the parameters, which updates have to be steps in.

    Args:
        radius: "initial", the norm at `init`; "current", the norm before each step, which rounding may move.
        axis: The axes that a norm is over: (-2, -1) for stacked matrices. A leaf that lacks one of them is taken as a
            whole. `None`: all.

    Raises:
        ValueError: if `radius` is another word.
        TypeError: if `axis` is no axis.

    Source: https://github.com/KellerJordan/modded-nanogpt, track 3, AdamH and MuonH, 2026.
    """

    radius: Literal["initial", "current"] = "initial"
    axis: Axes = None

    def init(self, params: Params) -> HyperballState:
        return HyperballState(norms(params, self.axis) if self.radius == "initial" else None)

    def update(self, updates: Updates, state: HyperballState, params: Params) -> tuple[Updates, HyperballState]:
        reads = {"params": params}
        if self.radius == "initial":
            reads["radius"] = jax.tree.map(_spread, state.radius, params)
        return map_leaves(_onto_sphere(self.axis), {"updates": updates}, reads=reads), state
