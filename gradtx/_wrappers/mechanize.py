r"""Mechanic: learn the scale of an optimizer's steps."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core.contract import GradientTransformation, refuse_changed_step
from .._core.fields import AtLeastOne, NonNegative, Positive
from .._maths import floor_eps, safe_increment, safe_sqrt
from .._transforms.clip import global_norm
from .._trees.checks import check_rank
from .._trees.map import copies_of, map_leaves
from .._trees.precision import restore, scalar, step_dtype, widen
from .._trees.vectors import present, tree_sub, tree_vdot
from .._types import Count, Leaf, OptState, Params, ScalarArray, Updates

Scales = Float[Array, "num_betas"]
"""A number for each decay."""


def _begin(updates: Leaf, x0: Leaf, params: Leaf, first: ScalarArray) -> tuple[Leaf, Leaf]:
    """Where training really begins: it may be elsewhere than where the state was made."""
    return updates, jnp.where(first > 0, params, x0)


def _scaled(updates: Leaf, x0: Leaf, params: Leaf, old: ScalarArray, new: ScalarArray) -> Leaf:
    # The first difference comes first: a step that is short beside the parameters would lose its digits in them.
    moved = x0 - params
    return moved - new * (moved / old - updates)


class MechanicState(NamedTuple):
    """State of `mechanize`."""

    base_optimizer_state: OptState
    """State of the optimizer."""
    count: Count
    """Number of updates."""
    r: Scales
    """Reward of each decay's bets."""
    m: Scales
    """Largest bet of the past, decaying."""
    v: Scales
    """Sum of squares of bets, decaying."""
    s: Scales
    """Scale by each decay; their sum is that of the steps."""
    x0: Params
    """The parameters at the first update."""

    def _report(self) -> dict[str, jax.Array]:
        return {"scale": jnp.sum(self.s, axis=-1)}


class mechanize(GradientTransformation):
    r"""Learn the factor of an optimizer's steps while it trains, so that its learning rate need not be tuned.

    $$\theta_t = \theta_0 + s_t \textstyle\sum_{i \le t} u_i$$

    with u the steps of `base_optimizer`, of a learning rate or schedule whose peak is 1, and s a sum of scales, each
    from a tuner with another decay (0.9, 0.99, ...). The sum is recovered from the parameters:
    steps that are lost in their rounding, as the first ones may be (`s_init` times a rate), never grow. In a chain it
    comes last.

    State: `x0`, like `params` (float32 for half precision): one copy; `num_betas` times four numbers, `count`, and that
    of `base_optimizer`. Needs `params`. `gradtx.report` has the scale.
    Units: of the parameters.

    Args:
        base_optimizer: The optimizer. Not one whose steps have a fixed length relative to the parameters (LARS, LAMB).
        weight_decay: A pull towards 0 in what the tuner sees, as a share of the gradient's norm, >= 0.
        eps: Keeps divisors from 0, >= 0.
        s_init: The scale that the tuners begin with, > 0.
        num_betas: Number of tuners.

    Raises:
        ValueError: if an argument is outside its range; if `base_optimizer` keeps track of the parameters or defines
            `gradient_params`.

    Source: Cutkosky, Defazio and Mehta, 2023, https://arxiv.org/abs/2306.00144, as in optax.
    """

    base_optimizer: GradientTransformation
    weight_decay: NonNegative = 1e-2
    eps: NonNegative = 1e-8
    s_init: Positive = 1e-6
    num_betas: AtLeastOne = 6

    _owns_step = True

    def __check_init__(self) -> None:
        refuse_changed_step("mechanize", self.base_optimizer)

    def init(self, params: Params) -> MechanicState:
        dtype = step_dtype(params)
        r, m, v, zeros = (jnp.zeros([self.num_betas], dtype) for _ in range(4))
        s = zeros + scalar(self.s_init, dtype)
        return MechanicState(self.base_optimizer.init(params), jnp.zeros([], jnp.int32), r, m, v, s, copies_of(params))

    def update(
        self, updates: Updates, state: MechanicState, params: Params, **extra: object
    ) -> tuple[Updates, MechanicState]:
        wide, dtype = widen(updates), jnp.result_type(state.s)
        numbers = {name: scalar(getattr(self, name), dtype) for name in ("weight_decay", "eps", "s_init")}
        for name, value in numbers.items():
            check_rank(name, value)
        numbers["eps"] = floor_eps(numbers["eps"], outside=True)
        step, inner_state = self.base_optimizer.update(wide, state.base_optimizer_state, params, **extra)
        first = jnp.asarray(state.count) == 0
        _, x0 = map_leaves(_begin, {"updates": wide, "x0": state.x0}, reads={"params": params}, first=first)
        # What has no gradient takes no part.
        here, s = present(params, wide), jnp.sum(state.s)
        moved, old = tree_sub(present(x0, wide), here), s + numbers["eps"]
        decay = numbers["weight_decay"] * s * global_norm(wide) / (global_norm(here) + numbers["eps"])
        # The gradient with its decay, along the sum of the inner steps as the parameters tell it.
        h = (tree_vdot(wide, moved) + decay * tree_vdot(here, moved)) / old
        new = _tuned(state._replace(base_optimizer_state=(), x0=()), h.astype(dtype), numbers)
        reads = {"x0": x0, "params": params}
        step = map_leaves(_scaled, {"updates": step}, reads=reads, old=old, new=jnp.sum(new.s))
        return restore(step, updates), new._replace(base_optimizer_state=inner_state, x0=x0)


@jax.jit
def _tuned(state: MechanicState, h: ScalarArray, numbers: dict[str, ScalarArray]) -> MechanicState:
    """The tuners after a bet of h: each multiplies its wealth by how well it has bet."""
    number, dtype = state.s.shape[0], h.dtype
    betas = np.asarray([1 - 0.1**i for i in range(1, number + 1)], dtype)
    eps = numbers["eps"]
    clipped = jnp.clip(h, -state.m, state.m)
    m = jnp.maximum(betas * state.m, jnp.abs(h) + eps)
    v = betas**2 * state.v + h**2
    r = betas * state.r + clipped * state.s
    wealth = numbers["s_init"] / number * m + jnp.maximum(r, 0)
    s = wealth / (safe_sqrt(v) + eps)
    return state._replace(count=safe_increment(state.count), r=r, m=m, v=v, s=s)
