r"""The learned optimizer of Andrychowicz et al.: one small LSTM, the same for every entry, with a memory for each."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._core.chain import chain
from .._core.contract import GradientTransformation, Recipe
from .._core.fields import AtLeastOne, Weights
from .._core.schedule import LearningRate
from .._transforms.scale import scale_by_learning_rate
from .._trees.checks import check_real
from .._trees.vectors import leading_zeros
from .._types import Params, PyTree, RealLeaf, Updates
from ._lift import map_network
from ._network import WHY_REAL, Shapes, check_single, check_weights, dense, random_kernel

MAX_EXPONENT = 10.0
"""p of the preprocessing: entries below exp(-p) are read linearly. Andrychowicz et al., 2016, appendix A."""
FORGET_BIAS = 1.0
"""Added to the forget gate, so that an untrained network remembers. Jozefowicz et al., 2015."""
OUTPUT_SCALE = 0.1
"""Scale of the output layer's first kernel, so that an untrained network takes small steps."""


def log_and_sign(updates: Float[Array, "*shape"]) -> Float[Array, " 2 *shape"]:
    r"""$(\log|g| / p, \operatorname{sign} g)$ where $|g| \ge e^{-p}$, else $(-1, e^p g)$: two leading features.

    Gradients span decades, and a network reads numbers of about 1.
    """
    size = jnp.abs(updates)
    is_large = size >= math.exp(-MAX_EXPONENT)
    # The logarithm of what is small is not taken: its derivative at 0 is infinite.
    logarithm = jnp.log(jnp.where(is_large, size, 1.0)) / MAX_EXPONENT
    return jnp.stack(
        [
            jnp.where(is_large, logarithm, -1.0),
            jnp.where(is_large, jnp.sign(updates), math.exp(MAX_EXPONENT) * updates),
        ]
    )


def _lstm(
    updates: RealLeaf, memory: Float[Array, " numbers *shape"], network: PyTree, *, layers: int
) -> tuple[RealLeaf, Float[Array, " numbers *shape"]]:
    features, new = log_and_sign(updates), []
    parts = jnp.split(memory, 2 * layers)
    for i, (output, cell) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        gates = dense(jnp.concatenate([features, output]), **network[f"layer_{i}"])
        input_gate, candidate, forget_gate, output_gate = jnp.split(gates, 4)
        kept = jax.nn.sigmoid(forget_gate + FORGET_BIAS) * cell
        cell = kept + jax.nn.sigmoid(input_gate) * jnp.tanh(candidate)
        features = jax.nn.sigmoid(output_gate) * jnp.tanh(cell)
        new += [features, cell]
    return dense(features, **network["output"])[0], jnp.concatenate(new)


class ScaleByLSTMState(NamedTuple):
    """State of `scale_by_lstm`."""

    memory: Updates
    """Output and cell of every layer, for each entry: like `params`, behind an axis of 2 x layers x hidden."""


def lstm_weights(key: Key[Array, ""], hidden: int = 20, layers: int = 2) -> dict[str, dict[str, jax.Array]]:
    """Fresh weights for `lstm`, which are of no use before they are trained. 5,141 numbers by default.

    Args:
        key: A key of `jax.random`.
        hidden: Units in each layer.
        layers: LSTM layers.

    Raises:
        ValueError: if `hidden` or `layers` is less than 1.
    """
    if hidden < 1 or layers < 1:
        raise ValueError(f"lstm: `hidden` and `layers` must be at least 1, got {hidden} and {layers}")
    shapes = _shapes(hidden, layers)
    weights = {}
    for (name, layer), layer_key in zip(shapes.items(), jax.random.split(key, len(shapes)), strict=True):
        inputs, outputs = layer["kernel"]
        kernel = random_kernel(layer_key, inputs, outputs, OUTPUT_SCALE if name == "output" else 1.0)
        weights[name] = {"kernel": kernel, "bias": jnp.zeros(layer["bias"], jnp.float32)}
    return weights


def _shapes(hidden: int, layers: int) -> Shapes:
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for i in range(layers):
        shapes[f"layer_{i}"] = {"kernel": ((2 if i == 0 else hidden) + hidden, 4 * hidden), "bias": (4 * hidden,)}
    return {**shapes, "output": {"kernel": (hidden, 1), "bias": (1,)}}


class scale_by_lstm(GradientTransformation):
    r"""Replace the gradient by the output of a recurrent network, for each entry by itself.

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
        ValueError: if a weight is missing, unknown, of another shape, or not finite; its path is named.
        TypeError: if a weight is not a floating array; or parameters are complex.

    Source: Andrychowicz et al., Learning to learn by gradient descent by gradient descent, 2016.
    """

    weights: Weights
    _: KW_ONLY
    hidden: AtLeastOne = 20
    layers: AtLeastOne = 2

    def __check_init__(self) -> None:
        hint = f"Make weights with gradtx.learned.lstm_weights(key, hidden={self.hidden}, layers={self.layers})"
        # One layer more than there can be says what is missing; the size may come from anybody's file.
        layers = min(self.layers, 1 + len(jax.tree.leaves(self.weights)))
        check_weights("lstm", self.weights, _shapes(self.hidden, layers), hint)

    def init(self, params: Params) -> ScaleByLSTMState:
        check_real("lstm", "params", params, WHY_REAL)
        return ScaleByLSTMState(leading_zeros(params, 2 * self.layers * self.hidden))

    def update(
        self, updates: Updates, state: ScaleByLSTMState, params: Params | None = None
    ) -> tuple[Updates, ScaleByLSTMState]:
        check_single("lstm", self.weights, _shapes(self.hidden, self.layers))
        check_real("lstm", "updates", updates, WHY_REAL)
        trees, weights = {"updates": updates, "memory": state.memory}, {"network": self.weights}
        updates, memory = map_network(_lstm, trees, memory="memory", weights=weights, layers=self.layers)
        return updates, ScaleByLSTMState(memory)


class lstm(Recipe):
    """A learned optimizer: `scale_by_lstm`, then a learning rate, which is a leaf like the weights.

    A lower rate than in meta-training is the first thing to try on problems that differ from it.

    Args:
        weights: As in `scale_by_lstm`.
        learning_rate: As in `scale_by_learning_rate`. Keeps the first steps of untrained weights small.
        hidden: As in `scale_by_lstm`.
        layers: As in `scale_by_lstm`.
    """

    weights: Weights
    learning_rate: LearningRate = 0.1
    _: KW_ONLY
    hidden: AtLeastOne = 20
    layers: AtLeastOne = 2

    def parts(self) -> chain:
        return chain(
            scale_by_lstm(self.weights, hidden=self.hidden, layers=self.layers),
            scale_by_learning_rate(self.learning_rate),
        )
