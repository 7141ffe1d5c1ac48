r"""Optimizers that divide by the size of past gradients: Adagrad, Adadelta, RMSProp."""

from __future__ import annotations

from .._core.arguments import Decay, NonNegative
from .._core.chain import chain
from .._core.schedule import LearningRate
from .._core.transformation import GradientTransformation, identity, transformation
from ..transforms.adadelta import scale_by_adadelta
from ..transforms.momentum import momentum as momentum_
from ..transforms.scale import scale_by_learning_rate
from ..transforms.second_moment import scale_by_rms, scale_by_rss
from ..transforms.weight_decay import Mask, WeightDecay, add_decayed_weights


@transformation
def adagrad(
    learning_rate: LearningRate,
    initial_accumulator_value: NonNegative = 0.1,
    eps: NonNegative = 1e-7,
    *,
    eps_in_sqrt: bool = True,
) -> GradientTransformation:
    r"""Adagrad: `scale_by_rss`, then `scale_by_learning_rate`.

    $$\theta_t = \theta_{t-1} - \eta\,g_t / \sqrt{G_t + \epsilon}, \qquad G_t = G_0 + \textstyle\sum_{s \le t} g_s^2$$

    State: (`ScaleByRssState`, `ScaleByLearningRateState`): one copy of `params`.

    Args:
        learning_rate: eta >= 0, a number or a schedule. The first step of a large gradient is eta.
        initial_accumulator_value: See `gradtx.scale_by_rss`; the paper has 0.
        eps: See `gradtx.scale_by_rss`.
        eps_in_sqrt: See `gradtx.scale_by_rss`.

    Raises:
        ValueError: An argument is negative.

    Source: Duchi, Hazan and Singer, 2011.
    """
    return chain(
        scale_by_rss(initial_accumulator_value, eps, eps_in_sqrt=eps_in_sqrt),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def adadelta(
    learning_rate: LearningRate = 1.0,
    rho: Decay = 0.9,
    eps: NonNegative = 1e-6,
    weight_decay: WeightDecay | None = None,
    weight_decay_mask: Mask = None,
) -> GradientTransformation:
    r"""Adadelta: `add_decayed_weights`, `scale_by_adadelta`, then `scale_by_learning_rate`.

    State: (`AddDecayedWeightsState` or `EmptyState`, `ScaleByAdaDeltaState`, `ScaleByLearningRateState`): two copies
    of `params`. Needs `params` if there is a `weight_decay`.

    Args:
        learning_rate: eta >= 0, a number or a schedule. The paper has none, which is 1. Differs: optax's default,
            None, leaves the sign as it is and ascends.
        rho: See `gradtx.scale_by_adadelta`.
        eps: See `gradtx.scale_by_adadelta`.
        weight_decay: See `gradtx.add_decayed_weights`; it enters before the scaling. `None`: no such stage. Differs:
            optax's default is the number 0, which here would be data, and so cost a pass over the parameters.
        weight_decay_mask: See `gradtx.add_decayed_weights`.

    Raises:
        ValueError: `rho` is outside [0, 1), another argument is negative, or there is a mask without weight decay.

    Source: Zeiler, 2012.
    """
    if weight_decay is None and weight_decay_mask is not None:
        raise ValueError("adadelta: `weight_decay_mask` needs a `weight_decay`; got a mask and None")
    return chain(
        identity() if weight_decay is None else add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def rmsprop(
    learning_rate: LearningRate,
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: NonNegative = 0.0,
    eps_in_sqrt: bool = True,
    *,
    momentum: Decay | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> GradientTransformation:
    r"""RMSProp: `scale_by_rms`, `scale_by_learning_rate`, then `momentum` if there is one.

    $$\theta_t = \theta_{t-1} - \eta\,g_t / \sqrt{v_t + \epsilon}, \qquad v_t = \rho v_{t-1} + (1-\rho) g_t^2$$

    State: (`ScaleByRmsState`, `ScaleByLearningRateState`, `TraceState` or `EmptyState`): one or two copies of
    `params`.

    Args:
        learning_rate: eta >= 0, a number or a schedule. Inside the momentum's buffer.
        decay: See `gradtx.scale_by_rms`.
        eps: See `gradtx.scale_by_rms`.
        initial_scale: See `gradtx.scale_by_rms`.
        eps_in_sqrt: See `gradtx.scale_by_rms`.
        momentum: See `gradtx.momentum`. `None`: no buffer.
        nesterov: See `gradtx.momentum`.
        bias_correction: See `gradtx.scale_by_rms`.

    Raises:
        ValueError: A decay is outside [0, 1), or another argument is negative.

    Source: Hinton, lecture 6e, 2012. At a constant rate it ends in a limit cycle of about that size.
    """
    return chain(
        scale_by_rms(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
        identity() if momentum is None else momentum_(momentum, nesterov),
    )
