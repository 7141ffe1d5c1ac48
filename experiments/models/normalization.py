"""Batch normalisation, in float32 whatever the dtype of the images."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

Features = Float[Array, "..."]

MOMENTUM = 0.9
EPSILON = 1e-5


class BatchNorm(nnx.Module):
    r"""$\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$, by channel: over all axes but that of the channels.

    In training $\mu$ and $\sigma^2$ are those of the batch, and the running ones move a tenth of the way towards them;
    in evaluation they are the running ones. The constants are PyTorch's. Differs from PyTorch: the running variance is
    the biased one. Differs from `nnx.BatchNorm`: works under strict promotion when images are of half precision.

    Args:
        channels: How many.
        axis: Where they are: the last axis of images laid out NHWC and of dense layers, the first of CHWN.

    Source: Ioffe and Szegedy, 2015.
    """

    def __init__(self, channels: int, *, axis: int = -1):
        self.axis = axis
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))

    def __call__(self, x: Features, *, training: bool) -> Features:
        others = tuple(i for i in range(x.ndim) if i != self.axis % x.ndim)
        if training:
            wide = x.astype(jnp.float32)
            mean = wide.mean(others)
            var = jnp.square(wide - jnp.expand_dims(mean, others)).mean(others)
            self.mean[...] = MOMENTUM * self.mean[...] + (1 - MOMENTUM) * jax.lax.stop_gradient(mean)
            self.var[...] = MOMENTUM * self.var[...] + (1 - MOMENTUM) * jax.lax.stop_gradient(var)
        else:
            mean, var = self.mean[...], self.var[...]
        factor = self.scale[...] * jax.lax.rsqrt(var + EPSILON)
        shift = self.bias[...] - mean * factor
        # One multiplication and one addition an element, in the dtype of the images.
        factor, shift = (jnp.expand_dims(each.astype(x.dtype), others) for each in (factor, shift))
        return x * factor + shift
