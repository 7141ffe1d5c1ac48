r"""Nesterov's look-ahead along an average of past steps, around any optimizer."""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeAlias

import jax.numpy as jnp

from .._core.contract import GradientTransformation, refuse_look_ahead, refuse_step_owner
from .._core.fields import Decay, Range
from .._core.schedule import ScalarOrSchedule, value_at
from .._maths import safe_increment
from .._trees.map import map_leaves, zeros_like
from .._trees.precision import restore, step_dtype, widen
from .._types import Count, Leaf, OptState, Params, ScalarArray, Updates

LookAhead: TypeAlias = Annotated[ScalarOrSchedule, "data", Range("a finite number >= 0", low=0.0)]


def _average(
    updates: Leaf, ema: Leaf, beta: ScalarArray, gamma: ScalarArray, *, from_look_ahead: bool
) -> tuple[Leaf, Leaf]:
    step = beta * ema + updates if from_look_ahead else updates
    return step, gamma * ema + (1 - gamma) * step


def _look_ahead(params: Leaf, ema: Leaf, beta: ScalarArray) -> Leaf:
    return params + beta * ema


class EmaNesterovState(NamedTuple):
    """State of `ema_nesterov`."""

    count: Count
    """Number of updates."""
    ema: Updates
    """Decaying mean of steps, like the parameters."""
    inner_state: OptState
    """State of the inner transformation."""


class ema_nesterov(GradientTransformation):
    r"""Look ahead along the average of past steps, and step from there.

    $$y_t = \theta_t + \beta_t e_t, \qquad \theta_{t+1} = y_t + u(\nabla f(y_t)), \qquad
    e_{t+1} = \gamma e_t + (1-\gamma)(\theta_{t+1} - \theta_t)$$

    with u the step of `inner`, an optimizer, which is given $y_t$ as its parameters. The gradient is to be taken at
    `tx.gradient_params(params, state)`, which is $y_t$. Unlike the momentum inside `inner`, the average is of the
    steps that were made, after orthogonalisation, scaling, and the learning rate. In a chain it comes last.

    State: `count`, int32, `ema`, like `params` (float32 for half precision): one copy; and that of `inner`.
    Units: as those of `inner`.

    Args:
        inner: The optimizer.
        gamma: Decay of the average, in [0, 1). Per step.
        beta: How far to look ahead, >= 0, a number or a schedule; below 1, since steps are 1 / (1 - beta) times as long
            along a constant gradient. The record (see Source) has 0.6 times the learning rate over its peak, between
            steps 500 and 2,400 of 3,125, and 0 before and after.
        from_look_ahead: Whether to step from $y_t$; otherwise from $\theta_t$, of which `inner` then is told.

    Raises:
        ValueError: if `gamma` is outside [0, 1), or `beta` is negative; if `inner` defines `gradient_params`, or keeps
            track of the parameters.

    Source: Yau et al., EMA-Nesterov, 2026, https://arxiv.org/abs/2605.25395, as in result 39 of track 3 of
    https://github.com/KellerJordan/modded-nanogpt.
    """

    inner: GradientTransformation
    gamma: Decay = 0.99
    beta: LookAhead = 0.6
    from_look_ahead: bool = True

    _owns_step = True

    def __check_init__(self) -> None:
        refuse_look_ahead("ema_nesterov", self.inner)
        refuse_step_owner("ema_nesterov", self.inner)

    def init(self, params: Params) -> EmaNesterovState:
        return EmaNesterovState(jnp.zeros([], jnp.int32), zeros_like(params), self.inner.init(params))

    def update(
        self, updates: Updates, state: EmaNesterovState, params: Params, **extra: object
    ) -> tuple[Updates, EmaNesterovState]:
        wide, beta = widen(updates), value_at("beta", self.beta, state.count, step_dtype(updates))
        point = self.gradient_params(params, state) if self.from_look_ahead else params
        step, inner_state = self.inner.update(wide, state.inner_state, point, **extra)
        trees, numbers = {"updates": step, "ema": state.ema}, {"beta": beta, "gamma": self.gamma}
        step, ema = map_leaves(_average, trees, from_look_ahead=self.from_look_ahead, **numbers)
        return restore(step, updates), EmaNesterovState(safe_increment(state.count), ema, inner_state)

    def gradient_params(self, params: Params, state: OptState) -> Params:
        beta = value_at("beta", self.beta, state.count, step_dtype(params))
        return map_leaves(_look_ahead, {"params": params}, reads={"ema": state.ema}, beta=beta)
