"""LeNet-5, as drawn in the study: two convolutions, each pooled, and three fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx
from jaxtyping import Array, Float

from experiments.models.classifier import Classifier
from experiments.models.convolution import Conv
from experiments.models.pool import max_pool


class LeNet5(nnx.Module):
    """61,706 parameters for images of 28x28x1.

    Differs from LeCun et al. 1998, as is usual now: ReLU for the scaled hyperbolic tangent, maxima for the trained
    means in pooling, every feature map of the second convolution sees all of the first, and a linear output.
    The study names none of these; the figures to meet (Theano's, Keras's) are with maxima.
    The paper's 32x32 input is the 28x28 image in a border of 2: here, "SAME" padding.
    """

    def __init__(self, classes: int, rngs: nnx.Rngs):
        self.first = Conv(1, 6, 5, rngs, batch_last=True)
        self.second = Conv(6, 16, 5, rngs, padding="VALID", batch_last=True)
        self.layers = nnx.List([nnx.Linear(*sizes, rngs=rngs) for sizes in ((400, 120), (120, 84), (84, classes))])

    def __call__(
        self, images: Float[Array, "n height width channels"], *, training: bool = False
    ) -> Float[Array, "n classes"]:
        x = images.transpose(3, 1, 2, 0)
        x = max_pool(nnx.relu(self.first(x)), 2, 2)
        x = max_pool(nnx.relu(self.second(x)), 2, 2)
        *hidden, last = self.layers
        x = x.transpose(3, 1, 2, 0).reshape(images.shape[0], -1)
        for layer in hidden:
            x = nnx.relu(layer(x))
        return last(x)


@dataclass(frozen=True)
class _Build:
    classes: int

    def __call__(self, rngs: nnx.Rngs) -> LeNet5:
        return LeNet5(self.classes, rngs)


def lenet5(classes: int = 10) -> Classifier:
    """LeNet-5 for images of 28x28x1. Flax's default initialisation (LeCun normal, zero bias)."""
    return Classifier(_Build(classes))
