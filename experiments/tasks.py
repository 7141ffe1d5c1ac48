"""Families of problems that an optimizer may be trained for: each draws problems at random, and has a loss by step.

A problem is its initial parameters and numbers of its own; a network's loss at step t is that of its t-th mini-batch.
So meta-training, tuning and held-out problems differ by the keys that they are drawn with, and network problems by
their images too: held-out ones read test images only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key, PyTree

from experiments.data import Examples
from experiments.models import Classifier
from experiments.models.convolution import Conv

Params = PyTree[Float[Array, "..."]]


class Instance(NamedTuple):
    """One problem: where it starts, and what makes it differ from the others."""

    params: Params
    own: Any


@dataclass(frozen=True)
class Task:
    """A family of problems.

    Attributes:
        name: In tables and pictures.
        draw: A problem, given a key.
        loss: `(params, own, step, examples)`: a number. `examples` is None where there are no data.
        level: About what the loss is before training.
        settings: All that tells it from others of that name, for its `repr`.
        data: The data set that it needs, as `experiments.data` calls it.
        together: Problems that are computed side by side; the rest of them in turn, which is quicker for networks.
    """

    name: str
    draw: Callable[[Key[Array, ""]], Instance]
    loss: Callable[[Params, Any, Int[Array, ""], Examples | None], Float[Array, ""]]
    level: float
    settings: str
    data: str | None = None
    together: int = 1024

    def __repr__(self) -> str:
        return f"Task({self.name!r}, {self.settings})"


def quadratic(kind: Literal["uniform", "gaussian"], dimensions: int = 10) -> Task:
    """$\\|W \\theta - y\\|^2$ with random W and y, from a start near 0.

    Args:
        kind: Entries of W and y: uniform in [0, 1), as in DeepMind's code; or standard normal, as in the paper.
        dimensions: Of theta and of y.

    Source: Andrychowicz et al., 2016; the start, normal of deviation 0.01, is their code's.
    """
    entries = {"uniform": jax.random.uniform, "gaussian": jax.random.normal}[kind]

    def draw(key: Key[Array, ""]) -> Instance:
        w_key, y_key, start_key = jax.random.split(key, 3)
        start = 0.01 * jax.random.normal(start_key, (dimensions,))
        return Instance(start, (entries(w_key, (dimensions, dimensions)), entries(y_key, (dimensions,))))

    def loss(params: Params, own: Any, step: Int[Array, ""], examples: Examples | None) -> Float[Array, ""]:
        w, y = own
        return jnp.sum(jnp.square(w @ params - y))

    # The mean of |y|^2.
    level = dimensions * {"uniform": 1 / 3, "gaussian": 1.0}[kind]
    return Task(f"quadratics, {kind}", draw, loss, level, f"{dimensions} dimensions")


LONGEST = 512
"""Mini-batches that a problem draws; a longer training begins with them anew."""


def network(name: str, model: Classifier, data: str, batch_size: int, together: int = 1) -> Task:
    """A classifier trained by mini-batches drawn with replacement; loss in nats."""

    def draw(key: Key[Array, ""]) -> Instance:
        start_key, batch_key = jax.random.split(key)
        # As real numbers in [0, 1), since how many images there are is not known yet.
        return Instance(model.init(start_key).params, jax.random.uniform(batch_key, (LONGEST, batch_size)))

    def loss(params: Params, own: Any, step: Int[Array, ""], examples: Examples | None) -> Float[Array, ""]:
        assert examples is not None, f"{name} needs images"
        count = len(examples.labels)
        chosen = jnp.minimum((own[step % LONGEST] * count).astype(jnp.int32), count - 1)
        logits, _ = model.apply(params, {}, examples.images[chosen], training=True)
        of_label = jnp.take_along_axis(jax.nn.log_softmax(logits), examples.labels[chosen][:, None], axis=-1)
        return -jnp.mean(of_label)

    return Task(name, draw, loss, math.log(10), f"{model.build!r}, {data}, batches of {batch_size}", data, together)


class SigmoidMLP(nnx.Module):
    """Linear layers with sigmoid (or ReLU) units between them, on flattened images."""

    def __init__(self, sizes: tuple[int, ...], relu: bool, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in pairwise(sizes)])
        self.relu = relu

    def __call__(
        self, images: Float[Array, "n height width channels"], *, training: bool = False
    ) -> Float[Array, "n classes"]:
        *hidden, last = self.layers
        x = images.reshape(images.shape[0], -1)
        for layer in hidden:
            x = nnx.relu(layer(x)) if self.relu else nnx.sigmoid(layer(x))
        return last(x)


class SmallConvNet(nnx.Module):
    """Convolutions of 3x3 with stride 2 and ReLU, as many channels in each; then a linear layer."""

    def __init__(self, side: int, channels: int, layers: int, rngs: nnx.Rngs):
        inputs = [3] + [channels] * (layers - 1)
        self.convs = nnx.List([Conv(n, channels, 3, rngs, stride=2) for n in inputs])
        for _ in range(layers):
            side = -(-side // 2)
        self.last = nnx.Linear(side * side * channels, 10, rngs=rngs)

    def __call__(
        self, images: Float[Array, "n height width channels"], *, training: bool = False
    ) -> Float[Array, "n classes"]:
        x = images
        for conv in self.convs:
            x = nnx.relu(conv(x))
        return self.last(x.reshape(images.shape[0], -1))


@dataclass(frozen=True)
class _BuildMLP:
    hidden: tuple[int, ...]
    relu: bool
    pixels: int

    def __call__(self, rngs: nnx.Rngs) -> SigmoidMLP:
        return SigmoidMLP((self.pixels, *self.hidden, 10), self.relu, rngs)


@dataclass(frozen=True)
class _BuildConvNet:
    channels: int
    layers: int

    def __call__(self, rngs: nnx.Rngs) -> SmallConvNet:
        return SmallConvNet(32, self.channels, self.layers, rngs)


def mlp_task(
    name: str, hidden: tuple[int, ...] = (20,), *, relu: bool = False, data: str = "mnist", batch_size: int = 128
) -> Task:
    """A fully connected network on images: in the paper 20 sigmoid units on MNIST, batches of 128."""
    pixels = 64 if data == "digits" else 784
    return network(name, Classifier(_BuildMLP(hidden, relu, pixels)), data, batch_size)


def conv_task(name: str, channels: int, layers: int, batch_size: int) -> Task:
    """A small convolutional network on CIFAR-10."""
    return network(name, Classifier(_BuildConvNet(channels, layers)), "cifar10", batch_size)
