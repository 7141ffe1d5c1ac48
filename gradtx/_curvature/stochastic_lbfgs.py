r"""L-BFGS for mini-batches: each pair is of one batch, and is damped."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._core.contract import GradientTransformation
from .._core.fields import AtLeastOne, Positive
from .._manual_axes import vary_with
from .._maths import safe_divisor, safe_increment
from .._objective import one_number
from .._trees.checks import check_real
from .._trees.map import zeros_like
from .._trees.precision import cast_like, restore, scalar, widen
from .._trees.vectors import pair_products, tree_add_scaled, tree_scale, tree_sub
from .._types import Count, Params, PyTree, ScalarArray, Updates, ValueFn
from .hessian import WHY_REAL, check_aligned, on_widened
from .lbfgs_memory import empty_memory, initial_scale, precondition, push_pair

Curvature: TypeAlias = Literal["gradients", "products"]
"""Whether y is a difference of two gradients or a Hessian-vector product."""

MIN_CURVATURE_FRACTION = 0.25
"""A damped pair has at least this fraction of the curvature that the scale predicts.

Powell, 1978, has 0.2 (Nocedal and Wright, 2006, procedure 18.2, page 537); for mini-batches Wang, Ma, Goldfarb and
Liu, 2017, take 0.25.
"""


class StochasticLBFGSState(NamedTuple):
    """State of `scale_by_stochastic_lbfgs`: what the next pair will be made of, and the pairs."""

    count: Count
    """Number of updates."""
    total: Params
    """Sum of the parameters since the last pair."""
    params: Params
    """Their mean between the last pair and the one before."""
    pairs: Count
    """Number of pairs that were taken."""
    diff_params_memory: Params
    """Differences of mean parameters, behind an axis of `memory_size`."""
    diff_updates_memory: Updates
    """Damped differences of gradients, likewise."""
    weights_memory: jax.Array
    """1 over the inner product of each pair; 0 where there is none."""
    scale: ScalarArray
    """The factor of the identity that the pairs correct."""


class scale_by_stochastic_lbfgs(GradientTransformation):
    r"""Multiply a mini-batch's gradient by an inverse Hessian whose pairs are not made of the noise between batches.

    Every `every` updates a pair of differences is taken, between the mean params $\bar\theta$ of the updates since the
    last one and the mean before, on the batch B of this one update:

    $$s = \bar\theta_k - \bar\theta_{k-1}, \qquad y = \nabla^2 f_B(\bar\theta_k)\, s \quad\text{or}\quad
    \nabla f_B(\bar\theta_k) - \nabla f_B(\bar\theta_{k-1})$$

    and damped, so that H stays positive definite and bounded whatever the batch says:

    $$\gamma = \max(\langle y, y \rangle / \langle s, y \rangle, \delta), \qquad
    \bar y = \phi y + (1 - \phi) \gamma s, \quad
    \langle s, \bar y \rangle \ge \tfrac14 \gamma \langle s, s \rangle$$

    with the largest such $\phi \le 1$. Then as `scale_by_lbfgs`, from $I / \gamma$. Before the first pair the gradient
    has a length that fits the parameters, as in `scale_by_lbfgs`.

    A step of 1 is too long on mini-batches: the gradient's noise is multiplied by H too. Begin with a learning rate
    near 0.1, and let it fall.

    State: `StochasticLBFGSState`, 2 `memory_size` + 2 copies of the parameters (float32 for half precision).
    Needs `params`.
    Units: parameter squared over objective, times the gradient's. Not negated; updates and gradient have a positive
    inner product. Derivatives take the pairs for constants.

    Extra arguments: `value_fn`, a pure function of params: the objective of the batch that the gradient is of.

    Args:
        memory_size: Pairs that are kept, at least 1.
        every: Updates from pair to pair, at least 1. Short steps make noisy pairs.
        damping: delta, the least curvature that is believed. Unit: the Hessian's.
        curvature: y by a Hessian-vector product (`"products"`: forward over reverse, about two gradients), or by two
            gradients more (`"gradients"`).

    Raises:
        TypeError: from `init`, if a parameter is complex.
        ValueError: if `memory_size` or `every` is less than 1, `damping` is not positive, or `curvature` is another.

    Source: Schraudolph, Yu and Guenter, 2007 (differences of one batch); Byrd, Hansen, Nocedal and Singer, 2016
    (products, means); Wang, Ma, Goldfarb and Liu, 2017 (damping). Not in optax.
    """

    memory_size: AtLeastOne = 10
    every: AtLeastOne = 10
    damping: Positive = 0.01
    curvature: Curvature = "products"

    def init(self, params: Params) -> StochasticLBFGSState:
        check_real("scale_by_stochastic_lbfgs", "params", params, WHY_REAL)
        memory = empty_memory(params, self.memory_size)
        state = StochasticLBFGSState(jnp.zeros([], jnp.int32), zeros_like(params), zeros_like(params), **memory)
        return vary_with(state, params)

    def update(
        self, updates: Updates, state: StochasticLBFGSState, params: Params, *, value_fn: ValueFn
    ) -> tuple[Updates, StochasticLBFGSState]:
        check_aligned(updates, params)
        gradient = widen(updates)
        objective = on_widened(one_number("what `value_fn` returns", value_fn), params)
        now = state._replace(
            count=safe_increment(state.count),
            total=cast_like(tree_add_scaled(state.total, 1.0, widen(params)), state.total),
            scale=initial_scale(gradient, widen(params), state.scale, state.pairs == 0),
        )
        now = jax.lax.stop_gradient(now)
        is_due = now.count % self.every == 0
        new = jax.lax.cond(is_due, lambda now: self._with_pair(objective, now), lambda now: now, now)
        # Stopped again: the objective may have closed over what derivatives are taken of.
        new = jax.lax.stop_gradient(new)
        return restore(precondition(gradient, new), updates), new

    def _with_pair(self, objective: ValueFn, now: StochasticLBFGSState) -> StochasticLBFGSState:
        """The state with one more pair, if it is fit to be one, and a fresh mean."""
        dtype = now.scale.dtype
        mean = tree_scale(now.total, 1 / self.every)
        s = tree_sub(mean, now.params)
        if self.curvature == "products":
            y = jax.jvp(jax.grad(objective), (mean,), (s,))[1]
        else:
            y = tree_sub(jax.grad(objective)(mean), jax.grad(objective)(now.params))
        y, scale = _damped(s, y, now.scale, scalar(self.damping, dtype))
        products = pair_products(s, y)
        # Before there are two means there is nothing to subtract; and NaN teaches nothing.
        is_taken = (now.count > self.every) & jnp.isfinite(scale) & jnp.isfinite(products.yy) & (products.ss > 0)
        return now._replace(
            total=zeros_like(now.total),
            params=mean,
            scale=jnp.where(is_taken, scale, now.scale),
            **push_pair(now, s, y, products, is_taken),
        )


def _damped(s: PyTree, y: PyTree, scale: ScalarArray, min_curvature: ArrayLike) -> tuple[PyTree, jax.Array]:
    """A y with enough curvature along s, and the scale that it is damped towards."""
    ss, sy, yy, y_scale = (each.astype(scale.dtype) for each in pair_products(s, y))
    # From here on curvatures are multiplied by `y_scale`; those of the objective are about 1 then.
    sy = sy * y_scale
    gamma = jnp.maximum(jnp.where(sy > 0, yy / safe_divisor(sy), y_scale / scale), min_curvature * y_scale)
    target = gamma * ss
    damped = (1 - MIN_CURVATURE_FRACTION) * target / safe_divisor(target - sy)
    phi = jnp.where(sy < MIN_CURVATURE_FRACTION * target, damped, 1)
    return tree_add_scaled(tree_scale(y, phi), (1 - phi) * gamma / y_scale, s), y_scale / gamma
