"""ResNet-18 in its form for CIFAR: a 3x3 stem without pooling, and four stages of two basic blocks."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from experiments.models.classifier import Classifier
from experiments.models.convolution import Conv
from experiments.models.normalization import BatchNorm

Features = Float[Array, "n height width channels"]

HE_NORMAL = jax.nn.initializers.he_normal()


class ResNet18(nnx.Module):
    """Stages of `width`, 2, 4 and 8 times as many channels; every stage but the first halves the image.

    He et al., 2015, have ResNet-18 for ImageNet only; its form for CIFAR is that of the widely used `pytorch-cifar`:
    11,173,962 parameters at width 64. Differs: kernels are drawn as He et al. say (truncated normal, by fan-in).

    Args:
        width: Channels of the first stage.
        classes: Outputs.
        dtype: To compute in. Parameters, statistics, their reductions and the last layer are float32.
        rngs: Makes the parameters.
    """

    def __init__(self, width: int, classes: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.stem = _ConvNorm(3, width, 3, 1, dtype, rngs)
        blocks = []
        inputs = width
        for stage in range(4):
            for block in range(2):
                outputs, stride = width * 2**stage, 2 if stage and not block else 1
                blocks.append(_Block(inputs, outputs, stride, dtype, rngs))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(inputs, classes, rngs=rngs)

    def __call__(self, images: Features, *, training: bool = False) -> Float[Array, "n classes"]:
        x = nnx.relu(self.stem(images.astype(self.dtype), training=training))
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(x.astype(jnp.float32).mean((1, 2)))


class _ConvNorm(nnx.Module):
    """A convolution without bias, then batch normalisation."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.conv = Conv(inputs, outputs, size, rngs, stride=stride, bias=False, kernel_init=HE_NORMAL, dtype=dtype)
        self.norm = BatchNorm(outputs)

    def __call__(self, x: Features, *, training: bool) -> Features:
        return self.norm(self.conv(x), training=training)


class _Block(nnx.Module):
    """Two 3x3 convolutions around which the input is carried: as it is, or by a 1x1 convolution where sizes change."""

    def __init__(self, inputs: int, outputs: int, stride: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.first = _ConvNorm(inputs, outputs, 3, stride, dtype, rngs)
        self.second = _ConvNorm(outputs, outputs, 3, 1, dtype, rngs)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else _ConvNorm(inputs, outputs, 1, stride, dtype, rngs)

    def __call__(self, x: Features, *, training: bool) -> Features:
        carried = x if self.shortcut is None else self.shortcut(x, training=training)
        x = nnx.relu(self.first(x, training=training))
        return nnx.relu(self.second(x, training=training) + carried)


@dataclass(frozen=True)
class _Build:
    width: int
    classes: int
    dtype: str

    def __call__(self, rngs: nnx.Rngs) -> ResNet18:
        return ResNet18(self.width, self.classes, jnp.dtype(self.dtype), rngs)


def resnet18(width: int = 64, classes: int = 10, dtype: str = "float32") -> Classifier:
    """ResNet-18 for colour images of 32x32.

    Args:
        width: Channels of the first stage; 64 is the published size.
        classes: Outputs.
        dtype: To compute in, such as "bfloat16". What is trained stays float32.
    """
    return Classifier(_Build(width, classes, dtype))
