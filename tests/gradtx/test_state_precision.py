"""State in other dtypes: bytes, training, sharding, checkpoints, refusals."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx
from gradtx._precision import int8

from .sizes import numbers


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


def test_codecs_may_be_around_each_other() -> None:
    params = {"a": numbers((64, 80)), "b": numbers((80, 64))}
    inner = gradtx.quantize_state(gradtx.adam(0.1), {"*/nu": "int8"})
    nested = gradtx.quantize_state(inner, {"*/mu": "bfloat16"})
    flat = gradtx.quantize_state(gradtx.adam(0.1), {"*/nu": "int8", "*/mu": "bfloat16"})
    states = nested.init(params), flat.init(params)
    for grads in (params, {"a": params["a"], "b": None}, params):  # a leaf without a gradient keeps its code
        (got, one), (expected, other) = (
            tx.update(grads, s, params) for tx, s in zip((nested, flat), states, strict=True)
        )
        assert jax.tree.structure(one) == jax.tree.structure(states[0])
        states = one, other
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)
    moved = gradtx.interop.adopt(nested, states[1], params)
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(states[0]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_random_keys_in_a_state_stay_as_they_are() -> None:
    tx = gradtx.quantize_state(gradtx.stochastic_round(gradtx.adam(0.1)))
    params = numbers((64, 80)).astype(jnp.bfloat16)
    state = tx.init(params)
    assert jax.tree.structure(tx.update(params, state, params)[1]) == jax.tree.structure(state)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: gradtx.quantize_state(gradtx.adam(0.1), "int4"), "int8, float8_e4m3fn, float8_e5m2, bfloat16 or None"),
    (lambda: gradtx.quantize_state(gradtx.adam(0.1), {"*": "float16"}), "float16"),
    (lambda: gradtx.quantize_state(gradtx.adam(0.1), {3: "int8"}), "a rule is a pattern"),
    (lambda: gradtx.quantize_state(gradtx.adam(0.1), block_size=0), "block_size"),
    (lambda: gradtx.state_dtype(gradtx.adam(0.1), "int8"), "floating"),
    (lambda: gradtx.state_dtype(gradtx.adam(0.1), "complex64"), "floating"),
    (lambda: gradtx.state_dtype(gradtx.adam(0.1), "bfloat16", rounding="stochastic"), "needs `key`"),
    (lambda: gradtx.state_dtype(gradtx.adam(0.1), "float16", rounding="stochastic", key=0), "is for bfloat16"),
    (lambda: gradtx.stochastic_round(gradtx.adam(0.1), key=None).init(numbers((2,))), "a random key or a seed"),
    (lambda: gradtx.stochastic_round(gradtx.adam(0.1), key=1.5).init(numbers((2,))), "got 1.5"),
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
