r"""A cheap learned optimizer: averages of the gradient over several time scales, weighed by a small network."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.arguments import Weights
from .._core.chain import chain
from .._core.maths import abs_sq, positive, safe_increment, safe_sqrt
from .._core.precision import scalar, step_dtype
from .._core.schedule import LearningRate
from .._core.transformation import GradientTransformation, Transform, transformation
from .._core.tree import leading_zeros, map_leaves, zeros_like
from ..transforms.bias_correction import correction
from ..transforms.scale import scale_by_learning_rate
from .network import Shapes, check_one, check_weights, dense, random_kernel, real_only

DECAYS = (0.1, 0.5, 0.9, 0.98)
"""Where the averages' decays begin, before they are trained: from the last gradient to the last fifty."""
SQUARES_DECAY = 0.99
"""Where the decay of the mean square begins."""
SPANS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Steps after which tanh(t / span) begins to level off. Metz et al., 2020, have such features of time."""
BEGINS_WITH = 2
"""The average that an untrained network steps along."""
SMALL = 0.01
"""Of the output layer's first kernel, so that an untrained network is about the method that it begins as."""
LEAST = 1e-8
"""Added to sizes before their logarithm is taken."""
DECADES = 10.0
"""Logarithms are divided by it, as in Andrychowicz et al., so that a network reads numbers of about 1."""


def _mlp(
    updates: jax.Array, nu: jax.Array, mu: jax.Array, eps: jax.Array, weights: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    step, network = weights["step"], weights["network"]

    def along(vector: jax.Array) -> jax.Array:
        return vector.reshape(-1, *[1] * updates.ndim)

    mu = along(step["decays"]) * mu + along(step["gains"]) * updates[None]
    nu = step["squares_decay"] * nu + step["squares_gain"] * abs_sq(updates)
    averages, root = along(step["scales"]) * mu, safe_sqrt(step["squares_scale"] * nu)[None]
    ratios = averages / (root + eps)
    sizes = jnp.log(jnp.concatenate([jnp.abs(averages), root]) + LEAST) / DECADES
    hidden = jnp.tanh(dense(jnp.concatenate([ratios, sizes]), network["layer_0"]["kernel"], step["bias"]))
    hidden = jnp.tanh(dense(hidden, **network["layer_1"]))
    # The network does not give the step: it weighs what the averages propose, so that no gradient is no step.
    coefficients = dense(hidden, **network["output"])
    of_ratios, of_averages = jnp.split(coefficients[1:], 2)
    return jnp.exp(coefficients[0]) * jnp.sum(of_ratios * ratios + of_averages * mu, axis=0), nu, mu


class ScaleByMLPState(NamedTuple):
    """The number of updates; the mean square, like `params`; averages of the gradient, behind an axis of four."""

    count: jax.Array
    nu: Any
    mu: Any


def mlp_weights(key: jax.Array, hidden: int = 16, *, decay: float = 0.9, adaptive: bool = False) -> dict[str, Any]:
    """Fresh weights for `mlp`, with which it is about a method that is known. 702 numbers by default.

    `mlp(mlp_weights(key, decay=g), rate / (1 - g))` begins as `sgd(rate, g)`, and with `adaptive` `mlp(..., rate)` as
    `adam(rate, g, SQUARES_DECAY)`; from where they are tuned, meta-training is stable.

    Args:
        key: Of `jax.random`.
        hidden: Units in each of the two layers.
        decay: Of the average that it steps along, in (0, 1).
        adaptive: Whether it begins as Adam, and not as momentum.

    Raises:
        ValueError: `hidden` is less than 1, or `decay` outside (0, 1).
    """
    if not 0 < decay < 1:
        raise ValueError(f"mlp: `decay` must be in (0, 1), got {decay}")
    shapes, keys = _shapes(hidden), iter(jax.random.split(key, 4))

    def layer(name: str, scale: float = 1.0) -> dict[str, jax.Array]:
        inputs, outputs = shapes[name]["kernel"]
        kernel = random_kernel(next(keys), inputs, outputs, scale)
        return {"kernel": kernel, "bias": jnp.zeros(shapes[name]["bias"], jnp.float32)}

    decays = [decay if i == BEGINS_WITH else other for i, other in enumerate(DECAYS)]
    output = layer("output", SMALL)
    place = 1 + BEGINS_WITH + (0 if adaptive else len(DECAYS))
    output["bias"] = output["bias"].at[place].set(1.0)
    return {
        "decays": jnp.asarray([_logit(one) for one in decays], jnp.float32),
        "squares_decay": jnp.asarray(_logit(SQUARES_DECAY), jnp.float32),
        "time": random_kernel(next(keys), len(SPANS), hidden),
        "layer_0": layer("layer_0"),
        "layer_1": layer("layer_1"),
        "output": output,
    }


def _logit(decay: float) -> float:
    return math.log(decay / (1 - decay))


def _shapes(hidden: int) -> Shapes:
    if hidden < 1:
        raise ValueError(f"mlp: `hidden` must be at least 1, got {hidden}")
    averages = len(DECAYS)
    return {
        "decays": (averages,),
        "squares_decay": (),
        "time": (len(SPANS), hidden),
        "layer_0": {"kernel": (2 * averages + 1, hidden), "bias": (hidden,)},
        "layer_1": {"kernel": (hidden, hidden), "bias": (hidden,)},
        "output": {"kernel": (hidden, 1 + 2 * averages), "bias": (1 + 2 * averages,)},
    }


def _check(weights: Any, hidden: int, **_: Any) -> None:
    check_weights(
        "mlp", weights, _shapes(hidden), f"Make weights with gradtx.learned.mlp_weights(key, hidden={hidden})"
    )


@transformation(name="gradtx.learned.scale_by_mlp", check=_check)
def scale_by_mlp(weights: Weights, *, hidden: int = 16) -> Transform:
    r"""Weigh averages of the gradient by what a small network makes of them, for each entry by itself.

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
        ValueError: A weight is missing, unknown, of another shape, or not finite; its path is named.
        TypeError: A weight is no floating array; or parameters are complex.

    Source: after Metz et al., Tasks, stability, architecture, and compute, 2020, whose features (averages over time
    scales, time) it has. Differs: the network gives coefficients and not the step; no parameters, no statistics over
    a tensor are read; decays are trained.
    """

    def init(params: Any) -> ScaleByMLPState:
        real = real_only("mlp", params)
        return ScaleByMLPState(jnp.zeros([], jnp.int32), zeros_like(real), leading_zeros(real, len(DECAYS)))

    def update(updates: Any, state: ScaleByMLPState, params: Any = None) -> tuple[Any, ScaleByMLPState]:
        check_one("mlp", weights, _shapes(hidden))
        count, dtype = safe_increment(state.count), step_dtype(updates)
        step = _of_step(weights, count, dtype)
        trees = [real_only("mlp", updates), state.nu, state.mu]
        eps = positive(scalar(0.0, dtype), outside=True)
        updates, nu, mu = map_leaves(_mlp, trees, [eps], vectors=1, weights={"step": step, "network": weights})
        return updates, ScaleByMLPState(count, nu, mu)

    return Transform(init, update, state_type=ScaleByMLPState)


def _of_step(weights: Any, count: jax.Array, dtype: np.dtype) -> dict[str, jax.Array]:
    """What is the same for every entry: decays, their corrections, and the first layer's bias with the time."""
    decays, squares = (jax.nn.sigmoid(jnp.asarray(weights[name]).astype(dtype)) for name in ("decays", "squares_decay"))
    time = jnp.tanh(count.astype(dtype) / np.asarray(SPANS, dtype))
    return {
        "decays": decays,
        "gains": 1 - decays,
        "scales": 1 / correction(decays, count, dtype),
        "squares_decay": squares,
        "squares_gain": 1 - squares,
        "squares_scale": 1 / correction(squares, count, dtype),
        "bias": scalar(weights["layer_0"]["bias"], dtype) + time @ scalar(weights["time"], dtype),
    }


@transformation(name="gradtx.learned.mlp")
def mlp(weights: Weights, learning_rate: LearningRate = 0.1, *, hidden: int = 16) -> GradientTransformation:
    """A cheap learned optimizer: `scale_by_mlp`, then a learning rate, which is a leaf like the weights.

    A lower rate than in meta-training is the first thing to try on problems that differ from it.

    Args:
        weights: As in `scale_by_mlp`.
        learning_rate: As in `scale_by_learning_rate`.
        hidden: As in `scale_by_mlp`.
    """
    return chain(scale_by_mlp(weights, hidden=hidden), scale_by_learning_rate(learning_rate))
