r"""L-BFGS for mini-batches: each pair is of one batch, and is damped."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._core.arguments import Positive
from .._core.checks import one_number
from .._core.maths import nonzero, safe_increment
from .._core.precision import cast_like, restore, scalar, widen
from .._core.transformation import Transform, transformation
from .._core.tree import zeros_like
from .._core.vectors import add_scaled, products, subtract, times
from . import pairs
from .curvature import check_aligned, check_real, in_float32
from .ray import ValueFn

LEAST_PART = 0.25
"""Of the curvature that the scale says, a damped pair has at least this part. Powell, 1978."""


class StochasticLBFGSState(NamedTuple):
    """What the next pair will be made of, and the pairs.

    `count` of updates, int32; `total`, the sum of the params since the last pair; `params`, their mean before that; and
    the fields of `LBFGSState`'s memory.
    """

    count: jax.Array
    total: Any
    params: Any
    pairs: jax.Array
    diff_params_memory: Any
    diff_updates_memory: Any
    weights_memory: jax.Array
    scale: jax.Array


def _can_learn(memory_size: int, every: int, curvature: str, **_: Any) -> None:
    owner = "scale_by_stochastic_lbfgs"
    pairs.check_size(owner, memory_size)
    if every < 1:
        raise ValueError(f"{owner}: `every` must be at least 1 update, got {every}")
    if curvature not in ("gradients", "products"):
        raise ValueError(f"{owner}: `curvature` must be 'gradients' or 'products', got {curvature!r}")


@transformation(check=_can_learn)
def scale_by_stochastic_lbfgs(
    memory_size: int = 10,
    every: int = 10,
    damping: Positive = 0.01,
    curvature: Literal["gradients", "products"] = "products",
) -> Transform:
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
    is scaled to a length of at most 1.

    A step of 1 is too long on mini-batches: the gradient's noise is multiplied by H too. Begin with a learning rate
    near 0.1, and let it fall.

    State: `StochasticLBFGSState`, 2 `memory_size` + 2 copies of the parameters (float32 for half precision). Units:
    parameter squared over objective, times the gradient's. Not negated; updates and gradient have a positive inner
    product. Derivatives take the pairs for constants.

    Extra arguments: `value_fn`, a pure function of params: the objective of the batch that the gradient is of.

    Args:
        memory_size: Pairs that are kept, at least 1.
        every: Updates from pair to pair, at least 1. Short steps make noisy pairs.
        damping: delta, the least curvature that is believed. Unit: the Hessian's.
        curvature: y by a Hessian-vector product (forward over reverse; about two gradients), or by two gradients more.

    Raises:
        TypeError: Parameters are complex.
        ValueError: `memory_size` or `every` is less than 1, or `curvature` is something else.

    Source: Schraudolph, Yu and Guenter, 2007 (differences of one batch); Byrd, Hansen, Nocedal and Singer, 2016
    (products, means); Wang, Ma, Goldfarb and Liu, 2017 (damping). Not in optax.
    """

    def init(params: Any) -> StochasticLBFGSState:
        check_real("scale_by_stochastic_lbfgs", params)
        memory = pairs.empty(params, memory_size)
        return StochasticLBFGSState(
            jnp.zeros([], jnp.int32), total=zeros_like(params), params=zeros_like(params), **memory
        )

    def update(
        updates: Any, state: StochasticLBFGSState, params: Any, *, value_fn: ValueFn
    ) -> tuple[Any, StochasticLBFGSState]:
        check_aligned(updates, params)
        dtype = state.scale.dtype
        gradient = widen(updates)
        objective = in_float32(one_number("what `value_fn` returns", value_fn), params)

        def learned(now: StochasticLBFGSState) -> StochasticLBFGSState:
            mean = times(now.total, 1 / every)
            s = subtract(mean, now.params)
            if curvature == "products":
                y = jax.jvp(jax.grad(objective), (mean,), (s,))[1]
            else:
                y = subtract(jax.grad(objective)(mean), jax.grad(objective)(now.params))
            # Before there are two means there is nothing to subtract; and NaN teaches nothing.
            y, scale = _damped(s, y, now.scale, scalar(damping, dtype))
            of_pair = products(s, y)
            is_taken = (now.count > every) & jnp.isfinite(scale) & jnp.isfinite(of_pair.yy) & (of_pair.ss > 0)
            return now._replace(
                total=zeros_like(now.total),
                params=mean,
                scale=jnp.where(is_taken, scale, now.scale),
                **pairs.taken(now, s, y, of_pair, is_taken),
            )

        now = state._replace(
            count=safe_increment(state.count),
            total=cast_like(add_scaled(state.total, 1.0, widen(params)), state.total),
            scale=pairs.scale_of(gradient, state.scale, state.pairs == 0),
        )
        now = jax.lax.stop_gradient(now)
        # Again behind it: the objective may have closed over what derivatives are taken of.
        new = jax.lax.stop_gradient(jax.lax.cond(now.count % every == 0, learned, lambda now: now, now))
        return restore(pairs.precondition(gradient, new), updates), new

    return Transform(init, update, state_type=StochasticLBFGSState)


def _damped(s: Any, y: Any, scale: jax.Array, least: ArrayLike) -> tuple[Any, jax.Array]:
    """Y with enough curvature along s, and the scale that it is damped towards."""
    of_pair = products(s, y)
    ss, sy, yy, unit = (each.astype(scale.dtype) for each in of_pair)
    sy = sy * unit  # from here on curvatures are multiplied by it, those of the objective are about 1
    steep = jnp.maximum(jnp.where(sy > 0, yy / nonzero(sy), unit / scale), least * unit)
    whole = steep * ss
    part = jnp.where(sy < LEAST_PART * whole, (1 - LEAST_PART) * whole / nonzero(whole - sy), 1)
    return add_scaled(times(y, part), (1 - part) * steep / unit, s), unit / steep
