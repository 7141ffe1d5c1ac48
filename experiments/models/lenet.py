"""LeNet-5, as drawn in the study: two convolutions, each pooled, and three fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx
from jaxtyping import Array, Float

from experiments.models.classifier import Classifier
from experiments.models.convolution import Conv
from experiments.models.normalization import BatchNorm
from experiments.models.pool import max_pool


class LeNet5(nnx.Module):
    """61,706 parameters for images of 28x28x1.

    Differs from LeCun et al. 1998, as is usual now: ReLU for the scaled hyperbolic tangent, maxima for the trained
    means in pooling, every feature map of the second convolution sees all of the first, and a linear output.
    The study names none of these; the figures to meet (Theano's, Keras's) are with maxima.
    The paper's 32x32 input is the 28x28 image in a border of 2: here, "SAME" padding.

    Args:
        classes: Outputs.
        rngs: Makes the parameters; the same with and without normalisation.
        normalized: Whether batch normalisation stands before each ReLU: 62,158 parameters. The biases before it stay,
            though it takes them out again: all else is the same network.
    """

    def __init__(self, classes: int, rngs: nnx.Rngs, *, normalized: bool = False):
        self.first = Conv(1, 6, 5, rngs, batch_last=True)
        self.second = Conv(6, 16, 5, rngs, padding="VALID", batch_last=True)
        self.layers = nnx.List([nnx.Linear(*sizes, rngs=rngs) for sizes in ((400, 120), (120, 84), (84, classes))])
        norms = [BatchNorm(6, axis=0), BatchNorm(16, axis=0), BatchNorm(120), BatchNorm(84)]
        self.norms = nnx.List(norms if normalized else [])

    def __call__(
        self, images: Float[Array, "n height width channels"], *, training: bool = False
    ) -> Float[Array, "n classes"]:
        def activate(x: Float[Array, "..."], place: int) -> Float[Array, "..."]:
            return nnx.relu(self.norms[place](x, training=training) if self.norms else x)

        x = images.transpose(3, 1, 2, 0)
        x = max_pool(activate(self.first(x), 0), 2, 2)
        x = max_pool(activate(self.second(x), 1), 2, 2)
        *hidden, last = self.layers
        x = x.transpose(3, 1, 2, 0).reshape(images.shape[0], -1)
        for place, layer in enumerate(hidden, start=2):
            x = activate(layer(x), place)
        return last(x)


@dataclass(frozen=True)
class _Build:
    classes: int

    def __call__(self, rngs: nnx.Rngs) -> LeNet5:
        return LeNet5(self.classes, rngs)


@dataclass(frozen=True)
class _BuildNormalized:
    classes: int

    def __call__(self, rngs: nnx.Rngs) -> LeNet5:
        return LeNet5(self.classes, rngs, normalized=True)


def lenet5(classes: int = 10, *, normalized: bool = False) -> Classifier:
    """LeNet-5 for images of 28x28x1. Flax's default initialisation (LeCun normal, zero bias).

    Args:
        classes: Outputs.
        normalized: Whether batch normalisation stands before each ReLU.
    """
    return Classifier(_BuildNormalized(classes) if normalized else _Build(classes))
