"""The quick convolution and pooling are XLA's own to rounding, in value and in both gradients."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.models import convolution
from experiments.models.convolution import Conv, convolve, convolve_batch_last
from experiments.models.pool import max_pool

TOLERANCE = 1e-12
"""Sums of at most a few thousand float64 products of standard normal numbers, relative to the largest."""

SHAPES = [(4, 8, 8, 3, 5, 3), (3, 7, 9, 2, 4, 5), (6, 6, 5, 4, 1, 1), (2, 5, 5, 1, 6, 5)]
"""n, height, width, inputs, outputs, size."""


def arrays(*shapes):
    random = np.random.RandomState(0)
    return [jnp.asarray(random.normal(size=shape)) for shape in shapes]


def xla(x, kernel, stride, padding):
    names = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=names)


def check(function, reference, x, kernel):
    value, pull = jax.vjp(jax.jit(function), x, kernel)
    expected, expected_pull = jax.vjp(reference, x, kernel)
    (gradient,) = arrays(expected.shape)
    for a, b in zip((value, *pull(gradient)), (expected, *expected_pull(gradient)), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * float(jnp.abs(b).max()))


# Blocks: the smallest, some, and one. Each shape meets all of them, though not with every stride and padding.
BLOCKS = (1, 5_000, 10**9)
CASES = [(*case, BLOCKS[i % 3]) for i, case in enumerate(itertools.product(SHAPES, (1, 2), ("SAME", "VALID")))]
BATCH_LAST = [
    (shape, padding, BLOCKS[i % 3]) for i, (shape, padding) in enumerate(itertools.product(SHAPES, ("SAME", "VALID")))
]


@pytest.mark.parametrize(("shape", "stride", "padding", "block"), CASES)
def test_convolve_is_xlas(x64, monkeypatch, shape, stride, padding, block):
    monkeypatch.setattr(convolution, "BLOCK_BYTES", block)
    n, height, width, inputs, outputs, size = shape
    x, kernel = arrays((n, height, width, inputs), (size, size, inputs, outputs))
    check(partial(convolve, stride=stride, padding=padding), partial(xla, stride=stride, padding=padding), x, kernel)


@pytest.mark.parametrize(("shape", "padding", "block"), BATCH_LAST)
def test_with_the_batch_last_too(x64, monkeypatch, shape, padding, block):
    monkeypatch.setattr(convolution, "BLOCK_BYTES", block)
    n, height, width, inputs, outputs, size = shape
    x, kernel = arrays((n, height, width, inputs), (size, size, inputs, outputs))

    def function(x, kernel):
        return jnp.transpose(convolve_batch_last(x.transpose(3, 1, 2, 0), kernel, padding), (3, 1, 2, 0))

    check(function, partial(xla, stride=1, padding=padding), x, kernel)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_on_an_accelerator_it_is_the_native_one(platform):
    def loss(x, kernel):
        return jnp.sum(convolve(x, kernel, 1, "SAME")) + jnp.sum(convolve_batch_last(x, kernel, "SAME"))

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((3, 8, 8, 3), (3, 3, 3, 3))]
    lowered = {
        name: jax.jit(jax.grad(loss, argnums=(0, 1))).trace(*shapes).lower(lowering_platforms=(name,)).as_text()
        for name in ("cpu", platform)
    }
    assert lowered[platform].count("stablehlo.convolution") >= 4
    assert "stablehlo.while" not in lowered[platform]
    assert "stablehlo.while" in lowered["cpu"]


def test_conv_is_that_of_flax():
    ours = Conv(3, 5, 3, nnx.Rngs(0), stride=2)
    flax = nnx.Conv(3, 5, (3, 3), strides=(2, 2), rngs=nnx.Rngs(0))
    state = nnx.state(ours, nnx.Param)
    assert nnx.to_pure_dict(jax.tree.map(jnp.shape, state)) == {"bias": (5,), "kernel": (3, 3, 3, 5)}
    nnx.update(flax, state)
    (x,) = arrays((2, 8, 8, 3))
    np.testing.assert_allclose(ours(x), flax(x), rtol=1e-5, atol=1e-6)


def test_conv_with_a_stride_has_the_batch_first():
    with pytest.raises(ValueError, match="with batch_last the stride is 1, got 2; leave out batch_last"):
        Conv(3, 5, 3, nnx.Rngs(0), stride=2, batch_last=True)


@pytest.mark.parametrize(
    ("size", "stride", "padding", "height", "width"),
    [(2, 2, "VALID", 8, 6), (2, 2, "VALID", 7, 5), (3, 2, "SAME", 8, 7), (3, 2, "SAME", 28, 12), (3, 1, "SAME", 5, 5)],
)
def test_max_pool_is_that_of_flax(size, stride, padding, height, width):
    # No two are equal, so that there is one way to send the gradient back.
    x = jnp.asarray(np.random.RandomState(0).permutation(3 * height * width * 2), jnp.float32)
    x = x.reshape(3, height, width, 2) - 50
    value, pull = jax.vjp(lambda x: max_pool(x, size, stride, padding), x)
    expected, expected_pull = jax.vjp(lambda x: nnx.max_pool(x, (size, size), (stride, stride), padding), x)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(pull(jnp.sin(value))[0], expected_pull(jnp.sin(value))[0], rtol=1e-6)
