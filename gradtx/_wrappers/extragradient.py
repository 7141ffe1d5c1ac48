r"""Extragradient: a trial step, and the gradient where it leads."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax.numpy as jnp

from .._core.contract import GradientTransformation, refuse_look_ahead, refuse_step_owner
from .._trees.apply import apply_updates
from .._trees.map import map_leaves, zeros_like
from .._trees.precision import restore, widen
from .._trees.vectors import tree_where
from .._types import Count, Leaf, OptState, Params, ScalarArray, Updates


def _two_calls(updates: Leaf, displacement: Leaf, last: ScalarArray) -> tuple[Leaf, Leaf]:
    return jnp.where(last > 0, updates, 0), jnp.where(last > 0, 0, updates)


def _past(updates: Leaf, displacement: Leaf) -> tuple[Leaf, Leaf]:
    return updates, updates


class ExtragradientState(NamedTuple):
    """State of `extragradient`."""

    calls: Count
    """0 before the trial step, 1 after it; always 0 in the form of one call."""
    displacement: Updates
    """The trial step, like the parameters."""
    inner_state: OptState
    """State of the inner transformation."""


class extragradient(GradientTransformation):
    r"""Take the gradient where a trial step leads, and step with it from where the trial began.

    $$\theta_{t+1/2} = \theta_t + u(\nabla f(\theta_t)), \qquad \theta_{t+1} = \theta_t + u(\nabla f(\theta_{t+1/2}))$$

    with u the step of `inner`, an optimizer. In games and saddle-point problems, where gradient descent goes round in
    circles, it converges. The gradient is to be taken at `tx.gradient_params(params, state)`:

    - "two_calls": two updates a step, with two gradients of one batch. The first returns zeros.
    - "past": one update a step. The trial step is the last one once more, so that one gradient serves both
      (Popov's method, "optimistic" gradient descent).

    In a chain it comes last.

    State: `calls`, int32, `displacement`, like `params` (float32 for half precision): one copy; and that of `inner`.
    Units: as those of `inner`.

    Args:
        inner: The optimizer.
        form: "two_calls" or "past".
        carry: Whether in "two_calls" the state of `inner` takes in the first gradient, too, as in ExtraAdam; a schedule
            in it then counts two updates a step. Otherwise it sees one gradient a step, the second.

    Raises:
        ValueError: if `form` is another word; if `inner` defines `gradient_params`, or keeps track of the parameters
            where `carry` would hand it the trial step.

    Source: Korpelevich, 1976; Popov, 1980; Gidel et al., 2019, https://arxiv.org/abs/1802.10551.
    """

    inner: GradientTransformation
    form: Literal["two_calls", "past"] = "two_calls"
    carry: bool = False

    def __check_init__(self) -> None:
        refuse_look_ahead("extragradient", self.inner)
        if self.carry:
            refuse_step_owner("extragradient", self.inner)

    def init(self, params: Params) -> ExtragradientState:
        return ExtragradientState(jnp.zeros([], jnp.int32), zeros_like(params), self.inner.init(params))

    def update(
        self, updates: Updates, state: ExtragradientState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, ExtragradientState]:
        old, calls = state.inner_state, jnp.asarray(state.calls)
        step, inner_state = self.inner.update(widen(updates), old, params, **extra)
        trees = {"updates": step, "displacement": state.displacement}
        if self.form == "past":
            step, displacement = map_leaves(_past, trees)
            return restore(step, updates), ExtragradientState(jnp.zeros_like(calls), displacement, inner_state)
        last = calls > 0
        step, displacement = map_leaves(_two_calls, trees, last=last)
        inner_state = inner_state if self.carry else tree_where(last, inner_state, old)
        return restore(step, updates), ExtragradientState((~last).astype(calls.dtype), displacement, inner_state)

    def gradient_params(self, params: Params, state: OptState) -> Params:
        return apply_updates(params, state.displacement)
