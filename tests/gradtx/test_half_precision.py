"""Float32 masters of half-precision parameters, and rounding at random."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx._precision import halves
from gradtx._precision.steps import step_to

from .sizes import bfloat16s, numbers

# Half-precision parameters


def test_rounding_at_random_moves_the_mean_where_optax_stands_still() -> None:
    """100 updates of -1e-3 on ones: to nearest each is lost, since neighbours of 1 are 2^-8 and 2^-7 away."""
    params = jnp.ones(20_000, jnp.bfloat16)
    ours = gradtx.stochastic_round(gradtx.sgd(1.0), jax.random.key(0))
    found = {}
    for name, tx, apply in (("gradtx", ours, gradtx.apply_updates), ("optax", optax.sgd(1.0), optax.apply_updates)):

        def step(carry: Any, _: Any, tx: Any = tx, apply: Any = apply) -> Any:
            params, state = carry
            updates, state = tx.update(jnp.full_like(params, 1e-3), state, params)
            return (apply(params, updates), state), None

        moved = jax.lax.scan(step, (params, tx.init(params)), length=100)[0][0]
        found[name] = np.asarray(moved, np.float64)
    assert np.all(found["optax"] == 1.0)
    rate = float(jnp.asarray(1e-3, jnp.bfloat16))
    error = found["gradtx"].std() / np.sqrt(params.size)
    assert abs(found["gradtx"].mean() - (1 - 100 * rate)) < 4 * error < 1e-3


def test_a_rounded_value_is_a_neighbour_and_right_in_the_mean() -> None:
    x = numbers((1, 500)).repeat(400, axis=0)
    got = np.asarray(halves.at_random(x, jax.random.key(0)), np.float64)
    near = np.asarray(x.astype(jnp.bfloat16), np.float64)
    x = np.asarray(x, np.float64)
    place = np.abs(x) * 2**-7
    assert np.all(np.abs(got - x) < place)
    assert np.all(np.abs(near - x) <= place)
    assert np.max(np.abs(got.mean(axis=0) - x[0]) / place[0]) < 5 * 0.5 / np.sqrt(400)
    special = jnp.asarray([np.nan, np.inf, -np.inf, 0.0], jnp.float32)
    np.testing.assert_array_equal(np.asarray(halves.at_random(special, jax.random.key(0))), np.asarray(special))


def arrives(target: jax.Array, params: jax.Array, dtype: Any) -> np.ndarray:
    step = step_to(target, params, np.dtype(params.dtype)).astype(dtype)
    return np.asarray(gradtx.apply_updates(params, step) == target)


@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0])
def test_a_step_in_bfloat16_leads_exactly_to_a_point_within_twice(ratio: float) -> None:
    """Sterbenz: their difference has no more places than they have."""
    params = bfloat16s(200_000, 0, 0x1000, 0x6F00)
    factors = ratio ** jax.random.uniform(jax.random.key(0), params.shape, minval=-1.0)
    target = (params.astype(jnp.float32) * factors).astype(jnp.bfloat16)
    inside = np.abs(target.astype(jnp.float32)) >= np.abs(params.astype(jnp.float32)) / 2
    assert np.all(arrives(target, params, jnp.bfloat16)[np.asarray(inside)])


def test_a_step_in_float32_leads_exactly_to_any_point_that_is_not_far_smaller() -> None:
    params, target = bfloat16s(400_000, 1, 0x2000, 0x6000), bfloat16s(400_000, 2, 0x2000, 0x6000)
    ratio = np.abs(np.asarray(params, np.float64)) / np.abs(np.asarray(target, np.float64))
    hit = arrives(target, params, jnp.float32)
    assert np.all(hit[ratio < 2.0**15])
    assert not np.all(hit)  # what the docstring says is not exact


def test_a_step_in_bfloat16_misses_by_a_rounding_of_itself() -> None:
    params = jnp.asarray(np.random.default_rng(0).standard_normal(200_000), jnp.bfloat16)
    target = jnp.asarray(np.random.default_rng(1).standard_normal(200_000), jnp.bfloat16)
    step = step_to(target, params, np.dtype(jnp.bfloat16)).astype(jnp.bfloat16)
    got = gradtx.apply_updates(params, step)
    miss = np.abs(np.asarray(got, np.float64) - np.asarray(target, np.float64))
    roundings = np.abs(np.asarray(step, np.float64)) + np.abs(np.asarray(got, np.float64))
    assert np.all(miss <= 2.0**-8 * roundings)
    same = (np.asarray(params) > 0) == (np.asarray(target) > 0)
    larger = np.abs(np.asarray(target, np.float64)) > np.abs(np.asarray(params, np.float64))
    assert np.mean(miss[same & larger] == 0) > 0.95


@pytest.mark.parametrize("remainders", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("grad_dtype", ["half", "float32"])
def test_masters_go_as_float32_parameters_would(remainders: bool, dtype: str, grad_dtype: str) -> None:
    """100 small steps: the master is to the bit what float32 parameters are, and the parameters are it, rounded."""
    start = jnp.asarray(np.random.default_rng(0).uniform(0.5, 4, 3000), dtype)
    tx, plain = gradtx.master_weights(gradtx.adam(1e-4), remainders=remainders), gradtx.adam(1e-4)
    params, whole = start, start.astype(jnp.float32)
    state, expected = tx.init(params), plain.init(whole)
    step, plain_step = jax.jit(tx.update), jax.jit(plain.update)
    for i in range(100):
        grads = jnp.sin(jnp.arange(3000.0) + i).astype(dtype if grad_dtype == "half" else jnp.float32)
        updates, state = step(grads, state, params)
        assert updates.dtype == grads.dtype
        params = gradtx.apply_updates(params, updates)
        moves, expected = plain_step(grads.astype(jnp.float32), expected)
        whole = gradtx.apply_updates(whole, moves)
    low = state.master
    master = halves.with_low_bits(params, low) if low.dtype == jnp.int16 else low
    assert (low.dtype == jnp.int16) == (remainders and dtype == "bfloat16")
    np.testing.assert_allclose(np.asarray(master), np.asarray(whole), rtol=1e-6)
    if remainders and dtype == "bfloat16":
        np.testing.assert_array_equal(np.asarray(params), np.asarray(halves.nearest_away(master).astype(dtype)))
    else:
        np.testing.assert_array_equal(np.asarray(params), np.asarray(master.astype(dtype)))
    # Rounded to nearest without a master, most of it is lost.
    naive = start
    expected = plain.init(start)
    for i in range(100):
        updates, expected = plain_step(jnp.sin(jnp.arange(3000.0) + i).astype(dtype), expected)
        naive = gradtx.apply_updates(naive, updates)
    gone = np.abs(np.asarray(whole, np.float64) - np.asarray(start, np.float64)).mean()
    lost = np.abs(np.asarray(naive, np.float64) - np.asarray(whole, np.float64)).mean()
    assert lost > 0.1 * gone if dtype == "bfloat16" else lost > 0


def test_low_bits_give_every_float32_back() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0x00800000, 0x7F7F0000, 500_000) | (rng.integers(2, size=500_000) << 31)
    x = jax.lax.bitcast_convert_type(jnp.asarray(bits.astype(np.uint32)), jnp.float32)
    ties = jax.lax.bitcast_convert_type(jnp.asarray((bits & ~0xFFFF | 0x8000).astype(np.uint32)), jnp.float32)
    for each in (x, ties):
        high = halves.nearest_away(each).astype(jnp.bfloat16)
        back = halves.with_low_bits(high, halves.low_bits(each, high))
        np.testing.assert_array_equal(np.asarray(back), np.asarray(each))


def test_parameters_of_other_dtypes_have_no_master_and_no_noise() -> None:
    params = {"half": jnp.ones(3, jnp.bfloat16), "single": jnp.ones(3), "none": None}
    grads = {"half": None, "single": jnp.full(3, 0.5), "none": None}
    for wrap in (gradtx.master_weights, gradtx.stochastic_round):
        tx: Any = wrap(gradtx.sgd(0.1))
        updates, state = tx.update(grads, tx.init(params), params)
        np.testing.assert_allclose(np.asarray(updates["single"]), -0.05)
        assert updates["half"] is None
        if wrap is gradtx.master_weights:
            assert state.master["single"] is None
            assert state.master["half"].dtype == jnp.float32


def test_stochastic_rounding_comes_last_in_a_chain_of_bfloat16() -> None:
    tx = gradtx.chain(gradtx.sgd(1.0), gradtx.stochastic_round(gradtx.identity(), 3))
    params = jnp.ones(4000, jnp.bfloat16)
    updates, _ = tx.update(jnp.full_like(params, 1e-3), tx.init(params), params)
    assert updates.dtype == jnp.bfloat16
    places = set(np.asarray(gradtx.apply_updates(params, updates), np.float64).tolist())
    assert places == {1.0, 1 - 2**-8}


def test_state_rounded_at_random_follows_a_slow_average() -> None:
    """With a decay of .999 an update of nu is below the last place of bfloat16; to nearest it stands still."""
    params = jnp.zeros((100, 100))
    found = {}
    wrap: Any = partial(gradtx.state_dtype, gradtx.scale_by_rms(0.999), "bfloat16")
    for rounding, key in (("nearest", None), ("stochastic", 0)):
        tx = wrap(rounding=rounding, key=key)

        def step(state: Any, _: Any, tx: Any = tx) -> Any:
            return tx.update(jnp.ones_like(params), state, params)[1], None

        state = jax.lax.scan(step, tx.init(params), length=2000)[0]
        found[rounding] = float(jnp.mean(state.inner_state.nu.decode()))
    assert found["nearest"] < 0.6
    assert found["stochastic"] == pytest.approx(1 - 0.999**2000, abs=0.01)
