r"""Lion: the sign of an average of gradients."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Literal, NamedTuple

import jax.numpy as jnp

from .._core.chain import chain
from .._core.contract import GradientTransformation, Recipe
from .._core.fields import Decay, DType, Positive
from .._core.schedule import LearningRate
from .._maths import safe_increment
from .._transforms.masks import Mask
from .._transforms.scale import scale_by_learning_rate
from .._transforms.weight_decay import WeightDecay, add_decayed_weights
from .._trees.map import map_leaves, zeros_like
from .._types import Count, Leaf, Params, ScalarArray, Updates


def _smooth(mean: Leaf, beta: ScalarArray) -> Leaf:
    if jnp.iscomplexobj(mean):
        # tanh of the size, in its direction: the complex tanh has poles, and grows without bound towards them.
        return jnp.sign(mean) * jnp.tanh(beta * jnp.abs(mean))
    return jnp.tanh(beta * mean)


def _lion(
    updates: Leaf, mu: Leaf, b1: ScalarArray, b2: ScalarArray, smooth_beta: ScalarArray, *, mode: str
) -> tuple[Leaf, Leaf]:
    mean = b1 * mu + (1 - b1) * updates
    if mode == "smooth":
        direction = _smooth(mean, smooth_beta)
    elif mode == "refined":
        direction = jnp.where(jnp.abs(mean) < 1, mean, jnp.sign(mean))
    else:
        direction = jnp.sign(mean)
    return direction, b2 * mu + (1 - b2) * updates


class ScaleByLionState(NamedTuple):
    """State of `scale_by_lion`."""

    count: Count
    """Number of updates."""
    mu: Updates
    """Decaying mean of gradients, like the parameters."""


class scale_by_lion(GradientTransformation):
    r"""Take the sign of a mean of gradients in which the last one has more weight than in the mean that is kept.

    $$u_t = \operatorname{sign}(\beta_1 m_{t-1} + (1-\beta_1) g_t), \qquad m_t = \beta_2 m_{t-1} + (1-\beta_2) g_t$$

    State: `count`, int32, and `mu`, like `params` (float32 for half precision): one copy.
    Units: $u_t$ has none; each entry is 1, 0 or -1. Keeps the sign of the mean.

    Args:
        b1: Weight of the mean in the update, in [0, 1). Per step.
        b2: Decay of the mean, in [0, 1). Per step.
        mu_dtype: The dtype of `mu`, in place of the parameters' (float32 for half precision).
        mode: "hard", the sign; "smooth", $\tanh(\beta x)$ (of the size, for complex x); "refined", x itself between -1
            and 1.
        smooth_beta: beta of "smooth". Unit: 1 / gradient.

    Raises:
        ValueError: if a decay is outside [0, 1), `smooth_beta` is not positive, or `mode` is another.

    Source: Chen et al., Symbolic Discovery of Optimization Algorithms, 2023, https://arxiv.org/abs/2302.06675.
    """

    b1: Decay = 0.9
    b2: Decay = 0.99
    mu_dtype: DType = None
    _: KW_ONLY
    mode: Literal["hard", "smooth", "refined"] = "hard"
    smooth_beta: Positive = 1.0

    def init(self, params: Params) -> ScaleByLionState:
        return ScaleByLionState(jnp.zeros([], jnp.int32), zeros_like(params, self.mu_dtype))

    def update(
        self, updates: Updates, state: ScaleByLionState, params: Params | None = None
    ) -> tuple[Updates, ScaleByLionState]:
        trees = {"updates": updates, "mu": state.mu}
        updates, mu = map_leaves(
            _lion, trees, b1=self.b1, b2=self.b2, smooth_beta=self.smooth_beta, mode=str(self.mode)
        )
        return updates, ScaleByLionState(safe_increment(state.count), mu)


class lion(Recipe):
    r"""Lion: `scale_by_lion`, `add_decayed_weights`, `scale_by_learning_rate`.

    $$\theta_t = \theta_{t-1} - \eta\,\big(\operatorname{sign}(\beta_1 m_{t-1} + (1-\beta_1) g_t)
    + \lambda\theta_{t-1}\big)$$

    Every entry moves by $\eta$, so that the rate is three to ten times lower than AdamW's, and the decay
    as much higher.

    State: (`ScaleByLionState`, `AddDecayedWeightsState`, `ScaleByLearningRateState`): one copy of `params`.
    Needs `params`.

    Args:
        learning_rate: eta >= 0, a number or a schedule.
        b1: See `gradtx.scale_by_lion`.
        b2: See `gradtx.scale_by_lion`.
        mu_dtype: See `gradtx.scale_by_lion`.
        weight_decay: lambda; see `gradtx.add_decayed_weights`.
        mask: Which parameters decay; see `gradtx.add_decayed_weights`.

    Raises:
        ValueError: if a decay is outside [0, 1), or another argument is negative.

    Source: Chen et al., 2023, https://arxiv.org/abs/2302.06675.
    """

    learning_rate: LearningRate
    b1: Decay = 0.9
    b2: Decay = 0.99
    mu_dtype: DType = None
    weight_decay: WeightDecay = 1e-3
    mask: Mask = None

    def parts(self) -> chain:
        return chain(
            scale_by_lion(self.b1, self.b2, self.mu_dtype),
            add_decayed_weights(self.weight_decay, self.mask),
            scale_by_learning_rate(self.learning_rate),
        )
