r"""Weight decay around any optimizer, in each of the conventions that are in use.

They differ in what multiplies the decay (the learning rate, its square, the schedule alone), in where it enters (the
gradient, the step, the new parameters), and in which entries it pulls. `add_params` of `_transforms/weight_decay.py` is
the arithmetic of all but the last two.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike

from .._core.contract import GradientTransformation, refuse_step_owner
from .._core.fields import Positive
from .._core.paths import walk
from .._core.schedule import LearningRate, Schedule, value_at
from .._maths import safe_divisor, safe_increment
from .._transforms.masks import Mask
from .._transforms.weight_decay import WeightDecay, add_params, check_rules, decayed
from .._trees.map import Kernel
from .._trees.precision import restore, scalar, step_dtype, widen
from .._types import Count, Leaf, OptState, Params, ScalarArray, Updates

Mode = Literal["coupled", "decoupled", "independent", "corrected", "palm", "proximal", "cautious"]


def _proximal(updates: Leaf, params: Leaf, factor: ScalarArray) -> Leaf:
    # (params + updates) / (1 - factor) - params, without the difference of two large numbers.
    return add_params(updates, params, factor) / (1 - factor)


def _cautious(updates: Leaf, params: Leaf, factor: ScalarArray) -> Leaf:
    shrinks = jnp.real(jnp.conj(updates) * params) < 0
    return add_params(updates, jnp.where(shrinks, params, 0), factor)


_KERNELS: dict[str, Kernel] = {"proximal": _proximal, "cautious": _cautious}
_OF_PEAK = ("independent", "corrected")
"""Modes that depend on the largest rate."""


class DecayWeightsState(NamedTuple):
    """State of `decay_weights`."""

    count: Count
    """Number of updates."""
    inner_state: OptState
    """State of the optimizer inside."""


class decay_weights(GradientTransformation):
    r"""Weight decay on any optimizer: $\theta_t = \theta_{t-1} + u_t - c_t \lambda_t \theta_{t-1}$, u its step.

    - `coupled` (L2; SGD and Adam of PyTorch): $\lambda_t\theta_{t-1}$ is added to the gradient, and no $c_t$.
    - `decoupled` (AdamW of PyTorch, Keras and optax): $c_t = \eta_t$, the learning rate.
    - `independent` (AdamW's paper): $c_t = \eta_t / \eta_{max}$, the schedule alone.
    - `corrected` (AdamC): $c_t = \eta_t^2 / \eta_{max}$.
    - `palm` (PaLM): $c_t = \eta_t^2$.
    - `proximal` (Adan, MoMo): $\theta_t = (\theta_{t-1} + u_t) / (1 + \eta_t\lambda_t)$.
    - `cautious` (Dion): $c_t = \eta_t$ for entries that $u_t$ brings nearer to zero, and 0 for others.

    The decay is of the parameters before the step, in one sum with it. PyTorch's AdamW decays before it steps, which is
    the same unless the direction depends on the parameters. To decay after the step is another method: it multiplies
    $u_t$ by $1 - \eta_t\lambda_t$, too, as `proximal` does to first order.

    Around the whole optimizer, whose updates are steps, and inside what skips or repeats steps:
    `accumulate(decay_weights(adam(1e-3), 0.1), every=4)`. Around `adam`, not `adamw`, which has a decay of its own.
    It would change the step that a line search has chosen: there, add a penalty to the objective instead.
    A parameter whose gradient is `None` does not decay.

    State: `count`, int32, and `inner_state`. Needs `params`.
    Units: of $\lambda$: one over the rate (one over its square for `palm`), none for `independent`.

    Args:
        inner: The optimizer.
        weight_decay: lambda >= 0, a number or a schedule, or a dict of them by rule: `{"*bias": 0.0, "*": 0.1}`. See
            `add_decayed_weights`.
        mode: What multiplies the decay, and where it enters.
        mask: Which parameters decay. See `add_decayed_weights`.
        learning_rate: eta >= 0, a number or a schedule; `None`: the one argument `learning_rate` inside `inner`. With
            `learning_rate=1.0` a `decoupled` decay is $\lambda$ itself, whatever the rate does.
        peak_learning_rate: The largest rate, for `independent` and `corrected`; `None`: the rate itself where it is
            a number, and the `peak_value` of a schedule that has one.

    Raises:
        ValueError: if `weight_decay` or `learning_rate` is negative; if there is no rate to multiply with, or several;
            if there is a rate that the mode does not use; if `inner` keeps track of the parameters that its own
            updates lead to, looks ahead of them, or makes one step of several updates (not for `coupled`).

    Source: Loshchilov and Hutter, 2019 (decoupled, independent); Defazio, 2025 (corrected); Chowdhery et al., 2022
    (palm); Xie et al., 2022, algorithm 1 (proximal); Chen et al., 2025 (cautious).
    """

    inner: GradientTransformation
    weight_decay: WeightDecay
    mode: Mode = "decoupled"
    mask: Mask = None
    _: KW_ONLY
    learning_rate: LearningRate | None = None
    peak_learning_rate: Positive | None = None

    def __check_init__(self) -> None:
        for name, modes in (("learning_rate", Mode.__args__[1:]), ("peak_learning_rate", _OF_PEAK)):
            if getattr(self, name) is not None and self.mode not in modes:
                raise ValueError(
                    f"decay_weights: `{name}` has no part in mode={self.mode!r}; leave it out (it is for "
                    f"{', '.join(modes)})"
                )
        if self.mode == "coupled":
            return
        refuse_step_owner("decay_weights", self.inner)
        gathers = self.inner._first_inside(lambda tx: tx._gathers)
        if gathers:
            raise ValueError(
                f"decay_weights: {gathers} makes one step of several updates, and mode={self.mode!r} would decay in "
                f"each of them. Put decay_weights around the optimizer alone, inside of {gathers} or before it, or use "
                "mode='coupled'"
            )
        if self.inner._defines("gradient_params"):
            raise ValueError(
                f"decay_weights: {self.inner!r} defines gradient_params, and mode={self.mode!r} would change the "
                "step that its look-ahead point assumes. Put decay_weights inside of it, or use mode='coupled'"
            )
        rate = self._rate_field()
        has_peak = self.peak_learning_rate is not None or not isinstance(rate, Schedule) or hasattr(rate, "peak_value")
        if self.mode in _OF_PEAK and not has_peak:
            raise ValueError(
                f"decay_weights: mode={self.mode!r} needs the largest learning rate, which cannot be read off "
                f"{rate!r}; give peak_learning_rate=..."
            )

    def init(self, params: Params) -> DecayWeightsState:
        check_rules(self.weight_decay, self.mask, params)
        return DecayWeightsState(jnp.zeros([], jnp.int32), self.inner.init(params))

    def update(
        self, updates: Updates, state: DecayWeightsState, params: Params, **extra: object
    ) -> tuple[Updates, DecayWeightsState]:
        # Widened here, so that half-precision steps are rounded once, with the decay in them.
        wide, inner, how = widen(updates), state.inner_state, (params, self.weight_decay, self.mask, state.count)
        if self.mode == "coupled":
            wide = decayed(add_params, wide, *how)
            new, inner = self.inner.update(wide, inner, params, **extra)
        else:
            multiplier = -self._multiplier(state, step_dtype(updates))
            new, inner = self.inner.update(wide, inner, params, **extra)
            new = decayed(_KERNELS.get(self.mode, add_params), new, *how, multiplier)
        return restore(new, updates), DecayWeightsState(safe_increment(state.count), inner)

    def _rate_field(self) -> Any:
        """The rate as it was given: here, or inside."""
        if self.learning_rate is not None:
            return self.learning_rate
        found = {
            ".".join(path): value
            for path, value in walk(self.inner)
            if path[-1] == "learning_rate" and value is not None
        }
        if len(found) != 1:
            came = f"has {len(found)}: {', '.join(found)}" if found else "has none"
            raise ValueError(
                f"decay_weights: mode={self.mode!r} multiplies by the argument `learning_rate` inside {self.inner!r}, "
                f"which {came}. Give learning_rate=..." + (", or put decay_weights around each" if found else "")
            )
        return next(iter(found.values()))

    def _rate(self, state: DecayWeightsState, dtype: DTypeLike) -> Any:
        if self.learning_rate is not None:
            return value_at("learning_rate", self.learning_rate, state.count, dtype)
        field = self._rate_field()
        if not isinstance(field, Schedule):
            return value_at("learning_rate", field, state.count, dtype)
        # By the count of what is inside, which may be another.
        reports = self.inner._scheduled(state.inner_state)
        now = [value for path, value in reports if path[-1].rpartition(".")[2] == "learning_rate"]
        if not now:
            raise ValueError(
                f"decay_weights: {self.inner!r} does not report its scheduled learning rate (gradtx.current does not "
                "show it); give learning_rate=..."
            )
        return scalar(now[-1], dtype)

    def _multiplier(self, state: DecayWeightsState, dtype: DTypeLike) -> Any:
        """c, a scalar of `dtype`."""
        rate = self._rate(state, dtype)
        if self.mode == "palm":
            return rate * rate
        if self.mode not in _OF_PEAK:
            return rate
        peak: Any = self.peak_learning_rate
        if peak is None:
            field = self._rate_field()
            if not isinstance(field, Schedule):  # the rate itself: no division by a rate of 0
                return scalar(1.0, dtype) if self.mode == "independent" else rate
            peak = getattr(field, "peak_value")  # noqa: B009  (not of every schedule)
        share = rate / safe_divisor(value_at("peak_learning_rate", peak, state.count, dtype))
        return share if self.mode == "independent" else rate * share
