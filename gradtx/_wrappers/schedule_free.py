r"""Schedule-free learning: gradients between an iterate and its average, which needs no decay of the rate."""

from __future__ import annotations

import functools
from dataclasses import KW_ONLY
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import GradientTransformation, refuse_step_owner
from .._core.fields import Decay, DType, NonNegative, Scalar
from .._core.schedule import LearningRate, value_at
from .._maths import safe_divisor, safe_increment, safe_power
from .._trees.checks import check_rank
from .._trees.map import copies_of, map_leaves
from .._trees.precision import cast_like, restore, step_dtype, widen
from .._types import Count, Leaf, OptState, Params, ScalarArray, Updates


def _average(params: Leaf, z: Leaf, b1: ScalarArray) -> Leaf:
    """x, from y = (1 - b1) z + b1 x."""
    return z + (params - z) / b1


def _step(updates: Leaf, lead: Leaf, behind: Leaf, b1: ScalarArray, gain: ScalarArray) -> Leaf:
    """From y to the next: in differences alone, since steps are small beside parameters."""
    lead = lead + updates
    return behind + gain * lead + (1 - b1) * (1 - gain) * lead


def _advance(
    updates: Leaf, z: Leaf, x: Leaf, params: Leaf, b1: ScalarArray, gain: ScalarArray
) -> tuple[Leaf, Leaf, Leaf]:
    step = _step(updates, z - x, x - params, b1, gain)
    z = z + updates
    return step, z, x + gain * (z - x)


def _advance_from_y(
    updates: Leaf, z: Leaf, params: Leaf, last_b1: ScalarArray, b1: ScalarArray, gain: ScalarArray
) -> tuple[Leaf, Leaf]:
    lead = (z - params) / last_b1
    return _step(updates, lead, (last_b1 - 1) * lead, b1, gain), z + updates


@functools.partial(jax.jit, inline=True)
def _once_per_step(
    count: Count, max_lr: ScalarArray, weight_sum: ScalarArray, rate: ScalarArray, power: ScalarArray, r: ScalarArray
) -> tuple[Count, ScalarArray, ScalarArray, ScalarArray]:
    """The next count, largest rate and sum of weights, and the share of the newest weight in it."""
    max_lr = jnp.maximum(max_lr, rate)
    weight = safe_power(max_lr, power) * safe_power(count.astype(rate.dtype), r)
    weight_sum = weight_sum + weight
    # All are 0 while a warm-up stands at 0, and nothing moves.
    return safe_increment(count), max_lr, weight_sum, weight / safe_divisor(weight_sum)


class ScheduleFreeState(NamedTuple):
    """State of `schedule_free`."""

    b1: jax.Array
    """The `b1` of the last update, which the parameters were made with."""
    weight_sum: jax.Array
    """The sum of the weights of all iterates."""
    step_count: Count
    """The number of the next update; the first is 1."""
    max_lr: jax.Array
    """The largest learning rate so far."""
    base_optimizer_state: OptState
    """State of the base optimizer."""
    z: Params
    """The iterate of the base optimizer, like the parameters."""


class ScheduleFreeWithXState(NamedTuple):
    """State of `schedule_free` with `keep_x`."""

    b1: jax.Array
    """The `b1` of the last update, which the parameters were made with."""
    weight_sum: jax.Array
    """The sum of the weights of all iterates."""
    step_count: Count
    """The number of the next update; the first is 1."""
    max_lr: jax.Array
    """The largest learning rate so far."""
    base_optimizer_state: OptState
    """State of the base optimizer."""
    z: Params
    """The iterate of the base optimizer, like the parameters."""
    x: Params
    """The average, like the parameters."""


class schedule_free(GradientTransformation):
    r"""Let a base optimizer step from an iterate of its own, and evaluate at the average of these.

    $$z_t = z_{t-1} + u_t(y_{t-1}), \quad x_t = (1-c_t)\,x_{t-1} + c_t z_t, \quad y_t = (1-\beta_1)\,z_t + \beta_1 x_t$$

    $$c_t = w_t \Big/ \textstyle\sum_{s \le t} w_s, \qquad w_t = t^r\,(\max_{s \le t} \eta_s)^q$$

    The parameters are $y$: gradients are taken there, and so is a weight decay of the base optimizer. What to evaluate
    is $x$, `tx.eval_params(params, state)`. The average replaces momentum: give it a base optimizer without one.
    Running statistics (of batch norm) belong to $y$, and are to be computed anew for $x$.

        rate = gradtx.linear_schedule(0.0, 1e-3, 1000)      # a warm-up, and no decay
        tx = gradtx.schedule_free(gradtx.adam(rate, b1=0.0), rate)

    State: `step_count`, int32; `b1`, `weight_sum` and `max_lr`; `z`, like `params` (float32 for half-precision params):
    one copy; `x` with `keep_x`, another; and the base optimizer's. Needs `params`. In a chain it comes last.
    Units: `z` and `x` are in the parameters'.

    Args:
        base_optimizer: What makes the steps u of z, its learning rate included.
        learning_rate: eta, the rate of the base optimizer, which the weights are made of: a number or a schedule.
        b1: beta_1, in [0, 1), positive without `keep_x`: how near the gradients are to the average.
        weight_lr_power: q, any number. At 2, iterates of a warm-up have little weight.
        state_dtype: The dtype of `z`, in place of the parameters' (float32 for half precision).
        r: r >= 0. With it later iterates have more weight.
        keep_x: Whether to have x in the state. Otherwise it is computed from y and z at each step, which saves a copy,
            and rounds x as the parameters are rounded: with half-precision parameters, keep it (or the parameters in
            float32).

    Raises:
        ValueError: if `learning_rate` or `r` is negative, `b1` is outside [0, 1), or 0 without `keep_x`; if
            `base_optimizer` keeps track of the parameters (`average`).

    Source: Defazio et al., The Road Less Scheduled, 2024, and the authors' code
    (https://github.com/facebookresearch/schedule_free), which has r and q.
    Differs: optax reads `learning_rate` one step ahead of its base optimizer, from step 1
    (https://github.com/google-deepmind/optax/issues/1744); here both begin at step 0.
    """

    _owns_step = True

    base_optimizer: GradientTransformation
    learning_rate: LearningRate
    b1: Decay = 0.9
    weight_lr_power: Scalar = 2.0
    state_dtype: DType = None
    _: KW_ONLY
    r: NonNegative = 0.0
    keep_x: bool = False

    def __check_init__(self) -> None:
        refuse_step_owner("schedule_free", self.base_optimizer)
        if not self.keep_x and np.any(np.asarray(self.b1) == 0):
            raise ValueError(
                "schedule_free: `b1` must be positive, got 0: the average is computed from the parameters, which do "
                "not depend on it then. With keep_x=True it is in the state, and b1 may be 0"
            )

    def _state_classes(self) -> tuple[type, ...]:
        return (ScheduleFreeWithXState if self.keep_x else ScheduleFreeState,)

    def init(self, params: Params) -> ScheduleFreeState | ScheduleFreeWithXState:
        dtype = step_dtype(params)
        check_rank("b1", self.b1)
        state = ScheduleFreeState(
            # A copy, as the state may be donated.
            b1=jnp.array(self.b1, dtype, copy=True),
            weight_sum=jnp.zeros([], dtype),
            step_count=jnp.ones([], jnp.int32),
            max_lr=jnp.zeros([], dtype),
            base_optimizer_state=self.base_optimizer.init(params),
            z=copies_of(params, self.state_dtype),
        )
        return ScheduleFreeWithXState(*state, copies_of(params)) if self.keep_x else state

    def update(
        self, updates: Updates, state: ScheduleFreeState | ScheduleFreeWithXState, params: Params, **extra: object
    ) -> tuple[Updates, ScheduleFreeState | ScheduleFreeWithXState]:
        step, base_state = self.base_optimizer.update(widen(updates), state.base_optimizer_state, params, **extra)
        dtype = jnp.result_type(state.weight_sum)
        count = jnp.asarray(state.step_count)
        rate = value_at("learning_rate", self.learning_rate, count - np.ones((), count.dtype), dtype)
        power, r, b1 = (value_at(name, getattr(self, name), 0, dtype) for name in ("weight_lr_power", "r", "b1"))
        next_count, max_lr, weight_sum, gain = _once_per_step(count, state.max_lr, state.weight_sum, rate, power, r)
        known = jnp.array(b1, dtype), weight_sum, next_count, max_lr, base_state
        trees, reads = {"updates": step, "z": state.z}, {"params": params}
        if isinstance(state, ScheduleFreeWithXState):
            step, z, x = map_leaves(_advance, {**trees, "x": state.x}, reads=reads, b1=b1, gain=gain)
            return restore(step, updates), ScheduleFreeWithXState(*known, z, x)
        step, z = map_leaves(_advance_from_y, trees, reads=reads, last_b1=state.b1, b1=b1, gain=gain)
        return restore(step, updates), ScheduleFreeState(*known, z)

    def eval_params(self, params: Params, state: OptState) -> Params:
        return schedule_free_eval_params(state, params)


def schedule_free_eval_params(state: OptState, params: Params) -> Params:
    """The average x of `schedule_free`; `tx.eval_params(params, state)` is the same, also where it is inside others.

    Args:
        state: What `update` of `schedule_free` returned.
        params: The parameters.

    Raises:
        TypeError: if it is another state.
    """
    if not isinstance(state, (ScheduleFreeState, ScheduleFreeWithXState)):
        raise TypeError(
            f"schedule_free_eval_params takes a ScheduleFreeState, got {type(state).__name__}. Where schedule_free is "
            "inside another transformation, call tx.eval_params(params, state)"
        )
    if isinstance(state, ScheduleFreeWithXState):
        return cast_like(state.x, params)
    return map_leaves(_average, {"params": params}, reads={"z": state.z}, b1=state.b1)
