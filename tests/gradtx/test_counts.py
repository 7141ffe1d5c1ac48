"""States that come from outside: restored as NumPy arrays, and counts that are other integers, or floats."""

from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx

from .problem import assert_close
from .row import Row
from .table import BY_NAME, TABLE, each, says_more

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.full(2, 0.5)}
GRADS = jax.tree.map(lambda leaf: 0.5 * leaf, PARAMS)
KINDS = (int, np.int64, np.int32, lambda count: np.array(int(count)), jnp.float32, np.float32)


def with_counts(state: Any, kind: Any) -> Any:
    """The state with each of its counts made by `kind`."""

    def change(path: Any, leaf: Any) -> Any:
        return kind(leaf) if getattr(path[-1], "name", "") == "count" else leaf

    return jax.tree.map_with_path(change, state)


def second_update(row: Row, change: Any) -> Any:
    """The second update, without `jit`, of a state that `change` has changed, and the state before that."""
    tx = row.make()
    extra = row.extra(PARAMS, GRADS) if row.extra else {}
    _, state = tx.update(GRADS, tx.init(PARAMS), PARAMS, **extra)
    return tx.update(GRADS, change(state), PARAMS, **extra)


def from_bytes(state: Any) -> Any:
    return flax.serialization.from_bytes(state, flax.serialization.to_bytes(state))


@each(TABLE, says_more)
def test_restored_states_go_on_without_jit(row):
    expected = second_update(row, lambda state: state)
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(expected)]
    for restore in (jax.device_get,) if any(is_key) else (jax.device_get, from_bytes):  # Flax writes no typed keys
        actual = second_update(row, restore)
        assert jax.tree.structure(actual) == jax.tree.structure(expected)
        # The same programs on the same numbers.
        assert_close(actual, expected, rtol=0)


COUNTING = ("adam", "sgd-momentum", "lion", "nag", "ema", "bias_correction", "adam-scheduled", "scale_by_rms-corrected")


@pytest.mark.parametrize("name", [*COUNTING, "learned.scale_by_mlp", "add_decayed_weights", "scale_by_schedule"])
def test_a_count_of_another_kind(name):
    expected = second_update(BY_NAME[name], lambda state: state)
    for kind in KINDS:
        actual = second_update(BY_NAME[name], lambda state, kind=kind: with_counts(state, kind))
        assert_close(actual, expected, rtol=0)


def test_eval_params_of_a_restored_state():
    tx = gradtx.sgd(0.1, 0.9, nesterov=True)
    _, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    expected = tx.eval_params(PARAMS, state)
    for kind in KINDS:
        assert_close(tx.eval_params(PARAMS, with_counts(jax.device_get(state), kind)), expected, rtol=0)


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_safe_increment(jit):
    increment = jax.jit(gradtx.safe_increment) if jit else gradtx.safe_increment
    last = np.iinfo(np.int32).max
    for kind in KINDS:
        assert increment(kind(jnp.int32(5))) == 6
    for count in (last, np.int64(last), np.int32(last), jnp.int32(last), np.array(last)):
        assert increment(count) == last
    assert increment(np.int8(127)) == 127
    assert increment(jnp.float32(2**24)) == 2**24
    assert increment(jnp.float32(7)).dtype == jnp.float32
