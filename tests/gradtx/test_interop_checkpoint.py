"""What is saved: configuration and state with Orbax, and pickles. Key paths are in `test_snapshots.py`."""

import pickle
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import gradtx
from gradtx.interop import from_optax

PARAMS = {"w": jnp.array([1.0, -2.0, 3.0]), "b": jnp.ones(2, jnp.bfloat16)}


def after_two_steps(tx: Any, state: Any = None) -> Any:
    """The state."""
    state = tx.init(PARAMS) if state is None else state
    for _ in range(2):
        _, state = tx.update(PARAMS, state, PARAMS)
    return state


def assert_same(got: Any, expected: Any) -> None:
    """Structure, values, dtypes."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    assert jax.tree.map(jax.typeof, got) == jax.tree.map(jax.typeof, expected)
    chex.assert_trees_all_equal(got, expected)


SAVED = {
    "adamw": gradtx.adamw(gradtx.warmup_cosine_decay_schedule(0.0, 0.1, 2, 9), mask={"w": True, "b": False}),
    "array leaves": gradtx.rmsprop(jnp.float32(0.1), momentum=np.float32(0.5)),
    "named": gradtx.named_chain(("clip", gradtx.clip(1.0)), ("nag", gradtx.nag(0.1))),
}


@pytest.mark.parametrize("name", SAVED)
def test_orbax_saves_the_configuration_and_the_state(name, tmp_path):
    tx = SAVED[name]
    state = after_two_steps(tx)
    path = tmp_path / "checkpoint"
    args = ocp.args
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(path, args.Composite(tx=args.JsonSave(gradtx.to_config(tx)), state=args.StandardSave(state)))
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        config = checkpointer.restore(path, args.Composite(tx=args.JsonRestore())).tx
        again = gradtx.from_config(config)
        target = jax.eval_shape(again.init, PARAMS)
        restored = checkpointer.restore(path, args.Composite(state=args.StandardRestore(target))).state
    assert again == tx
    assert_same(restored, state)
    assert_same(after_two_steps(again, restored), after_two_steps(tx, state))


def test_orbax_restores_a_state_without_a_target(tmp_path):
    tx = SAVED["adamw"]
    state = after_two_steps(tx)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "state")
    assert isinstance(restored, list)
    with pytest.raises(TypeError, match="expected a tuple of 3 states, got list of 3"):
        tx.update(PARAMS, restored, PARAMS)
    assert_same(from_optax(tx, restored, PARAMS), state)


@pytest.mark.parametrize("name", SAVED)
def test_transformations_and_states_pickle(name):
    tx = SAVED[name]
    state = after_two_steps(tx)
    again, restored = pickle.loads(pickle.dumps((tx, state)))
    assert again == tx
    assert hash(again) == hash(tx)
    assert_same(restored, state)
    assert_same(after_two_steps(again, restored), after_two_steps(tx, state))
