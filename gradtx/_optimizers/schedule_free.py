r"""Schedule-free gradient descent and AdamW, with a warm-up."""

from __future__ import annotations

from .._core.chain import chain
from .._core.contract import Recipe
from .._core.fields import Decay, DType, NonNegative, Positive, Scalar
from .._schedules.basic import linear_schedule
from .._transforms.scale import scale_by_learning_rate
from .._transforms.second_moment import scale_by_rms
from .._transforms.weight_decay import WeightDecay, add_decayed_weights
from .._types import Number
from .._wrappers.schedule_free import schedule_free


def _warmed_up(learning_rate: Number, warmup_steps: Number | None) -> Number | linear_schedule:
    return learning_rate if warmup_steps is None else linear_schedule(0.0, learning_rate, warmup_steps)


class schedule_free_sgd(Recipe):
    r"""Schedule-free gradient descent: `schedule_free` around a weight decay and `scale_by_learning_rate`.

    State: `ScheduleFreeState`: one copy of `params`, two with `keep_x`. Needs `params`.

    Args:
        learning_rate: eta >= 0, after the warm-up.
        warmup_steps: How many steps of a linear warm-up from 0; `None`: none.
        weight_decay: lambda >= 0, times the rate, of the parameters, y; `None`: none.

    Raises:
        ValueError: if `b1` is outside (0, 1), `warmup_steps` is not positive, or another argument is negative.

    Source: Defazio et al., The Road Less Scheduled, 2024.
    """

    learning_rate: NonNegative = 1.0
    warmup_steps: Positive | None = None
    b1: Decay = 0.9
    weight_decay: WeightDecay | None = None
    weight_lr_power: Scalar = 2.0
    state_dtype: DType = None

    def parts(self) -> schedule_free:
        rate = _warmed_up(self.learning_rate, self.warmup_steps)
        descent = scale_by_learning_rate(rate)
        base = descent if self.weight_decay is None else chain(add_decayed_weights(self.weight_decay), descent)
        return schedule_free(base, rate, self.b1, self.weight_lr_power, self.state_dtype)


class schedule_free_adamw(Recipe):
    r"""Schedule-free AdamW: `schedule_free` around `scale_by_rms`, a weight decay and `scale_by_learning_rate`.

    `scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True)` is Adam without a momentum.

    State: `ScheduleFreeState`: two copies of `params`. Needs `params`.

    Args:
        learning_rate: eta >= 0, after the warm-up.
        warmup_steps: How many steps of a linear warm-up from 0; `None`: none.
        b2: Decay of the mean squared gradient, in [0, 1). Per step.
        eps: Outside the root. Unit: gradient.
        weight_decay: lambda >= 0, times the rate, of the parameters, y.

    Raises:
        ValueError: if `b1` is outside (0, 1), `b2` outside [0, 1), `warmup_steps` is not positive, or another argument
            is negative.

    Source: Defazio et al., The Road Less Scheduled, 2024.
    """

    learning_rate: NonNegative = 0.0025
    warmup_steps: Positive | None = None
    b1: Decay = 0.9
    b2: Decay = 0.999
    eps: NonNegative = 1e-8
    weight_decay: WeightDecay = 0.0
    weight_lr_power: Scalar = 2.0
    state_dtype: DType = None

    def parts(self) -> schedule_free:
        rate = _warmed_up(self.learning_rate, self.warmup_steps)
        base = chain(
            scale_by_rms(self.b2, self.eps, eps_in_sqrt=False, bias_correction=True),
            add_decayed_weights(self.weight_decay),
            scale_by_learning_rate(rate),
        )
        return schedule_free(base, rate, self.b1, self.weight_lr_power, self.state_dtype)
