"""Fully connected networks; with no hidden layer it is softmax regression."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from flax import nnx
from jaxtyping import Array, Float

from experiments.models.classifier import Classifier


class MLP(nnx.Module):
    """Linear layers with ReLU between them, on flattened images."""

    def __init__(self, sizes: tuple[int, ...], rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(fan_in, fan_out, rngs=rngs) for fan_in, fan_out in pairwise(sizes)])

    def __call__(
        self, images: Float[Array, "n height width channels"], *, training: bool = False
    ) -> Float[Array, "n classes"]:
        *hidden, last = self.layers
        x = images.reshape(images.shape[0], -1)
        for layer in hidden:
            x = nnx.relu(layer(x))
        return last(x)


@dataclass(frozen=True)
class _Build:
    sizes: tuple[int, ...]

    def __call__(self, rngs: nnx.Rngs) -> MLP:
        return MLP(self.sizes, rngs)


def mlp(pixels: int, hidden: tuple[int, ...], classes: int) -> Classifier:
    """A network with hidden layers of the given widths. Flax's default initialisation (LeCun normal, zero bias)."""
    return Classifier(_Build((pixels, *hidden, classes)))


def softmax_regression(pixels: int, classes: int) -> Classifier:
    """Multinomial logistic regression. Its loss is convex."""
    return mlp(pixels, (), classes)
