r"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .._core.chain import chain
from .._core.contract import Recipe
from .._core.fields import Decay, DType, NonNegative
from .._core.schedule import LearningRate
from .._transforms.adam import scale_by_adam
from .._transforms.scale import scale_by_learning_rate
from .._transforms.weight_decay import Mask, WeightDecay, add_decayed_weights


class adam(Recipe):
    r"""Adam: `scale_by_adam`, then `scale_by_learning_rate`.

    $$\theta_t = \theta_{t-1} - \eta\,\frac{\hat m_t}{\sqrt{\hat v_t + \bar\epsilon} + \epsilon}$$

    State: (`ScaleByAdamState`, `ScaleByLearningRateState`): two copies of `params`.

    Args:
        learning_rate: eta >= 0, a number or a schedule. About the size of each parameter's step.

    Raises:
        ValueError: if `b1` or `b2` is outside [0, 1), or another argument is negative.

    Source: Kingma and Ba, 2015.
    """

    learning_rate: LearningRate
    b1: Decay = 0.9
    b2: Decay = 0.999
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 0.0
    mu_dtype: DType = None
    _: KW_ONLY
    nesterov: bool = False

    def parts(self) -> chain:
        scaling = scale_by_adam(self.b1, self.b2, self.eps, self.eps_root, self.mu_dtype, nesterov=self.nesterov)
        return chain(scaling, scale_by_learning_rate(self.learning_rate))


class adamw(Recipe):
    r"""Adam with decoupled weight decay: `scale_by_adam`, `add_decayed_weights`, `scale_by_learning_rate`.

    $$\theta_t = \theta_{t-1} - \eta\,\Big(\frac{\hat m_t}{\sqrt{\hat v_t + \bar\epsilon} + \epsilon}
    + \lambda\theta_{t-1}\Big)$$

    State: (`ScaleByAdamState`, `AddDecayedWeightsState`, `ScaleByLearningRateState`): two copies of `params`.
    Needs `params`.

    Args:
        learning_rate: eta >= 0, a number or a schedule.

    Raises:
        ValueError: if `b1` or `b2` is outside [0, 1), or another argument is negative.

    Source: Loshchilov and Hutter, 2019.
    """

    learning_rate: LearningRate
    b1: Decay = 0.9
    b2: Decay = 0.999
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 0.0
    mu_dtype: DType = None
    weight_decay: WeightDecay = 1e-4
    mask: Mask = None
    _: KW_ONLY
    nesterov: bool = False

    def parts(self) -> chain:
        return chain(
            scale_by_adam(self.b1, self.b2, self.eps, self.eps_root, self.mu_dtype, nesterov=self.nesterov),
            add_decayed_weights(self.weight_decay, self.mask),
            scale_by_learning_rate(self.learning_rate),
        )
