"""Clipping per example and noise: optax, keys, and what is refused."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx
from gradtx.testing.samples import cast

from .problem import assert_close, problem
from .steps import once, updates_of

STEPS = 50
RTOL = 1e-12
INF, NAN = np.inf, np.nan


# Per example


def batch_of(rng: Any, dtype: Any = np.float64) -> Any:
    return {"w": rng.normal(size=(6, 3, 2)).astype(dtype), "b": [rng.normal(size=(6, 4)).astype(dtype)]}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("clip", [0.0, 2.5, INF])
def test_per_example_clipping_equals_optax(clip: float) -> None:
    grads = batch_of(np.random.default_rng(0))
    grads["w"][2], grads["b"][0][2] = 0.0, 0.0
    ours, number = gradtx.per_example_global_norm_clip(grads, clip)
    with jax.numpy_dtype_promotion("standard"):
        theirs, their_number = optax.per_example_global_norm_clip(grads, clip)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-13)
    assert int(number) == int(their_number)
    for uniform in (True, False):
        ours, numbers = gradtx.per_example_layer_norm_clip(grads, clip, uniform)
        with jax.numpy_dtype_promotion("standard"):
            theirs, their_numbers = optax.per_example_layer_norm_clip(grads, clip, uniform)
        chex.assert_trees_all_close(ours, theirs, rtol=1e-13)
        assert jax.tree.map(int, numbers) == jax.tree.map(int, their_numbers)


def test_a_nan_of_one_example_cannot_get_past_the_clipping() -> None:
    """In optax the example's other entries come through, whatever their size."""
    grads = {"a": jnp.array([[1e6, NAN], [0.0, 1.0]])}
    ours, theirs = (lib.per_example_global_norm_clip(grads, 1.0)[0]["a"] for lib in (gradtx, optax))
    assert np.isnan(ours[0])
    assert theirs[0] == 1e6


@pytest.mark.parametrize("function", [gradtx.per_example_global_norm_clip, gradtx.per_example_layer_norm_clip])
def test_a_missing_batch_is_named(function: Any) -> None:
    with pytest.raises(ValueError, match=r"grads\['b'\] has no axes, expected the batch as the first"):
        function({"a": jnp.ones((2, 3)), "b": jnp.ones(())}, 1.0)
    with pytest.raises(ValueError, match=r"grads\['b'\] has a batch of 3, expected 2 as of the first leaf"):
        function({"a": jnp.ones((2, 3)), "b": jnp.ones((3, 2))}, 1.0)


def test_per_example_clipping_of_half_precision_complex_and_whole_numbers() -> None:
    grads = batch_of(np.random.default_rng(0), np.float32)
    full, narrow = (cast(grads, dtype) for dtype in (jnp.float32, jnp.bfloat16))
    exact, _ = gradtx.per_example_global_norm_clip(full, 1.0)
    rounded, _ = gradtx.per_example_global_norm_clip(narrow, 1.0)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(rounded)} == {"bfloat16"}
    # Six numbers, each rounded to 8 bits.
    chex.assert_trees_all_close(jax.tree.map(lambda x: x.astype(jnp.float32), rounded), exact, atol=0.03)
    turned, expected = (jax.tree.map(lambda g: jax.lax.complex(0 * g, g), tree) for tree in (full, exact))
    chex.assert_trees_all_close(gradtx.per_example_global_norm_clip(turned, 1.0)[0], expected, rtol=1e-5)
    sums, number = gradtx.per_example_global_norm_clip([jnp.array([[0, 0, 0], [0, 3, 4], [4, 0, 3], [3, 4, 0]])], 1.25)
    np.testing.assert_allclose(sums[0], [1.75, 1.75, 1.75], rtol=1e-6)
    assert number == 3


def test_per_example_clipping_of_a_batch_on_a_mesh() -> None:
    devices = len(jax.devices())
    mesh = jax.make_mesh((devices,), ("x",), axis_types=(AxisType.Explicit,))
    grads = jnp.arange(6.0 * devices).reshape(2 * devices, 3)
    expected = gradtx.per_example_global_norm_clip(grads, 2.0)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(grads, NamedSharding(mesh, PartitionSpec("x", None)))
        chex.assert_trees_all_close(jax.jit(gradtx.per_example_global_norm_clip)(sharded, 2.0), expected, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_private_aggregate_equals_optax() -> None:
    rng = np.random.default_rng(0)
    batches = [batch_of(rng) for _ in range(5)]
    params = jax.tree.map(lambda g: g[0], batches[0])
    numbers: Any = {"l2_norm_clip": 2.0, "noise_multiplier": 0.3}
    ours, theirs = gradtx.differentially_private_aggregate(**numbers, key=3), optax.contrib
    peer = theirs.differentially_private_aggregate(**numbers, key=jax.random.key(3))
    state, peer_state = ours.init(params), peer.init(params)
    for grads in batches:
        updates, state = ours.update(grads, state, params)
        expected, peer_state = peer.update(grads, peer_state, params)
        chex.assert_trees_all_close(updates, expected, rtol=1e-13)
    assert type(state)._fields == type(peer_state)._fields


def test_private_aggregate_refuses_gradients_of_no_batch() -> None:
    tx, params = gradtx.differentially_private_aggregate(1.0, 0.1, key=0), {"w": jnp.ones((2, 3))}
    with pytest.raises(ValueError, match=r"updates\['w'\] has shape \(3,\), but params\['w'\] has shape \(2, 3\)"):
        tx.update(params, tx.init(params), params)


# Noise


@pytest.mark.usefixtures("x64")
def test_noise_equals_optax() -> None:
    params, noise = problem(STEPS)
    with jax.numpy_dtype_promotion("standard"):
        theirs = updates_of(optax.add_noise(0.3, 0.55, jax.random.key(7)), params, noise)
    wholes: list[Any] = [7, jax.random.key(7), np.int32(7)]
    for tx in (*(gradtx.add_noise(0.3, 0.55, key) for key in wholes), gradtx.add_noise(0.3, 0.55, seed=7)):
        assert_close(updates_of(tx, params, noise), theirs, 1e-13)


def test_a_raw_key_gives_the_same_noise() -> None:
    g = jnp.ones(3)
    raw, typed = (once(gradtx.add_noise(0.3, 0.55, key), g) for key in (jax.random.PRNGKey(7), jax.random.key(7)))
    np.testing.assert_array_equal(raw, typed)


def test_noise_has_the_variance_it_says() -> None:
    """Of 20,000 numbers it is known to 1 %: three of those."""
    for dtype, size in ((jnp.float32, 0.5), (jnp.bfloat16, 0.5), (jnp.complex64, 0.5)):
        tx, g = gradtx.add_noise(size, 1.0, 0), jnp.zeros(20_000, dtype)
        state = tx.init(g)
        for step in (1, 2):
            noise, state = tx.update(g, state)
            np.testing.assert_allclose(np.var(np.asarray(noise, np.complex64)), size / step, rtol=0.03)


def test_one_program_for_all_keys() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    noises = jax.vmap(lambda key: once(gradtx.add_noise(0.1, 0.5, key), jnp.zeros(2)))(keys)
    assert len({tuple(map(float, noise)) for noise in noises}) == 3


def test_a_state_can_be_donated() -> None:
    """The key in it is a copy of the one that the transformation holds."""
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        tx, g = gradtx.add_noise(0.1, 0.5, key), jnp.zeros(2)
        step = jax.jit(tx.update, donate_argnums=1)
        step(g, tx.init(g))
        step(g, tx.init(g))


@pytest.mark.parametrize("make", [gradtx.add_noise, gradtx.differentially_private_aggregate])
def test_one_of_key_and_seed_is_needed(make: Any) -> None:
    with pytest.raises(TypeError, match=r"takes one of `key` and `seed`, got none: key=jax\.random\.key"):
        make(1.0, 0.5)
    with pytest.raises(TypeError, match="takes one of `key` and `seed`, got both"):
        make(1.0, 0.5, 0, seed=0)
    for wrong in (0.5, True, "0", jnp.ones(2)):
        with pytest.raises(TypeError, match=r"`key`: expected a key .* or a seed \(an int\), got"):
            make(1.0, 0.5, wrong)
