"""Codecs of state, float32 masters of half-precision parameters, and rounding at random."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx
from gradtx._precision import float8, halves, int8
from gradtx._precision.blocks import join, split, tiles, tiles_of
from gradtx._precision.steps import step_to

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


def numbers(shape: tuple[int, ...], spread: float = 2.0, seed: int = 0) -> jax.Array:
    """Of both signs and of many sizes."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal(shape) * np.exp(spread * rng.standard_normal(shape)), jnp.float32)


def bfloat16s(count: int, seed: int, least: int = 1, most: int = 0x7F7F) -> jax.Array:
    """Random bit patterns of finite bfloat16, both signs."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(least, most, count, endpoint=True) | (rng.integers(2, size=count) << 15)
    return jax.lax.bitcast_convert_type(jnp.asarray(bits.astype(np.uint16)), jnp.bfloat16)


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


# Wrappers


def bytes_of(tx: Any, params: Any) -> float:
    """Bytes of state a parameter."""
    state = jax.eval_shape(tx.init, params)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return held / sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(("wrap", "expected"), [
    (lambda tx: tx, 8.0),
    (gradtx.quantize_state, 2.03),
    (partial(gradtx.quantize_state, dtypes="float8_e5m2"), 2.03),
    (partial(gradtx.quantize_state, dtypes="bfloat16"), 6.0),
    (partial(gradtx.quantize_state, dtypes={"*/nu": "int8"}), 5.016),
    (partial(gradtx.state_dtype, dtypes={"*/mu": "bfloat16"}), 6.0),
])  # fmt: skip
def test_bytes_a_parameter(wrap: Any, expected: float) -> None:
    params = {"w": jax.ShapeDtypeStruct((768, 3072), jnp.float32), "b": jax.ShapeDtypeStruct((64,), jnp.float32)}
    assert bytes_of(wrap(gradtx.adam(1e-3)), params) == pytest.approx(expected, abs=0.005)


def test_bytes_of_masters() -> None:
    params = {"w": jax.ShapeDtypeStruct((768, 3072), jnp.bfloat16)}
    sgd = gradtx.sgd(0.1)
    assert bytes_of(gradtx.master_weights(sgd), params) == pytest.approx(4, abs=1e-3)
    assert bytes_of(gradtx.master_weights(sgd, remainders=True), params) == pytest.approx(2, abs=1e-3)


def test_rules_are_of_paths_in_the_state_and_of_nodes_above() -> None:
    params = {"embedding": jnp.ones((64, 64)), "nu": jnp.ones((64, 64)), "small": jnp.ones((3,))}
    tx = gradtx.quantize_state(gradtx.adam(1e-3), {"*/embedding": None, "/0/nu": "int8"})
    adam = tx.init(params).inner_state[0]
    encoded = {
        (field, name): isinstance(leaf, int8.Int8Blocks)
        for field in ("mu", "nu")
        for name, leaf in getattr(adam, field).items()
    }
    assert [place for place, yes in encoded.items() if yes] == [("nu", "nu")]
    assert "bfloat16" in repr(gradtx.state_dtype(gradtx.adam(1e-3), {"*/mu": jnp.bfloat16}))


def gradients(params: Any, step: Any) -> Any:
    """Ill-scaled ones with noise."""
    key = jax.random.fold_in(jax.random.key(1), step)
    return jax.tree.map(lambda p: p * jnp.linspace(0.1, 2, p.shape[-1])[None] + jax.random.normal(key, p.shape), params)


def train(tx: Any, steps: int = 60) -> jax.Array:
    params = {"w": numbers((64, 80), 0.5)}

    def step(carry: Any, i: jax.Array) -> Any:
        params, state = carry
        updates, state = tx.update(gradients(params, i), state, params)
        return (gradtx.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(steps))[0][0]["w"]


@pytest.mark.parametrize(("dtypes", "most"), [("int8", 0.05), ("float8_e4m3fn", 0.1), ("bfloat16", 1e-4)])
def test_adam_stays_close(dtypes: str, most: float) -> None:
    """By the distance that it went: within about the relative error of an entry of its state."""
    start, exact = numbers((64, 80), 0.5), train(gradtx.adam(0.02))
    got = train(gradtx.quantize_state(gradtx.adam(0.02), dtypes))
    assert float(jnp.linalg.norm(got - exact) / jnp.linalg.norm(exact - start)) < most
    assert not np.array_equal(got, exact)


def test_a_root_keeps_the_steps_of_rare_gradients_right() -> None:
    """An entry whose gradient is 1e-4 of the largest has a second moment of 1e-8: 0 in a linear map of 8 bits."""
    sizes = jnp.asarray([1.0, 1e-4] * 2048, jnp.float32)
    tx = gradtx.quantize_state(gradtx.adam(0.1))
    updates, state = sizes, tx.init(sizes)
    for _ in range(5):
        updates, state = tx.update(sizes, state, sizes)
    # Each step is the rate, but for eps and the codec.
    np.testing.assert_allclose(np.asarray(updates), -0.1, rtol=0.15)


def test_sweeps_over_rates_are_loops() -> None:
    rates = jnp.asarray([0.01, 0.03], jnp.float32)
    txs = gradtx.quantize_state(gradtx.adam(rates))
    both = jax.vmap(partial(train, steps=5), in_axes=(gradtx.batch_axes(txs),))(txs)
    for i, rate in enumerate(rates):
        np.testing.assert_allclose(both[i], train(gradtx.quantize_state(gradtx.adam(rate)), 5), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [("x", None), (None, "x")])
@pytest.mark.parametrize("dtypes", ["int8", "float8_e4m3fn", "bfloat16"])
def test_codes_and_scales_are_sharded_as_the_parameter(kind: AxisType, spec: Any, dtypes: str) -> None:
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    there = NamedSharding(mesh, PartitionSpec(*spec))
    tx, plain = gradtx.quantize_state(gradtx.adam(0.1), dtypes), numbers((64, 2048))
    alone = jax.jit(tx.update)(plain, tx.init(plain))[0]
    with jax.set_mesh(mesh):
        params = jax.device_put(plain, there)
        state = tx.init(params)
        updates, state = jax.jit(tx.update)(params, state)
        for leaf in jax.tree.leaves(state):
            if leaf.ndim:
                assert leaf.sharding.is_equivalent_to(there, 2), leaf.sharding
    np.testing.assert_allclose(np.asarray(updates), np.asarray(alone), rtol=1e-5, atol=1e-7)


def test_a_mesh_that_cuts_through_blocks_works() -> None:
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
    tx, plain = gradtx.quantize_state(gradtx.adam(0.1)), numbers((8, 768))
    alone = jax.jit(tx.update)(plain, tx.init(plain))[0]
    with jax.set_mesh(mesh):
        params = jax.device_put(plain, NamedSharding(mesh, PartitionSpec(None, "x")))
        updates, _ = jax.jit(tx.update)(params, tx.init(params))
    np.testing.assert_allclose(np.asarray(updates), np.asarray(alone), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("wrap", [
    gradtx.quantize_state,
    partial(gradtx.quantize_state, dtypes="float8_e4m3fn"),
    partial(gradtx.quantize_state, dtypes="bfloat16"),
    partial(gradtx.state_dtype, dtypes="bfloat16"),
    partial(gradtx.master_weights, remainders=True),
    gradtx.stochastic_round,
])  # fmt: skip
def test_orbax_restores_the_state(wrap: Any, tmp_path: Any) -> None:
    ocp = pytest.importorskip("orbax.checkpoint")
    params = numbers((64, 80)).astype(jnp.bfloat16)
    tx = wrap(gradtx.adam(0.1))
    _, state = tx.update(params, tx.init(params), params)
    as_data = jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)
    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(tmp_path / "state", as_data)
    checkpointer.wait_until_finished()
    back = checkpointer.restore(tmp_path / "state", jax.eval_shape(lambda: as_data))
    assert jax.tree.structure(back) == jax.tree.structure(as_data)
    for got, expected in zip(jax.tree.leaves(back), jax.tree.leaves(as_data), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def test_a_state_pickles() -> None:
    tx = gradtx.quantize_state(gradtx.adam(0.1))
    state = jax.device_get(tx.init(numbers((64, 80))))
    back = pickle.loads(pickle.dumps(state))
    assert jax.tree.structure(back) == jax.tree.structure(state)


def test_nothing_is_lost_around_an_average_that_is_evaluated() -> None:
    tx = gradtx.quantize_state(gradtx.sgd(0.1, momentum=0.9, nesterov=True))
    params = numbers((64, 80))
    updates, state = tx.update(params, tx.init(params), params)
    plain = gradtx.sgd(0.1, momentum=0.9, nesterov=True)
    _, expected = plain.update(params, plain.init(params), params)
    got = tx.eval_params(params + updates, state)
    exact = plain.eval_params(params + updates, expected)
    np.testing.assert_allclose(got, exact, atol=0.02 * float(jnp.abs(exact).max()))


@pytest.mark.parametrize(("make", "words"), [
    (lambda: gradtx.quantize_state(gradtx.adam(0.1), "int4"), "int8, float8_e4m3fn, float8_e5m2, bfloat16 or None"),
    (lambda: gradtx.quantize_state(gradtx.adam(0.1), {"*": "float16"}), "float16"),
    (lambda: gradtx.quantize_state(gradtx.adam(0.1), {3: "int8"}), "a rule is a pattern"),
    (lambda: gradtx.quantize_state(gradtx.adam(0.1), block_size=0), "block_size"),
    (lambda: gradtx.state_dtype(gradtx.adam(0.1), "int8"), "floating"),
    (lambda: gradtx.state_dtype(gradtx.adam(0.1), "complex64"), "floating"),
    (lambda: gradtx.state_dtype(gradtx.adam(0.1), "bfloat16", rounding="stochastic"), "needs `key`"),
    (lambda: gradtx.state_dtype(gradtx.adam(0.1), "float16", rounding="stochastic", key=0), "is for bfloat16"),
    (lambda: gradtx.chain(gradtx.master_weights(gradtx.adam(0.1)), gradtx.scale(2.0)), "must come last"),
    (lambda: gradtx.chain(gradtx.stochastic_round(gradtx.adam(0.1)), gradtx.scale(2.0)), "must come last"),
])  # fmt: skip
def test_what_is_wrong_is_named(make: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        make()


def test_masters_of_other_parameters_are_refused() -> None:
    tx = gradtx.master_weights(gradtx.sgd(0.1))
    state = tx.init({"a": jnp.ones(2, jnp.bfloat16)})
    other = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2, jnp.bfloat16)}
    with pytest.raises(ValueError, match="of other parameters"):
        tx.update(other, state, other)


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
