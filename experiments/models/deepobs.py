"""The convolutional test problems of DeepOBS (Schneider et al., ICLR 2019), from its TensorFlow definitions.

Their figures also rest on DeepOBS's data, which differs for CIFAR-10: each image is standardised by itself, and those
for training are cropped (padding of 2), flipped, and changed in brightness, saturation and contrast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from experiments.models.classifier import Classifier
from experiments.models.convolution import ZEROS, Conv
from experiments.models.pool import max_pool

TRUNCATED_NORMAL = jax.nn.initializers.truncated_normal(0.05)
CONSTANT = jax.nn.initializers.constant(0.05)
GLOROT_NORMAL = jax.nn.initializers.glorot_normal()
GLOROT_UNIFORM = jax.nn.initializers.glorot_uniform()

L2 = 0.002
"""Of 3c3d. DeepOBS's TensorFlow regulariser, like `Classifier.penalty`, takes half of it times the sum of squares."""


class ConvNet(nnx.Module):
    """Convolutions with ReLU and max pooling (stride 2, "SAME"), then linear layers with ReLU between them."""

    def __init__(self, convs: tuple[Conv, ...], window: int, layers: tuple[nnx.Linear, ...]):
        self.convs, self.window, self.layers = nnx.List(convs), window, nnx.List(layers)

    def __call__(
        self, images: Float[Array, "n height width channels"], *, training: bool = False
    ) -> Float[Array, "n classes"]:
        x = images
        for conv in self.convs:
            x = max_pool(nnx.relu(conv(x)), self.window, 2, "SAME")
        *hidden, last = self.layers
        x = x.reshape(images.shape[0], -1)
        for layer in hidden:
            x = nnx.relu(layer(x))
        return last(x)


def _2c2d(classes: int, rngs: nnx.Rngs) -> ConvNet:
    init: dict[str, Any] = {"kernel_init": TRUNCATED_NORMAL, "bias_init": CONSTANT}
    convs = (Conv(1, 32, 5, rngs, **init), Conv(32, 64, 5, rngs, **init))
    sizes = ((7 * 7 * 64, 1024), (1024, classes))
    return ConvNet(convs, 2, tuple(nnx.Linear(*size, **init, rngs=rngs) for size in sizes))


def _3c3d(classes: int, rngs: nnx.Rngs) -> ConvNet:
    conv: dict[str, Any] = {"kernel_init": GLOROT_NORMAL, "bias_init": ZEROS}
    dense: dict[str, Any] = {"kernel_init": GLOROT_UNIFORM, "bias_init": ZEROS}
    convs = (
        Conv(3, 64, 5, rngs, padding="VALID", **conv),
        Conv(64, 96, 3, rngs, padding="VALID", **conv),
        Conv(96, 128, 3, rngs, padding="SAME", **conv),
    )
    sizes = ((3 * 3 * 128, 512), (512, 256), (256, classes))
    return ConvNet(convs, 3, tuple(nnx.Linear(*size, **dense, rngs=rngs) for size in sizes))


@dataclass(frozen=True)
class _Build:
    name: str
    classes: int

    def __call__(self, rngs: nnx.Rngs) -> ConvNet:
        return _NETS[self.name](self.classes, rngs)


_NETS: dict[str, Callable[[int, nnx.Rngs], ConvNet]] = {"2c2d": _2c2d, "3c3d": _3c3d}


def net_2c2d(classes: int = 10) -> Classifier:
    """For images of 28x28x1: 3,274,634 parameters, not regularised.

    Two 5x5 convolutions ("SAME", 32 and 64 channels), each pooled over 2x2, and a hidden layer of 1,024.
    Kernels: normal with standard deviation .05, truncated at two of them; biases .05.
    """
    return Classifier(_Build("2c2d", classes))


def net_3c3d(classes: int = 10) -> Classifier:
    """For images of 32x32x3: 895,210 parameters, L2 regularisation of .002 on the kernels.

    Convolutions of 5x5x64 and 3x3x96 ("VALID"), and 3x3x128 ("SAME"), each pooled over 3x3; hidden layers of 512, 256.
    Kernels: Xavier, normal in convolutions and uniform in the linear layers; biases 0.
    """
    return Classifier(_Build("3c3d", classes), l2=L2)
