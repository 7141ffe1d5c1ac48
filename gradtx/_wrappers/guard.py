r"""Leave out steps that would do harm: gradients that are not finite, and spikes of the loss or of the gradient."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool

from .._core.contract import GradientTransformation
from .._core.fields import OneOrMore, Positive, Range
from .._manual_axes import vary_with
from .._maths import safe_increment
from .._objective import check_number
from .._transforms.clip import global_norm
from .._trees.checks import check_rank
from .._trees.precision import scalar, step_dtype
from .._types import Count, OptState, Params, ScalarArray, Updates
from ._choose import Condition, all_finite, update_and_keep, where_tree, zero_unless
from ._rolling import Window, empty_window, is_spike, rolled

WINDOW, SIGMA = 128, 6.0
"""OLMo-core's, https://github.com/allenai/OLMo-core/blob/main/src/olmo_core/optim/skip_step_optimizer.py; MaxText's
`skip_step_on_spikes` follows it."""

WindowSize: TypeAlias = Annotated[int, Range("a whole number >= 2", low=2)]


class GuardState(NamedTuple):
    """State of `guard`."""

    skipped_in_a_row: Count
    """Steps left out since the last one that was taken."""
    total_notfinite: Count
    """Steps left out because something was not finite."""
    total_spikes: Count
    """Steps left out because they spiked."""
    is_stuck: Bool[Array, ""]
    """Whether at least `max_consecutive` steps in a row were left out."""
    losses: Window | None
    """The last values of the loss; `None` if spikes are not looked for."""
    norms: Window | None
    """The last norms of the gradient, likewise."""
    inner_state: OptState
    """The inner state, which a step that is left out does not change."""

    def _report(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._fields[:4]}


class guard(GradientTransformation):
    r"""Leave out steps whose gradient or loss is not finite, and, if asked, those that spike.

    Where a step is left out, updates are 0, and the state inside (counts, averages, keys) stays the same to the bit.

        updates, state = tx.update(grads, state, params, value=loss)
        if step % 100 == 0 and gradtx.report(state)["is_stuck"]:  # a read of the device: not at each step
            raise RuntimeError("the loss is not finite any more")

    With `sigma`, OLMo's rule: a step is left out if its loss, or the norm of its gradient, is above the mean of the
    last `window` ones by more than `sigma` of their (unbiased) standard deviations. It begins when the window is half
    full. What spikes goes into the window, too, so that a new level becomes the usual one; what is not finite does not.

    Extra argument: `value`, the loss, one real number, if there is one; it is handed on.

    State: `GuardState`: three counts, a bool, and two windows if there is a `sigma`, beside the inner state.
    Units: as the inner updates. The inner update is computed at each step, taken or not: a line search inside runs.

    Args:
        inner: The transformation to guard.
        sigma: How many standard deviations make a spike. `None`: spikes are not looked for. OLMo's is 6.
        window: How many values are remembered, at least 2.
        max_consecutive: After so many steps in a row that were left out, `is_stuck` is true, and the next one is taken
            if it is finite, though it spikes. What is not finite is never taken. `None`: no limit.
        check_updates: Whether to look at the inner updates, too: an overflow inside makes them not finite from a
            finite gradient. It costs another state's memory.

    Raises:
        ValueError: if `sigma` is not positive, `window` is less than 2, or `max_consecutive` less than 1.
        TypeError: from `update`, if `value` is not one real number.

    Source: OLMo-core, `SkipStepOptimizer`. Differs: with a short window it also judges by a single value, whose
    standard deviation is NaN, and so leaves out the second step; here two values are needed.
    """

    inner: GradientTransformation
    _: KW_ONLY
    sigma: Positive | None = None
    window: WindowSize = WINDOW
    max_consecutive: OneOrMore | None = None
    check_updates: bool = False

    def init(self, params: Params) -> GuardState:
        dtype = step_dtype(params)
        losses, norms = (None if self.sigma is None else empty_window(self.window, dtype) for _ in range(2))
        in_a_row, notfinite, spikes = (jnp.zeros([], jnp.int32) for _ in range(3))
        is_stuck, inner_state = jnp.zeros([], bool), self.inner.init(params)
        return vary_with(GuardState(in_a_row, notfinite, spikes, is_stuck, losses, norms, inner_state), params)

    def update(
        self,
        updates: Updates,
        state: GuardState,
        params: Params | None = None,
        *,
        value: ArrayLike | None = None,
        **extra: object,
    ) -> tuple[Updates, GuardState]:
        if value is not None:
            check_number("guard: `value`", value)
            extra = {**extra, "value": value}
        is_finite, is_spiking, windows = self._judged(updates, state, value)
        limit = np.inf if self.max_consecutive is None else self.max_consecutive
        check_rank("max_consecutive", limit)
        is_taken = is_finite & (~is_spiking | _at_least(state.skipped_in_a_row, limit))
        new, inner_state = update_and_keep(is_taken, self.inner, updates, state.inner_state, params, extra)
        if self.check_updates:
            stays_finite = all_finite(new)
            is_finite, is_taken = is_finite & stays_finite, is_taken & stays_finite
            new, inner_state = zero_unless(is_taken, new), where_tree(is_taken, inner_state, state.inner_state)
        skipped = jnp.where(is_taken, jnp.zeros_like(state.skipped_in_a_row), safe_increment(state.skipped_in_a_row))
        return new, GuardState(
            skipped,
            counted(state.total_notfinite, ~is_finite),
            counted(state.total_spikes, is_finite & ~is_taken),
            _at_least(skipped, limit),
            *windows,
            inner_state=inner_state,
        )

    def _judged(
        self, updates: Updates, state: GuardState, value: ArrayLike | None
    ) -> tuple[Condition, Condition, tuple[Window | None, Window | None]]:
        """Whether the step is finite, whether it spikes, and the windows with it."""
        loss_is_finite = jnp.ones([], bool) if value is None else jnp.isfinite(value)
        if self.sigma is None or state.losses is None or state.norms is None:
            return all_finite(updates) & loss_is_finite, jnp.zeros([], bool), (state.losses, state.norms)
        check_rank("sigma", self.sigma)
        norm = global_norm(updates).astype(state.norms.dtype)
        loss = None if value is None else jnp.asarray(scalar(value, state.losses.dtype))
        # A norm that is finite says so of all entries: one look at the gradient serves for both.
        is_finite = jnp.isfinite(norm) & loss_is_finite
        is_spiking = is_spike(state.norms, norm, self.sigma)
        losses = state.losses
        if loss is not None:
            is_spiking = is_spiking | is_spike(losses, loss, self.sigma)
            losses = _rolled_if(is_finite, losses, loss)
        return is_finite, is_spiking & is_finite, (losses, _rolled_if(is_finite, state.norms, norm))


def _rolled_if(condition: Condition, window: Window, latest: ScalarArray) -> Window:
    return rolled(window, jnp.where(condition, latest, np.inf))


def _at_least(count: Count, limit: ArrayLike) -> Condition:
    dtype = jnp.result_type(float)
    return jnp.asarray(count).astype(dtype) >= jnp.asarray(limit).astype(dtype)


def counted(count: Count, condition: Condition) -> Count:
    """One more where the condition holds."""
    return jnp.where(condition, safe_increment(count), count)
