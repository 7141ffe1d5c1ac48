"""Max pooling as maxima of shifted slices.

The gradient of `nnx.max_pool` (select and scatter) is slow on a CPU; that of a maximum of two arrays is not.
Where several are the largest, each pair shares the gradient equally; `nnx.max_pool` sends it to the first.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def max_pool(
    x: Float[Array, "a height width b"], size: int, stride: int, padding: str = "VALID"
) -> Float[Array, "a height width b"]:
    """Maxima over windows of the two middle axes: images laid out NHWC or CHWN.

    Args:
        x: The images.
        size: Height and width of a window.
        stride: Between windows.
        padding: "VALID", or "SAME" as in TensorFlow: the border never wins.
    """
    pads = lax.padtype_to_pads(x.shape[1:3], (size, size), (stride, stride), padding)
    for axis, (before, after) in zip((1, 2), pads, strict=True):
        margins = [(0, 0, 0)] * 4
        margins[axis] = (before, after, 0)
        if before or after:
            x = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), margins)
        last = x.shape[axis] - size + 1
        slices = [lax.slice_in_dim(x, i, i + last, stride, axis) for i in range(size)]
        x = slices[0]
        for other in slices[1:]:
            x = jnp.maximum(x, other)
    return x
