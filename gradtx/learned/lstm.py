r"""The learned optimizer of Andrychowicz et al.: one small LSTM, the same for every entry, with a memory for each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core.arguments import Weights
from .._core.chain import chain
from .._core.schedule import LearningRate
from .._core.transformation import GradientTransformation, Transform, transformation
from .._core.tree import leading_zeros, map_leaves
from ..transforms.scale import scale_by_learning_rate
from .network import Shapes, check_one, check_weights, dense, random_kernel, real_only

LEAST_EXPONENT = 10.0
"""p of the preprocessing: entries below exp(-p) are told apart linearly. Andrychowicz et al., appendix A."""
FORGET_BIAS = 1.0
"""Added to the forget gate, so that an untrained network remembers. Jozefowicz et al., 2015."""


def log_and_sign(updates: jax.Array) -> jax.Array:
    r"""$(\log|g| / p, \operatorname{sign} g)$ where $|g| \ge e^{-p}$, else $(-1, e^p g)$: two features that lead.

    Gradients span decades, and a network reads numbers of about 1.
    """
    size = jnp.abs(updates)
    is_large = size >= math.exp(-LEAST_EXPONENT)
    # The logarithm of what is small is not taken: its derivative at 0 is infinite.
    logarithm = jnp.log(jnp.where(is_large, size, 1.0)) / LEAST_EXPONENT
    return jnp.stack(
        [
            jnp.where(is_large, logarithm, -1.0),
            jnp.where(is_large, jnp.sign(updates), math.exp(LEAST_EXPONENT) * updates),
        ]
    )


def _lstm(updates: jax.Array, memory: jax.Array, weights: Any, *, layers: int) -> tuple[jax.Array, jax.Array]:
    features, new = log_and_sign(updates), []
    parts = jnp.split(memory, 2 * layers)
    for i, (output, cell) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        gates = dense(jnp.concatenate([features, output]), **weights[f"layer_{i}"])
        let_in, candidate, forget, let_out = jnp.split(gates, 4)
        kept = jax.nn.sigmoid(forget + FORGET_BIAS) * cell
        cell = kept + jax.nn.sigmoid(let_in) * jnp.tanh(candidate)
        features = jax.nn.sigmoid(let_out) * jnp.tanh(cell)
        new += [features, cell]
    return dense(features, **weights["output"])[0], jnp.concatenate(new)


class ScaleByLSTMState(NamedTuple):
    """Outputs and cells of every layer, for each entry: like `params`, behind an axis of 2 x layers x hidden."""

    memory: Any


def lstm_weights(key: jax.Array, hidden: int = 20, layers: int = 2) -> dict[str, dict[str, jax.Array]]:
    """Fresh weights for `lstm`, which does nothing of use before it is trained. 5,141 numbers by default.

    Args:
        key: Of `jax.random`.
        hidden: Units in each layer.
        layers: LSTM layers.

    Raises:
        ValueError: `hidden` or `layers` is less than 1.
    """
    weights = {}
    for (name, shapes), layer_key in zip(
        _shapes(hidden, layers).items(), jax.random.split(key, layers + 1), strict=True
    ):
        inputs, outputs = shapes["kernel"]
        # A small first output: an untrained network steps by little.
        kernel = random_kernel(layer_key, inputs, outputs, 0.1 if name == "output" else 1.0)
        weights[name] = {"kernel": kernel, "bias": jnp.zeros(shapes["bias"], jnp.float32)}
    return weights


def _shapes(hidden: int, layers: int) -> Shapes:
    if hidden < 1 or layers < 1:
        raise ValueError(f"lstm: `hidden` and `layers` must be at least 1, got {hidden} and {layers}")
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for i in range(layers):
        shapes[f"layer_{i}"] = {"kernel": ((2 if i == 0 else hidden) + hidden, 4 * hidden), "bias": (4 * hidden,)}
    return {**shapes, "output": {"kernel": (hidden, 1), "bias": (1,)}}


def _check(weights: Any, hidden: int, layers: int, **_: Any) -> None:
    mend = f"Make weights with gradtx.learned.lstm_weights(key, hidden={hidden}, layers={layers})"
    check_weights("lstm", weights, _shapes(hidden, layers), mend)


@transformation(name="gradtx.learned.scale_by_lstm", check=_check)
def scale_by_lstm(weights: Weights, *, hidden: int = 20, layers: int = 2) -> Transform:
    r"""Put the output of a recurrent network in the gradient's place, for each entry by itself.

    $$(u_t, h_t) = \operatorname{LSTM}_w(\text{preprocessed } g_t, h_{t-1})$$

    The network is the same for every entry of every leaf, so that it trains any tree; $h_t$ is the entry's own. Its
    input is $(\log|g|/10, \operatorname{sign} g)$, for small g $(-1, e^{10} g)$. The weights are the leaves of the
    transformation: `jax.grad` with respect to it is meta-training.

    State: `memory`, like `params` (float32 for half precision) behind an axis of 2 `layers` x `hidden`: 80 copies.
    Units: $u_t$ is what the network was trained to give. It need not keep the gradient's sign, and need not be 0
    where the gradient is.

    Args:
        weights: The network's, as `lstm_weights` makes them.
        hidden: Units in each layer. Static.
        layers: LSTM layers. Static.

    Raises:
        ValueError: A weight is missing, unknown, of another shape, or not finite; its path is named.
        TypeError: A weight is no floating array; or parameters are complex.

    Source: Andrychowicz et al., Learning to learn by gradient descent by gradient descent, 2016.
    """

    def init(params: Any) -> ScaleByLSTMState:
        return ScaleByLSTMState(leading_zeros(real_only("lstm", params), 2 * layers * hidden))

    def update(updates: Any, state: ScaleByLSTMState, params: Any = None) -> tuple[Any, ScaleByLSTMState]:
        check_one("lstm", weights, _shapes(hidden, layers))
        trees = [real_only("lstm", updates), state.memory]
        updates, memory = map_leaves(_lstm, trees, vectors=1, weights=weights, layers=layers)
        return updates, ScaleByLSTMState(memory)

    return Transform(init, update, state_type=ScaleByLSTMState)


@transformation(name="gradtx.learned.lstm")
def lstm(
    weights: Weights, learning_rate: LearningRate = 0.1, *, hidden: int = 20, layers: int = 2
) -> GradientTransformation:
    """A learned optimizer: `scale_by_lstm`, then a learning rate, which is a leaf like the weights.

    A lower rate than in meta-training is the first thing to try on problems that differ from it.

    Args:
        weights: As in `scale_by_lstm`.
        learning_rate: As in `scale_by_learning_rate`. Keeps the first steps of untrained weights small.
        hidden: As in `scale_by_lstm`.
        layers: As in `scale_by_lstm`.
    """
    return chain(scale_by_lstm(weights, hidden=hidden, layers=layers), scale_by_learning_rate(learning_rate))
