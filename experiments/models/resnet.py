"""Residual networks for CIFAR: a 3x3 stem without pooling, then stages of basic blocks.

Two families differ in their stages and in how the input is carried past a block that changes its size: ResNet-18 by a
1x1 convolution (option B of He et al., 2015), ResNet-6n+2 as it is, with channels of zeros added (option A).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from experiments.models.classifier import Classifier
from experiments.models.convolution import Conv
from experiments.models.normalization import BatchNorm

Features = Float[Array, "n height width channels"]
Shortcut = Literal["convolution", "zeros"]

HE_NORMAL = jax.nn.initializers.he_normal()


class ResNet(nnx.Module):
    """A stem, stages of basic blocks, the mean over places, and one layer; every stage but the first halves the image.

    Differs from He et al.: kernels are drawn from a truncated normal, by fan-in.

    Args:
        widths: Channels of each stage; the stem has the first.
        blocks: How many a stage has.
        shortcut: What carries the input past a block that changes its size.
        classes: Outputs.
        dtype: To compute in. Parameters, statistics, their reductions and the last layer are float32.
        rngs: Makes the parameters.
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks: int,
        shortcut: Shortcut,
        classes: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.dtype = dtype
        self.stem = _ConvNorm(3, widths[0], 3, 1, dtype, rngs)
        made = []
        inputs = widths[0]
        for stage, outputs in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                made.append(_Block(inputs, outputs, stride, shortcut, dtype, rngs))
                inputs = outputs
        self.blocks = nnx.List(made)
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
    """Two 3x3 convolutions around which the input is carried: as it is, or by the shortcut where sizes change."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.first = _ConvNorm(inputs, outputs, 3, stride, dtype, rngs)
        self.second = _ConvNorm(outputs, outputs, 3, 1, dtype, rngs)
        self.stride, self.added = stride, outputs - inputs
        is_convolved = shortcut == "convolution" and (stride > 1 or self.added > 0)
        self.shortcut = _ConvNorm(inputs, outputs, 1, stride, dtype, rngs) if is_convolved else None

    def __call__(self, x: Features, *, training: bool) -> Features:
        carried = self._carry(x) if self.shortcut is None else self.shortcut(x, training=training)
        x = nnx.relu(self.first(x, training=training))
        return nnx.relu(self.second(x, training=training) + carried)

    def _carry(self, x: Features) -> Features:
        """Every `stride`-th pixel, and zeros in the channels that are new."""
        return jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0), (0, 0), (0, 0), (0, self.added)))


@dataclass(frozen=True)
class _Build:
    width: int
    classes: int
    dtype: str

    def __call__(self, rngs: nnx.Rngs) -> ResNet:
        widths = [self.width * 2**stage for stage in range(4)]
        return ResNet(widths, 2, "convolution", self.classes, jnp.dtype(self.dtype), rngs)


@dataclass(frozen=True)
class _Build6n2:
    depth: int
    width: int
    classes: int
    dtype: str

    def __call__(self, rngs: nnx.Rngs) -> ResNet:
        widths = [self.width * 2**stage for stage in range(3)]
        return ResNet(widths, (self.depth - 2) // 6, "zeros", self.classes, jnp.dtype(self.dtype), rngs)


def resnet18(width: int = 64, classes: int = 10, dtype: str = "float32") -> Classifier:
    """ResNet-18 for colour images of 32x32: four stages of two blocks.

    He et al., 2015, have ResNet-18 for ImageNet only; its form for CIFAR is that of the widely used `pytorch-cifar`:
    11,173,962 parameters at width 64.

    Args:
        width: Channels of the first stage; 64 is the published size. The others have 2, 4 and 8 times as many.
        classes: Outputs.
        dtype: To compute in, such as "bfloat16". What is trained stays float32.
    """
    return Classifier(_Build(width, classes, dtype))


def resnet_6n2(depth: int, width: int = 16, classes: int = 10, dtype: str = "float32") -> Classifier:
    """ResNet-20, -32, -44, -56, -110: the networks of He et al., 2015, for CIFAR. Three stages of n blocks.

    269,722 parameters at depth 20, 1,727,962 at depth 110 (the paper says 0.27 and 1.7 million).

    Args:
        depth: 6n + 2 layers that have parameters.
        width: Channels of the first stage; 16 is the published size. The others have 2 and 4 times as many.
        classes: Outputs.
        dtype: To compute in, such as "bfloat16". What is trained stays float32.

    Raises:
        ValueError: `depth` is not 6n + 2.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"expected a depth of 6n + 2, such as 20 or 110, got {depth}")
    return Classifier(_Build6n2(depth, width, classes, dtype))
