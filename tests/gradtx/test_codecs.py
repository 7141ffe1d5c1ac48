"""Codecs of state: errors, zeros, what is not finite."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx._precision import float8, halves, int8
from gradtx._precision.blocks import join, split, tiles, tiles_of

from .sizes import numbers

E4M3, E5M2 = (np.dtype(getattr(jnp, name)) for name in ("float8_e4m3fn", "float8_e5m2"))
CODECS: dict[str, Any] = {
    "int8": partial(int8.encode, block_size=256),
    "int8 at random": partial(int8.encode, block_size=256, key=jax.random.key(0)),
    "e4m3": partial(float8.encode, dtype=E4M3, block_size=256),
    "e5m2": partial(float8.encode, dtype=E5M2, block_size=256),
    "bfloat16": halves.encode_with_rest,
}
BLOCKS = ("int8", "int8 at random", "e4m3", "e5m2")
each_codec = pytest.mark.parametrize("name", CODECS)
each_block_codec = pytest.mark.parametrize("name", BLOCKS)


def levels(parts: int) -> np.ndarray:
    """The dynamic map: the middles of the parts of seven decades, each in twice as many as the one below."""
    found = [0.0]
    for decade in range(7):
        edges = np.linspace(0.1, 1.0, parts * 2**decade + 1)
        found += list(10.0 ** (decade - 6) * (edges[:-1] + edges[1:]) / 2)
    return np.array(found) / found[-1]


# Blocks


@pytest.mark.parametrize(
    "shape", [(1,), (7,), (256,), (257,), (1000,), (500, 10), (3, 500), (2, 257), (5, 5, 6, 16), (1, 1), (300, 1)]
)
def test_blocks_hold_at_most_so_many_entries_and_more_than_half(shape: tuple[int, ...]) -> None:
    into = tiles(shape, 256)
    inner = int(np.prod(shape[into.axis + 1 :]))
    block = into.length * inner
    assert block <= 256
    assert 2 * block > 256 or block == np.prod(shape)
    scales = (*shape[: into.axis], into.count, *[1] * (len(shape) - into.axis - 1))
    again = tiles_of(shape, scales)
    x = numbers(shape)
    for each in (into, again):
        np.testing.assert_array_equal(join(split(x, each), each, x), x)


# Codecs


@each_codec
@pytest.mark.parametrize("shape", [(5,), (257,), (500, 10), (3, 500), (2, 3, 4, 5)])
def test_a_leaf_comes_back_with_its_shape_and_dtype(name: str, shape: tuple[int, ...]) -> None:
    x = numbers(shape)
    there = CODECS[name](x)
    back = there.decode()
    assert (back.shape, back.dtype) == (x.shape, x.dtype)
    assert there[0].shape == x.shape


@pytest.mark.parametrize(("name", "largest", "each"), [
    # Of the block's largest entry; of each entry that is no less than a hundredth of it.
    ("int8", 0.9 / 64 / 2, 0.9 / 16 / 2 / 0.1),
    ("e4m3", 2**-4, 2**-4),
    ("e5m2", 2**-3, 2**-3),
    ("bfloat16", 2**-15, 2**-15),
])  # fmt: skip
def test_errors_are_bounded(name: str, largest: float, each: float) -> None:
    x: Any = np.asarray(numbers((40, 256)))
    error = np.abs(np.asarray(CODECS[name](jnp.asarray(x)).decode()) - x)
    top = np.max(np.abs(x), axis=1, keepdims=True)
    assert np.all(error <= 1.01 * largest * top)
    large = np.abs(x) > top / 100
    assert np.all(error[large] <= 1.01 * each * np.abs(x)[large])


@pytest.mark.parametrize("sign", ["both", "none"])
def test_int8_takes_the_nearest_level_of_the_dynamic_map(sign: str) -> None:
    x: Any = np.asarray(numbers((50, 256), 4.0), np.float64)
    x = x if sign == "both" else np.abs(x)
    share: Any = x / np.max(np.abs(x), axis=1, keepdims=True)
    known = np.unique(np.concatenate([-levels(1), levels(1)])) if sign == "both" else levels(2)
    target = share if sign == "both" else np.sqrt(share)
    got = int8.encode(jnp.asarray(x, jnp.float32), 256).decode() / np.max(np.abs(x), axis=1, keepdims=True)
    got = np.asarray(got) if sign == "both" else np.sqrt(np.asarray(got))
    assert np.max(np.min(np.abs(known - got[..., None]), axis=-1)) < 1e-6
    nearest = np.min(np.abs(known - target[..., None]), axis=-1)
    # Without negative entries none becomes 0.
    bumped = np.where((sign == "none") & (target < known[1] / 2), known[1] - target, nearest)
    np.testing.assert_allclose(np.abs(got - target), bumped, rtol=1e-4, atol=1e-6)


@each_codec
@pytest.mark.parametrize("positive", [True, False])
def test_codes_are_monotone_and_stay_when_encoded_again(name: str, positive: bool) -> None:
    x = jnp.sort(numbers((256,), 5.0))
    x = jnp.sort(jnp.abs(x)) if positive else x
    there = CODECS[name](x)
    back = there.decode()
    rises: Any = np.diff(np.asarray(back))
    assert "random" in name or np.all(rises >= 0)
    for code, again in zip(there, CODECS[name](back), strict=True):
        np.testing.assert_array_equal(np.asarray(again), np.asarray(code))


@pytest.mark.parametrize("positive", [True, False])
def test_int8_at_random_is_right_in_the_mean(positive: bool) -> None:
    """Of entries in the upper decades, but for a border of decades, where the two levels are not equally far away."""
    x = jnp.linspace(0.02, 1.0, 256) * (1 if positive else jnp.where(jnp.arange(256) % 2 == 0, 1, -1))
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.vmap(lambda key: int8.encode(x, 256, key).decode())(keys), np.float64)
    error = drawn.mean(axis=0) - np.asarray(x)
    spread = drawn.std(axis=0) / np.sqrt(len(keys))
    once = np.abs(np.asarray(int8.encode(x, 256).decode()) - np.asarray(x))
    inside = np.abs(np.log10(np.abs(x)) % 1 - 0.5) < 0.45
    # A root that is right in the mean has a square that is larger by its variance.
    assert np.all(np.abs(error)[inside] <= 5 * spread[inside] + (5e-5 if positive else 1e-7))
    assert np.abs(error[inside]).mean() < 0.1 * once[inside].mean()


def test_to_nearest_a_slow_average_falls_only_with_its_block() -> None:
    """What the docstring of `quantize_state` says of its two ways to round."""
    sizes = jnp.ones((64, 256)).at[:, 1:].set(0.5)
    found = {}
    wrap: Any = partial(gradtx.quantize_state, gradtx.scale_by_rms(0.999))
    for rounding, key in (("nearest", None), ("stochastic", 0)):
        tx = wrap(rounding=rounding, key=key)

        def step(state: Any, i: Any, tx: Any = tx) -> Any:
            # The first column goes on, the others stop.
            grads = jnp.where((i < 1000) | (jnp.arange(256)[None] == 0), sizes, 0)
            return tx.update(grads, state)[1], None

        state = jax.lax.scan(step, tx.init(sizes), jnp.arange(3000))[0]
        found[rounding] = float(jnp.mean(state.inner_state.nu.decode()[:, 1:]))
    exact = 0.25 * (1 - 0.999**1000) * 0.999**2000
    assert found["stochastic"] == pytest.approx(exact, rel=0.1)
    assert found["nearest"] > 3 * exact


@each_codec
def test_zeros_are_exact_and_a_block_of_zeros_is_one(name: str) -> None:
    x = numbers((4, 256)).at[1].set(0).at[:, ::3].set(0)
    back = CODECS[name](x).decode()
    np.testing.assert_array_equal(np.asarray(back)[np.asarray(x) == 0], 0)
    assert np.all(np.isfinite(np.asarray(back)))


@each_block_codec
def test_the_largest_entry_of_a_block_is_exact(name: str) -> None:
    for x in (numbers((30, 256)), jnp.abs(numbers((30, 256)))):
        i = jnp.argmax(jnp.abs(x), axis=1)[:, None]
        got, expected = (jnp.take_along_axis(each, i, axis=1) for each in (CODECS[name](x).decode(), x))
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


@each_codec
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_seen_in_its_block_and_in_no_other(name: str, bad: float) -> None:
    x = numbers((3, 256)).at[1, 5].set(bad)
    back = np.asarray(CODECS[name](x).decode())
    assert not np.isfinite(back[1, 5])
    assert np.all(np.isfinite(back[[0, 2]]))


@each_block_codec
def test_what_is_not_zero_never_becomes_zero_where_no_entry_is_negative(name: str) -> None:
    """It is a divisor: Adam's step would be the mean gradient over eps."""
    x = jnp.abs(numbers((8, 256), 8.0)) + 1e-30
    back = np.asarray(CODECS[name](x).decode())
    assert np.all(back > 0)


@each_block_codec
@pytest.mark.parametrize("size", [1e-36, 1e-30, 1e30, 3e38])
def test_scales_have_the_whole_range_of_floats(name: str, size: float) -> None:
    x = jnp.asarray(size * np.linspace(-1, 1, 256), jnp.float32)
    error = np.abs(np.asarray(CODECS[name](x).decode(), np.float64) - np.asarray(x, np.float64))
    assert np.max(error) < 0.1 * size


def test_float64_has_scales_of_its_own_range(x64: None) -> None:
    x = jnp.asarray(1e200 * np.linspace(0.1, 1, 256))
    there = int8.encode(x, 256)
    assert there.scales.dtype == np.float64
    np.testing.assert_allclose(there.decode(), x, rtol=0.02)
