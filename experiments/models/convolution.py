r"""Convolutions that are quick on a CPU too, with the parameters and values of `nnx.Conv`.

On an accelerator both forms are `lax.conv_general_dilated` and its gradients. On a CPU, XLA's own are slow in three
places: the gradient of the kernel, that of the images inside a loop, and anything with few channels. There,

- `convolve` (NHWC) gathers the patches of a few images at a time, as many as stay in the processor's cache, and adds
  up one matrix product each for the gradient of the kernel. That of the images is written as a convolution with the
  kernel's axes in their usual order: JAX's own names them in another order instead, for which XLA has, inside a loop,
  a program that is ten times as slow;
- `convolve_batch_last` (CHWN) does so in both directions, for networks with few channels: with the batch last, each
  shifted slice is a copy of long runs, and each loop over it is as wide as the batch.

The patches are written by a loop. One concatenation looks simpler, but XLA fuses what comes before it (pooling, ReLU)
into every one of its slices and computes it 25 times for a 5x5 kernel; an optimization barrier is dropped before then.

Neither has a forward-mode derivative (`jax.jvp`): both define their own reverse mode.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

Padding = Literal["SAME", "VALID"]
Images = Float[Array, "n height width channels"]
ImagesBatchLast = Float[Array, "channels height width n"]
Kernel = Float[Array, "kh kw inputs outputs"]

BLOCK_BYTES = 1_000_000
"""Patches made at a time: half of a usual second-level cache."""

Initializer = jax.nn.initializers.Initializer
LECUN_NORMAL = jax.nn.initializers.lecun_normal()
ZEROS = jax.nn.initializers.zeros


class Conv(nnx.Module):
    """A convolution with a square kernel, and a bias.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        size: Height and width of the kernel.
        rngs: Makes the kernel.
        stride: Of the kernel, along height and width.
        padding: With zeros, as in TensorFlow: "SAME" keeps ceil(size / stride), "VALID" takes whole windows only.
        bias: Whether to add one.
        kernel_init: Of the kernel, laid out (height, width, inputs, outputs). Default: as `nnx.Conv`'s.
        bias_init: Of the bias.
        batch_last: Whether images are laid out (channels, height, width, n): quicker on a CPU for few channels.
        dtype: To compute in. The parameters are float32.

    Raises:
        ValueError: `stride` is not 1 with `batch_last`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        rngs: nnx.Rngs,
        *,
        stride: int = 1,
        padding: Padding = "SAME",
        bias: bool = True,
        kernel_init: Initializer = LECUN_NORMAL,
        bias_init: Initializer = ZEROS,
        batch_last: bool = False,
        dtype: jnp.dtype | None = None,
    ):
        if batch_last and stride != 1:
            raise ValueError(f"with batch_last the stride is 1, got {stride}; leave out batch_last")
        self.stride, self.padding, self.batch_last, self.dtype = stride, padding, batch_last, dtype
        self.kernel = nnx.Param(kernel_init(rngs.params(), (size, size, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(bias_init(rngs.params(), (outputs,), jnp.float32)) if bias else None

    def __call__(self, x: Images | ImagesBatchLast) -> Images | ImagesBatchLast:
        dtype = self.dtype or x.dtype
        x, kernel = x.astype(dtype), self.kernel[...].astype(dtype)
        if self.batch_last:
            x = convolve_batch_last(x, kernel, self.padding)
        else:
            x = convolve(x, kernel, self.stride, self.padding)
        if self.bias is None:
            return x
        bias = self.bias[...].astype(dtype)
        return x + (bias[:, None, None, None] if self.batch_last else bias[None, None, None])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: Images, kernel: Kernel, stride: int, padding: Padding) -> Images:
    """`lax.conv_general_dilated`, with a quicker gradient of the kernel on a CPU."""
    return _native(x, kernel, stride, padding, "NHWC")


def _convolve_forward(x: Images, kernel: Kernel, stride: int, padding: Padding) -> tuple[Images, tuple[Images, Kernel]]:
    return convolve(x, kernel, stride, padding), (x, kernel)


def _convolve_backward(
    stride: int, padding: Padding, kept: tuple[Images, Kernel], gradient: Images
) -> tuple[Images, Kernel]:
    def on_cpu(x: Images, kernel: Kernel, gradient: Images) -> tuple[Images, Kernel]:
        return _to_x(gradient, kernel, x.shape, stride, padding), _to_kernel(x, gradient, kernel.shape, stride, padding)

    native = partial(_native_backward, stride=stride, padding=padding, layout="NHWC")
    return lax.platform_dependent(*kept, gradient, cpu=on_cpu, default=native)


convolve.defvjp(_convolve_forward, _convolve_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_batch_last(x: ImagesBatchLast, kernel: Kernel, padding: Padding) -> ImagesBatchLast:
    """`lax.conv_general_dilated` with stride 1, on images laid out (channels, height, width, n)."""
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: _batch_last(x, kernel, padding),
        default=lambda x, kernel: _native(x, kernel, 1, padding, "CHWN"),
    )


def _batch_last_forward(
    x: ImagesBatchLast, kernel: Kernel, padding: Padding
) -> tuple[ImagesBatchLast, tuple[ImagesBatchLast, Kernel]]:
    return convolve_batch_last(x, kernel, padding), (x, kernel)


def _batch_last_backward(
    padding: Padding, kept: tuple[ImagesBatchLast, Kernel], gradient: ImagesBatchLast
) -> tuple[ImagesBatchLast, Kernel]:
    def on_cpu(x: ImagesBatchLast, kernel: Kernel, gradient: ImagesBatchLast) -> tuple[ImagesBatchLast, Kernel]:
        return _batch_last_to_x(gradient, kernel, x.shape, padding), _batch_last_to_kernel(
            x, gradient, kernel.shape, padding
        )

    native = partial(_native_backward, stride=1, padding=padding, layout="CHWN")
    return lax.platform_dependent(*kept, gradient, cpu=on_cpu, default=native)


convolve_batch_last.defvjp(_batch_last_forward, _batch_last_backward)


def _native(x: Array, kernel: Kernel, stride: int, padding: Padding, layout: str) -> Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=(layout, "HWIO", layout))


def _native_backward(
    x: Array, kernel: Kernel, gradient: Array, *, stride: int, padding: Padding, layout: str
) -> tuple[Array, Kernel]:
    (to_x,) = jax.linear_transpose(lambda x: _native(x, kernel, stride, padding, layout), x)(gradient)
    (to_kernel,) = jax.linear_transpose(lambda kernel: _native(x, kernel, stride, padding, layout), kernel)(gradient)
    return to_x, to_kernel


def _to_x(gradient: Images, kernel: Kernel, shape: tuple[int, ...], stride: int, padding: Padding) -> Images:
    """A convolution of the gradient, spread out by the stride, with the kernel turned by half a circle."""
    befores = [before for before, _ in _margins(shape[1:3], kernel.shape, stride, padding)]
    margins = [
        (taps - 1 - before, size + before - stride * (count - 1) - 1)
        for taps, size, count, before in zip(kernel.shape[:2], shape[1:3], gradient.shape[1:3], befores, strict=True)
    ]
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return lax.conv_general_dilated(
        gradient, turned, (1, 1), margins, lhs_dilation=(stride, stride), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _to_kernel(x: Images, gradient: Images, shape: tuple[int, ...], stride: int, padding: Padding) -> Kernel:
    kh, kw, inputs, outputs = shape
    n, height, width, _ = gradient.shape
    x = jnp.pad(x, ((0, 0), *_margins(x.shape[1:3], shape, stride, padding), (0, 0)))
    size = _block(n, kh * kw * inputs * height * width * x.dtype.itemsize)
    accumulator = _wide(x.dtype)

    def add(t: Array, total: Float[Array, "outputs taps"]) -> Float[Array, "outputs taps"]:
        images = lax.dynamic_slice_in_dim(x, t * size, size)
        patches = jnp.concatenate(
            [
                images[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
                for i in range(kh)
                for j in range(kw)
            ],
            axis=-1,
        ).reshape(-1, kh * kw * inputs)
        part = lax.dynamic_slice_in_dim(gradient, t * size, size).reshape(-1, outputs)
        return total + jnp.matmul(part.T, patches, preferred_element_type=accumulator)

    total = lax.fori_loop(0, n // size, add, jnp.zeros((outputs, kh * kw * inputs), accumulator))
    return total.T.reshape(shape).astype(x.dtype)


def _batch_last(x: ImagesBatchLast, kernel: Kernel, padding: Padding) -> ImagesBatchLast:
    outputs = kernel.shape[-1]
    matrix = kernel.reshape(-1, outputs).T
    x, (height, width), rows = _rows(x, kernel.shape, padding)

    def write(t: Array, out: ImagesBatchLast) -> ImagesBatchLast:
        block = matrix @ _patches(x, t * rows, rows, width, kernel.shape)
        return lax.dynamic_update_slice_in_dim(out, block.reshape(outputs, rows, width, -1), t * rows, axis=1)

    return lax.fori_loop(0, height // rows, write, jnp.zeros((outputs, height, width, x.shape[-1]), x.dtype))


def _batch_last_to_kernel(
    x: ImagesBatchLast, gradient: ImagesBatchLast, shape: tuple[int, ...], padding: Padding
) -> Kernel:
    x, (height, width), rows = _rows(x, shape, padding)
    accumulator = _wide(x.dtype)

    def add(t: Array, total: Float[Array, "taps outputs"]) -> Float[Array, "taps outputs"]:
        patches = _patches(x, t * rows, rows, width, shape)
        part = lax.dynamic_slice_in_dim(gradient, t * rows, rows, axis=1).reshape(shape[-1], -1)
        return total + jnp.matmul(patches, part.T, preferred_element_type=accumulator)

    total = jnp.zeros((shape[0] * shape[1] * shape[2], shape[3]), accumulator)
    return lax.fori_loop(0, height // rows, add, total).reshape(shape).astype(x.dtype)


def _batch_last_to_x(
    gradient: ImagesBatchLast, kernel: Kernel, shape: tuple[int, ...], padding: Padding
) -> ImagesBatchLast:
    """One product gives what every tap sends back; they are added where they came from."""
    kh, kw, inputs, outputs = kernel.shape
    (top, bottom), (left, right) = _margins(shape[1:3], kernel.shape, 1, padding)
    sent = (kernel.reshape(-1, outputs) @ gradient.reshape(outputs, -1)).reshape(kh * kw, inputs, *gradient.shape[1:])

    def add(t: Array, total: ImagesBatchLast) -> ImagesBatchLast:
        place = (0, t // kw, t % kw, 0)
        return lax.dynamic_update_slice(total, lax.dynamic_slice(total, place, sent.shape[1:]) + sent[t], place)

    total = jnp.zeros((inputs, shape[1] + top + bottom, shape[2] + left + right, shape[3]), gradient.dtype)
    total = lax.fori_loop(0, kh * kw, add, total)
    return total[:, top : top + shape[1], left : left + shape[2]]


def _rows(x: ImagesBatchLast, shape: tuple[int, ...], padding: Padding) -> tuple[ImagesBatchLast, tuple[int, int], int]:
    """The padded images, the size of what comes out, and how many of its rows to make at a time."""
    kh, kw, inputs, _ = shape
    x = jnp.pad(x, ((0, 0), *_margins(x.shape[1:3], shape, 1, padding), (0, 0)))
    height, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    return x, (height, width), _block(height, kh * kw * inputs * width * x.shape[3] * x.dtype.itemsize)


def _patches(
    x: ImagesBatchLast, first: Array, rows: int, width: int, shape: tuple[int, ...]
) -> Float[Array, "taps places"]:
    kh, kw, inputs, _ = shape
    slice_shape = (inputs, rows, width, x.shape[3])

    def write(
        t: Array, out: Float[Array, "offsets inputs rows width n"]
    ) -> Float[Array, "offsets inputs rows width n"]:
        piece = lax.dynamic_slice(x, (0, first + t // kw, t % kw, 0), slice_shape)
        return lax.dynamic_update_index_in_dim(out, piece, t, axis=0)

    out = lax.fori_loop(0, kh * kw, write, jnp.zeros((kh * kw, *slice_shape), x.dtype))
    return out.reshape(kh * kw * inputs, -1)


def _margins(size: tuple[int, ...], shape: tuple[int, ...], stride: int, padding: Padding) -> list[tuple[int, int]]:
    (top, bottom), (left, right) = lax.padtype_to_pads(size, shape[:2], (stride, stride), padding)
    return [(top, bottom), (left, right)]


def _wide(dtype: jnp.dtype) -> jnp.dtype:
    """What to add up many products in."""
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def _block(count: int, bytes_each: int) -> int:
    """The largest divisor of `count` whose patches fit a block, or 1."""
    return max(d for d in range(1, count + 1) if count % d == 0 and (d == 1 or d * bytes_each <= BLOCK_BYTES))
