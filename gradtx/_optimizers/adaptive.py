r"""Optimizers that divide by the size of past gradients: Adagrad, Adadelta, RMSProp."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .._core.chain import chain
from .._core.contract import Recipe
from .._core.fields import Decay, NonNegative, SumDecay
from .._core.schedule import LearningRate
from .._transforms.adadelta import scale_by_adadelta
from .._transforms.identity import identity
from .._transforms.scale import scale_by_learning_rate
from .._transforms.second_moment import scale_by_rms, scale_by_rss, scale_by_stddev
from .._transforms.trace import trace
from .._transforms.weight_decay import Mask, WeightDecay, add_decayed_weights


class adagrad(Recipe):
    r"""Adagrad: `scale_by_rss`, then `scale_by_learning_rate`.

    $$\theta_t = \theta_{t-1} - \eta\,g_t / \sqrt{G_t + \epsilon}, \qquad G_t = G_0 + \textstyle\sum_{s \le t} g_s^2$$

    State: (`ScaleByRssState`, `ScaleByLearningRateState`): one copy of `params`.

    Args:
        learning_rate: eta >= 0, a number or a schedule. The first step of a large gradient is eta.
        initial_accumulator_value: See `gradtx.scale_by_rss`; the paper has 0.

    Raises:
        ValueError: if an argument is negative.

    Source: Duchi, Hazan and Singer, 2011.
    """

    learning_rate: LearningRate
    initial_accumulator_value: NonNegative = 0.1
    eps: NonNegative = 1e-7
    _: KW_ONLY
    eps_in_sqrt: bool = True

    def parts(self) -> chain:
        return chain(
            scale_by_rss(self.initial_accumulator_value, self.eps, eps_in_sqrt=self.eps_in_sqrt),
            scale_by_learning_rate(self.learning_rate),
        )


class adadelta(Recipe):
    r"""Adadelta: `add_decayed_weights`, `scale_by_adadelta`, then `scale_by_learning_rate`.

    State: (`AddDecayedWeightsState` or `EmptyState`, `ScaleByAdaDeltaState`, `ScaleByLearningRateState`): two copies
    of `params`. Needs `params` if there is a `weight_decay`.

    Args:
        learning_rate: eta >= 0, a number or a schedule. The paper has none, which is 1. Differs: optax's default,
            None, leaves the sign as it is and ascends.
        weight_decay: See `gradtx.add_decayed_weights`; it enters before the scaling. `None`: no such stage. Differs:
            optax's default is the number 0, which here would be data, and so cost a pass over the parameters.
        weight_decay_mask: See `gradtx.add_decayed_weights`.

    Raises:
        ValueError: if `rho` is outside [0, 1), another argument is negative, or there is a mask without weight decay.

    Source: Zeiler, 2012.
    """

    learning_rate: LearningRate = 1.0
    rho: Decay = 0.9
    eps: NonNegative = 1e-6
    weight_decay: WeightDecay | None = None
    weight_decay_mask: Mask = None

    def __check_init__(self) -> None:
        if self.weight_decay is None and self.weight_decay_mask is not None:
            raise ValueError("adadelta: `weight_decay_mask` needs a `weight_decay`; got a mask and None")

    def parts(self) -> chain:
        return chain(
            identity() if self.weight_decay is None else add_decayed_weights(self.weight_decay, self.weight_decay_mask),
            scale_by_adadelta(self.rho, self.eps),
            scale_by_learning_rate(self.learning_rate),
        )


class rmsprop(Recipe):
    r"""RMSProp: `scale_by_rms`, `scale_by_learning_rate`, then `trace` if there is `momentum`.

    $$\theta_t = \theta_{t-1} - \eta\,g_t / \sqrt{v_t + \epsilon}, \qquad v_t = \rho v_{t-1} + (1-\rho) g_t^2$$

    State: (`ScaleByRmsState`, `ScaleByLearningRateState`, `TraceState` or `EmptyState`): one or two copies of
    `params`; `ScaleByRStdDevState`, one copy more, if `centered`; `...WithCountState` if `bias_correction`.

    Args:
        learning_rate: eta >= 0, a number or a schedule. Inside the momentum's buffer.
        centered: Whether to divide by the standard deviation instead: `gradtx.scale_by_stddev`.
        momentum: See `gradtx.trace`. `None`: no buffer.

    Raises:
        ValueError: if `decay` is outside [0, 1), `momentum` is outside [0, 1], or another argument is negative.

    Source: Hinton, lecture 6e, 2012; Graves, 2013, for `centered`. At a constant rate it ends in a limit cycle of
    about that size.
    """

    learning_rate: LearningRate
    decay: Decay = 0.9
    eps: NonNegative = 1e-8
    initial_scale: NonNegative = 0.0
    eps_in_sqrt: bool = True
    centered: bool = False
    momentum: SumDecay | None = None
    nesterov: bool = False
    bias_correction: bool = False

    def parts(self) -> chain:
        scaling = scale_by_stddev if self.centered else scale_by_rms
        return chain(
            scaling(self.decay, self.eps, self.initial_scale, self.eps_in_sqrt, self.bias_correction),
            scale_by_learning_rate(self.learning_rate),
            identity() if self.momentum is None else trace(self.momentum, self.nesterov),
        )
