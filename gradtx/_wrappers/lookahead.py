r"""Look-ahead: steps of a fast optimizer, and now and then a step of slow weights towards where they led."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .._core.contract import EmptyState, GradientTransformation, refuse_step_owner
from .._core.fields import NonNegative
from .._trees.apply import moved
from .._trees.checks import check_rank
from .._trees.map import copies_of, map_leaves
from .._trees.precision import cast_like, restore, widen
from .._trees.vectors import tree_where
from .._types import Count, Leaf, OptState, Params, ScalarArray, Updates
from .period import Period


def _pseudo_gradient(updates: Leaf, params: Leaf, slow: Leaf) -> Leaf:
    return slow - (params + updates)


def _opposite(updates: Leaf) -> Leaf:
    return -updates


def _sync(
    updates: Leaf, slow: Leaf, slow_step: Leaf, params: Leaf, slow_step_size: ScalarArray, due: ScalarArray
) -> tuple[Leaf, Leaf]:
    new = slow + slow_step_size * slow_step
    return jnp.where(due > 0, new - params, updates), jnp.where(due > 0, new, slow)


class LookaheadState(NamedTuple):
    """State of `lookahead`."""

    steps_since_sync: Count
    """Number of fast steps since the slow weights moved."""
    slow: Params
    """The slow weights, like the parameters."""
    fast_optimizer_state: OptState
    """State of the fast optimizer."""
    outer_state: OptState
    """State of the outer optimizer; `EmptyState()` where there is none."""


class lookahead(GradientTransformation):
    r"""Take `sync_period` fast steps, then a step of slow weights towards where they led; go on from there.

    $$\phi_{n+1} = \phi_n + \alpha\,U(\phi_n - \theta_{nk+k}), \qquad \theta_{nk+k} \leftarrow \phi_{n+1}$$

    $\theta$ are the parameters, which the fast optimizer moves, and $\phi$ the slow weights, in the state. $U$ is the
    update that `outer` makes of the pseudo-gradient $\phi_n - \theta$; without one it is $-(\phi_n - \theta)$, plain
    look-ahead. The update of a k-th step leads to the new slow weights. `tx.eval_params(params, state)` are the slow
    weights.

        gradtx.lookahead(gradtx.adam(1e-3), sync_period=5, slow_step_size=0.5)
        gradtx.lookahead(gradtx.adamw(1e-3), 30, 1.0, outer=gradtx.sgd(0.7, 0.9, nesterov=True))

    The second is the outer step of DiLoCo, with one worker. An outer step that averages pseudo-gradients is
    `chain(ema(0.9), scale_by_learning_rate(0.7))`.

    State: `steps_since_sync`, int32; `slow`, like `params` (float32 for half-precision params): one copy; and the
    states of `fast_optimizer` and `outer`. Needs `params`. In a chain it comes last.
    Units: `slow` is in the parameters'.

    Args:
        fast_optimizer: What makes the fast steps.
        sync_period: k >= 1, how many. Rounded to a whole number.
        slow_step_size: alpha >= 0: which part of the way the slow weights go.
        reset_state: Whether the fast optimizer starts anew, from the slow weights, each time.
        outer: What makes the slow step, from the pseudo-gradient and the slow weights; it gets no extra arguments.

    Raises:
        ValueError: if `sync_period` is less than 1 or `slow_step_size` negative; if `fast_optimizer` or `outer` keeps
            track of the parameters (`average`), or `outer` wants its gradient at another point (`nag`).

    Source: Zhang et al., Lookahead Optimizer: k steps forward, 1 step back, 2019; Douillard et al., DiLoCo, 2023, and
    Thérien et al., MuLoCo, 2025, for outer steps with Nesterov's momentum.
    Differs: optax has the slow weights among the parameters, as pairs, and takes the gradients of the fast ones.
    """

    _owns_step = True

    fast_optimizer: GradientTransformation
    sync_period: Period
    slow_step_size: NonNegative
    reset_state: bool = False
    _: KW_ONLY
    outer: GradientTransformation | None = None

    def __check_init__(self) -> None:
        refuse_step_owner("lookahead", self.fast_optimizer)
        if self.outer is None:
            return
        refuse_step_owner("lookahead", self.outer)
        if self.outer._defines("gradient_params"):
            raise ValueError(
                f"lookahead: `outer` defines gradient_params ({self.outer!r}), but the pseudo-gradient is known at the "
                "slow weights only. Use gradtx.sgd(learning_rate, momentum, nesterov=True), which is Nesterov's method "
                "with the gradient at its parameters"
            )

    def init(self, params: Params) -> LookaheadState:
        slow = copies_of(params)
        outer_state = EmptyState() if self.outer is None else self.outer.init(slow)
        return LookaheadState(jnp.zeros([], jnp.int32), slow, self.fast_optimizer.init(params), outer_state)

    def update(
        self, updates: Updates, state: LookaheadState, params: Params, **extra: object
    ) -> tuple[Updates, LookaheadState]:
        step, fast_state = self.fast_optimizer.update(widen(updates), state.fast_optimizer_state, params, **extra)
        check_rank("sync_period", self.sync_period)
        steps = jnp.asarray(state.steps_since_sync) + np.int32(1)
        due = steps >= jnp.round(jnp.asarray(self.sync_period)).astype(steps.dtype)

        # Where the fast step leads is no parameter when the slow weights move, and is not rounded as one.
        behind = map_leaves(_pseudo_gradient, {"updates": step}, reads={"params": params, "slow": state.slow})
        if self.outer is None:
            slow_step, outer_state = map_leaves(_opposite, {"updates": behind}), state.outer_state
        else:
            slow_step, outer_state = self.outer.update(behind, state.outer_state, state.slow)
            outer_state = tree_where(due, outer_state, state.outer_state)
        step, slow = map_leaves(
            _sync,
            {"updates": step, "slow": state.slow},
            reads={"slow_step": slow_step, "params": params},
            slow_step_size=self.slow_step_size,
            due=due,
        )
        updates = restore(step, updates)
        if self.reset_state:
            fast_state = tree_where(due, self.fast_optimizer.init(moved(params, updates)), fast_state)
        return updates, LookaheadState(jnp.where(due, 0, steps), slow, fast_state, outer_state)

    def eval_params(self, params: Params, state: OptState) -> Params:
        return cast_like(state.slow, params)
