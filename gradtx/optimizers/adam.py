r"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

from .._core.arguments import Decay, DType, NonNegative
from .._core.chain import chain
from .._core.schedule import LearningRate
from .._core.transformation import GradientTransformation, transformation
from ..transforms.adam import scale_by_adam
from ..transforms.scale import scale_by_learning_rate
from ..transforms.weight_decay import Mask, WeightDecay, add_decayed_weights


@transformation
def adam(
    learning_rate: LearningRate,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    r"""Adam: `scale_by_adam`, then `scale_by_learning_rate`.

    $$\theta_t = \theta_{t-1} - \eta\,\frac{\hat m_t}{\sqrt{\hat v_t + \bar\epsilon} + \epsilon}$$

    State: (`ScaleByAdamState`, `ScaleByLearningRateState`): two copies of `params`.

    Args:
        learning_rate: eta >= 0, a number or a schedule. About the size of each parameter's step.
        b1: See `gradtx.scale_by_adam`, also for the rest.
        b2: Likewise.
        eps: Likewise.
        eps_root: Likewise.
        mu_dtype: Likewise.
        nesterov: Likewise (NAdam).

    Raises:
        ValueError: `b1` or `b2` is outside [0, 1), or another argument is negative.

    Source: Kingma and Ba, 2015.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def adamw(
    learning_rate: LearningRate,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    weight_decay: WeightDecay = 1e-4,
    mask: Mask = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    r"""Adam with decoupled weight decay: `scale_by_adam`, `add_decayed_weights`, `scale_by_learning_rate`.

    $$\theta_t = \theta_{t-1} - \eta\,\Big(\frac{\hat m_t}{\sqrt{\hat v_t + \bar\epsilon} + \epsilon}
    + \lambda\theta_{t-1}\Big)$$

    State: (`ScaleByAdamState`, `AddDecayedWeightsState`, `ScaleByLearningRateState`): two copies of `params`.
    Needs `params`.

    Args:
        learning_rate: eta >= 0, a number or a schedule.
        b1: See `gradtx.scale_by_adam`, also for the next four.
        b2: Likewise.
        eps: Likewise.
        eps_root: Likewise.
        mu_dtype: Likewise.
        weight_decay: lambda; see `gradtx.add_decayed_weights`.
        mask: Which parameters decay; see `gradtx.add_decayed_weights`.
        nesterov: See `gradtx.scale_by_adam`.

    Raises:
        ValueError: `b1` or `b2` is outside [0, 1), or another argument is negative.

    Source: Loshchilov and Hutter, 2019.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
