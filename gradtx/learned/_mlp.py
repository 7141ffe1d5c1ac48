r"""A cheap learned optimizer: averages of the gradient over several time scales, weighed by a small network."""

from __future__ import annotations

import functools
import math
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from .._core.chain import chain
from .._core.contract import GradientTransformation, Recipe
from .._core.fields import AtLeastOne, Weights
from .._core.schedule import LearningRate
from .._maths import abs_sq, bias_weight, floor_eps, safe_increment, safe_sqrt
from .._transforms.scale import scale_by_learning_rate
from .._trees.checks import check_real
from .._trees.map import zeros_like
from .._trees.precision import step_dtype
from .._trees.vectors import leading_zeros
from .._types import Count, Params, PyTree, RealLeaf, Updates
from ._lift import map_network
from ._network import WHY_REAL, Shapes, check_single, check_weights, dense, random_kernel

DECAYS = (0.1, 0.5, 0.9, 0.98)
"""First values of the averages' decays, before they are trained: from the last gradient to the last fifty."""
SQUARES_DECAY = 0.99
"""First value of the mean square's decay, before it is trained; between RMSProp's 0.9 and Adam's 0.999."""
TIME_SCALES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Steps after which tanh(t / scale) begins to level off. Metz et al., 2020, have such features of time."""
FIRST_AVERAGE = 2
"""The average that an untrained network steps along."""
OUTPUT_SCALE = 0.01
"""Scale of the output layer's first kernel, so that an untrained network is about the method it begins as."""
LOG_EPS = 1e-8
"""Added to sizes before their logarithm is taken: Adam's eps, below which sizes do not matter to it either."""
LOG_DIVISOR = 10.0
"""Logarithms are divided by it, as in Andrychowicz et al., 2016, so that a network reads numbers of about 1."""


def _mlp(
    updates: RealLeaf, nu: RealLeaf, mu: Float[Array, " averages *shape"], step: PyTree, network: PyTree
) -> tuple[RealLeaf, RealLeaf, Float[Array, " averages *shape"]]:
    def along(vector: Float[Array, " averages"]) -> Float[Array, " averages ..."]:
        return vector.reshape(-1, *[1] * updates.ndim)

    mu = along(step["decays"]) * mu + along(step["gains"]) * updates[None]
    nu = step["squares_decay"] * nu + step["squares_gain"] * abs_sq(updates)
    averages, root = along(step["scales"]) * mu, safe_sqrt(step["squares_scale"] * nu)[None]
    ratios = averages / (root + step["eps"])
    sizes = jnp.log(jnp.concatenate([jnp.abs(averages), root]) + LOG_EPS) / LOG_DIVISOR
    hidden = jnp.tanh(dense(jnp.concatenate([ratios, sizes]), network["layer_0"]["kernel"], step["bias"]))
    hidden = jnp.tanh(dense(hidden, **network["layer_1"]))
    # The network does not give the step: it weighs what the averages propose, so that no gradient is no step.
    coefficients = dense(hidden, **network["output"])
    of_ratios, of_averages = jnp.split(coefficients[1:], 2)
    return jnp.exp(coefficients[0]) * jnp.sum(of_ratios * ratios + of_averages * mu, axis=0), nu, mu


@functools.partial(jax.jit, static_argnames="dtype", inline=True)
def _once_per_step(count: Count, weights: PyTree, dtype: DTypeLike) -> tuple[Count, dict[str, jax.Array]]:
    """The new count, and what is the same for every entry: decays, their corrections, and the bias with the time."""
    count = safe_increment(count)
    decays, squares = (jax.nn.sigmoid(jnp.asarray(weights[name]).astype(dtype)) for name in ("decays", "squares_decay"))
    time = jnp.tanh(count.astype(dtype) / np.asarray(TIME_SCALES, dtype))
    bias, of_time = (jnp.asarray(w).astype(dtype) for w in (weights["layer_0"]["bias"], weights["time"]))
    return count, {
        "decays": decays,
        "gains": 1 - decays,
        "scales": 1 / bias_weight(decays, count, dtype),
        "squares_decay": squares,
        "squares_gain": 1 - squares,
        "squares_scale": 1 / bias_weight(squares, count, dtype),
        "eps": floor_eps(jnp.zeros([], dtype), outside=True),
        "bias": bias + time @ of_time,
    }


class ScaleByMLPState(NamedTuple):
    """State of `scale_by_mlp`."""

    count: Count
    """Number of updates."""
    nu: Updates
    """Decaying mean of squared gradients, like `params`."""
    mu: Updates
    """Decaying means of gradients, like `params` behind an axis of four."""


def mlp_weights(key: Key[Array, ""], hidden: int = 16, *, decay: float = 0.9, adaptive: bool = False) -> dict[str, Any]:
    """Fresh weights for `mlp`, with which it is about a known method. 702 numbers by default.

    `mlp(mlp_weights(key, decay=g), rate / (1 - g))` begins as `sgd(rate, g)`, and with `adaptive` `mlp(..., rate)` as
    `adam(rate, g, 0.99)`; from where they are tuned, meta-training is stable.

    Args:
        key: A key of `jax.random`.
        hidden: Units in each of the two layers.
        decay: Decay of the average that it steps along, in (0, 1).
        adaptive: Whether it begins as Adam, and not as momentum.

    Raises:
        ValueError: if `hidden` is less than 1, or `decay` outside (0, 1).
    """
    if hidden < 1:
        raise ValueError(f"mlp: `hidden` must be at least 1, got {hidden}")
    if not 0 < decay < 1:
        raise ValueError(f"mlp: `decay` must be in (0, 1), got {decay}")
    shapes, keys = _shapes(hidden), iter(jax.random.split(key, 4))

    def layer(name: str, scale: float = 1.0) -> dict[str, jax.Array]:
        inputs, outputs = shapes[name]["kernel"]
        kernel = random_kernel(next(keys), inputs, outputs, scale)
        return {"kernel": kernel, "bias": jnp.zeros(shapes[name]["bias"], jnp.float32)}

    decays = [decay if i == FIRST_AVERAGE else other for i, other in enumerate(DECAYS)]
    output = layer("output", OUTPUT_SCALE)
    place = 1 + FIRST_AVERAGE + (0 if adaptive else len(DECAYS))
    output["bias"] = output["bias"].at[place].set(1.0)
    return {
        "decays": jnp.asarray([_logit(one) for one in decays], jnp.float32),
        "squares_decay": jnp.asarray(_logit(SQUARES_DECAY), jnp.float32),
        "time": random_kernel(next(keys), len(TIME_SCALES), hidden),
        "layer_0": layer("layer_0"),
        "layer_1": layer("layer_1"),
        "output": output,
    }


def _logit(decay: float) -> float:
    return math.log(decay / (1 - decay))


def _shapes(hidden: int) -> Shapes:
    averages = len(DECAYS)
    return {
        "decays": (averages,),
        "squares_decay": (),
        "time": (len(TIME_SCALES), hidden),
        "layer_0": {"kernel": (2 * averages + 1, hidden), "bias": (hidden,)},
        "layer_1": {"kernel": (hidden, hidden), "bias": (hidden,)},
        "output": {"kernel": (hidden, 1 + 2 * averages), "bias": (1 + 2 * averages,)},
    }


class scale_by_mlp(GradientTransformation):
    r"""Weigh averages of the gradient by coefficients of a small network, for each entry by itself.

    $$u_t = e^s \sum_{k=1}^{4} a_k \frac{\hat m^k_t}{\sqrt{\hat v_t}} + b_k m^k_t, \qquad
    (s, a, b) = \operatorname{MLP}_w\Big(\frac{\hat m^k_t}{\sqrt{\hat v_t}}, \log |\hat m^k_t|, \log \sqrt{\hat v_t},
    \tanh \frac{t}{\tau}\Big)$$

    $m^k$ are exponential averages of the gradient with four decays, v is one of its square; a hat says that they are
    corrected for their start. The decays are weights too (their logits). Momentum, Nesterov's method, RMSprop and Adam,
    with a schedule of the step, are within its reach: constant a and b, and an s that varies with the time alone.

    State: `count`, int32; `nu`, like `params` (float32 for half precision); `mu`, like it behind an axis of four: five
    copies. The LSTM's state is 80.
    Units: $u_t$ is what the network was trained to give. It need not keep the gradient's sign; it is 0 while the
    gradient has always been 0.

    Args:
        weights: As `mlp_weights` makes them.
        hidden: Units in each of the two layers. Static.

    Raises:
        ValueError: if a weight is missing, unknown, of another shape, or not finite; its path is named.
        TypeError: if a weight is not a floating array; or parameters are complex.

    Source: after Metz et al., Tasks, stability, architecture, and compute, 2020, whose features (averages over time
    scales, time) it has. Differs: the network gives coefficients and not the step; no parameters, no statistics over
    a tensor are read; decays are trained.
    """

    weights: Weights
    _: KW_ONLY
    hidden: AtLeastOne = 16

    def __check_init__(self) -> None:
        hint = f"Make weights with gradtx.learned.mlp_weights(key, hidden={self.hidden})"
        check_weights("mlp", self.weights, _shapes(self.hidden), hint)

    def init(self, params: Params) -> ScaleByMLPState:
        check_real("mlp", "params", params, WHY_REAL)
        return ScaleByMLPState(jnp.zeros([], jnp.int32), zeros_like(params), leading_zeros(params, len(DECAYS)))

    def update(
        self, updates: Updates, state: ScaleByMLPState, params: Params | None = None
    ) -> tuple[Updates, ScaleByMLPState]:
        check_single("mlp", self.weights, _shapes(self.hidden))
        check_real("mlp", "updates", updates, WHY_REAL)
        count, step = _once_per_step(state.count, self.weights, step_dtype(updates))
        trees = {"updates": updates, "nu": state.nu, "mu": state.mu}
        updates, nu, mu = map_network(_mlp, trees, memory="mu", weights={"step": step, "network": self.weights})
        return updates, ScaleByMLPState(count, nu, mu)


class mlp(Recipe):
    """A cheap learned optimizer: `scale_by_mlp`, then a learning rate, which is a leaf like the weights.

    A lower rate than in meta-training is the first thing to try on problems that differ from it.

    Args:
        weights: As in `scale_by_mlp`.
        learning_rate: As in `scale_by_learning_rate`.
        hidden: As in `scale_by_mlp`.
    """

    weights: Weights
    learning_rate: LearningRate = 0.1
    _: KW_ONLY
    hidden: AtLeastOne = 16

    def parts(self) -> chain:
        return chain(scale_by_mlp(self.weights, hidden=self.hidden), scale_by_learning_rate(self.learning_rate))
