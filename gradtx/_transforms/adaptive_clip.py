r"""Bound gradients by the size of the parameters that they belong to."""

from __future__ import annotations

import jax.numpy as jnp

from .._core.contract import EmptyState, Stateless
from .._core.fields import NonNegative
from .._trees.map import map_leaves
from .._types import Leaf, Params, ScalarArray, Updates
from .axes import Axes, axes_of
from .clip import leaf_norm, shrink


def _unit_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of one output's weights in kernels of JAX's layout, whose last axis is the outputs."""
    axes = tuple(range(len(shape)))
    if sum(size != 1 for size in shape) <= 1:
        return axes
    return axes[:1] if len(shape) <= 3 else axes[:-1]


def _adaptive_clip(
    updates: Leaf, params: Leaf, clipping: ScalarArray, eps: ScalarArray, *, axis: tuple[int, ...] | None
) -> Leaf:
    axes = axes_of(axis, updates.ndim, _unit_axes(updates.shape))
    return shrink(updates, leaf_norm(updates, axes), clipping * jnp.maximum(leaf_norm(params, axes), eps))


class adaptive_grad_clip(Stateless):
    r"""Shrink the gradient of each unit to a fraction of the norm of its parameters (AGC).

    $$u_i = g_i \min\Big(1, \frac{c \max(\lVert\theta_i\rVert, \epsilon)}{\lVert g_i \rVert}\Big)$$

    A unit i is what feeds one output. By default, as in optax: a vector whole; along the first axis of kernels of rank
    2 and 3; along all but the last of those of rank 4 and more.

    State: `EmptyState()`. Needs `params`. Units: as the gradient. Keeps the direction of each unit. A unit with an
    infinite gradient becomes 0 but for that entry, which becomes NaN; others do not notice. Where a square overflows
    (from 2e19 on in float32), its unit becomes 0.

    Args:
        clipping: c >= 0, unit: gradient over parameter.
        eps: The least norm of parameters, so that those which begin at 0 can grow. Unit: parameter.
        axis: The axes that a unit's norm is taken along, of every leaf that has them: 0 for dense kernels, `(0, 1, 2)`
            for convolutions, `(-2, -1)` for matrices of PyTorch's layout stacked along further axes. `None`: by rank.

    Raises:
        ValueError: if `clipping` or `eps` is negative.
        TypeError: if `axis` is no whole number, and no tuple of them.

    Source: Brock et al., 2021. Differs from optax: it works on meshes with explicit axes, and takes leaves of any rank.
    """

    clipping: NonNegative
    eps: NonNegative = 1e-3
    axis: Axes = None

    def update(self, updates: Updates, state: EmptyState, params: Params) -> tuple[Updates, EmptyState]:
        trees, reads = {"updates": updates}, {"params": params}
        new = map_leaves(_adaptive_clip, trees, reads=reads, clipping=self.clipping, eps=self.eps, axis=self.axis)
        return new, state
