"""What is saved: configuration and state with Orbax, pickles, and the key paths, which are the checkpoint format."""

import json
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


# A change here is a change of the checkpoint format: say so in the changelog.
KEYS = {
    "sgd": (gradtx.sgd(0.1), ["[1].count"]),
    "sgd(momentum)": (gradtx.sgd(0.1, 0.9), ["[0].trace['w']", "[1].count"]),
    "nag": (gradtx.nag(0.1), [".count", ".trace['w']"]),
    "adagrad": (gradtx.adagrad(0.1), ["[0].sum_of_squares['w']", "[1].count"]),
    "adadelta": (gradtx.adadelta(), ["[1].e_g['w']", "[1].e_x['w']", "[2].count"]),
    "adadelta(weight_decay)": (
        gradtx.adadelta(weight_decay=0.1),
        ["[0].count", "[1].e_g['w']", "[1].e_x['w']", "[2].count"],
    ),
    "rmsprop": (gradtx.rmsprop(0.1), ["[0].nu['w']", "[1].count"]),
    "rmsprop(all)": (
        gradtx.rmsprop(0.1, momentum=0.9, bias_correction=True),
        ["[0].count", "[0].nu['w']", "[1].count", "[2].trace['w']"],
    ),
    "adam": (gradtx.adam(0.1), ["[0].count", "[0].mu['w']", "[0].nu['w']", "[1].count"]),
    "adam(schedule)": (
        gradtx.adam(gradtx.linear_schedule(0.1, 0.0, 9)),
        ["[0].count", "[0].mu['w']", "[0].nu['w']", "[1].count"],
    ),
    "adamw": (gradtx.adamw(0.1), ["[0].count", "[0].mu['w']", "[0].nu['w']", "[1].count", "[2].count"]),
    "adamw(mask)": (
        gradtx.adamw(0.1, mask={"w": True}),
        ["[0].count", "[0].mu['w']", "[0].nu['w']", "[1].count", "[2].count"],
    ),
    "ema": (gradtx.ema(0.9), [".count", ".ema['w']"]),
    "bias_correction": (gradtx.bias_correction(0.9), [".count"]),
    "scale_by_schedule": (gradtx.scale_by_schedule(0.1), [".count"]),
    "without state": (
        gradtx.chain(
            gradtx.clip(1.0),
            gradtx.clip_by_global_norm(1.0),
            gradtx.identity(),
            gradtx.scale(1.0),
            gradtx.set_to_zero(),
        ),
        [],
    ),
    "scale_by_lbfgs": (
        gradtx.scale_by_lbfgs(2),
        [
            ".count",
            ".pairs",
            ".params['w']",
            ".updates['w']",
            ".diff_params_memory['w']",
            ".diff_updates_memory['w']",
            ".weights_memory",
            ".scale",
        ],
    ),
    "scale_by_newton": (gradtx.scale_by_newton(), [".negative"]),
    "scale_by_newton_cg": (
        gradtx.scale_by_newton_cg(),
        [
            ".count",
            ".products",
            ".damping",
            ".norm",
            ".params['w']",
            ".updates['w']",
            ".value",
            ".slope",
            ".curved",
        ],
    ),
    "scale_by_stochastic_lbfgs": (
        gradtx.scale_by_stochastic_lbfgs(2),
        [
            ".count",
            ".total['w']",
            ".params['w']",
            ".pairs",
            ".diff_params_memory['w']",
            ".diff_updates_memory['w']",
            ".weights_memory",
            ".scale",
        ],
    ),
    "scale_by_zoom_linesearch": (
        gradtx.scale_by_zoom_linesearch(5),
        [".learning_rate", ".value", ".grad['w']", ".evaluations", ".outcome"],
    ),
    "scale_by_lstm": (
        gradtx.learned.scale_by_lstm(gradtx.learned.lstm_weights(jax.random.key(0))),
        [".memory['w']"],
    ),
    "scale_by_mlp": (
        gradtx.learned.scale_by_mlp(gradtx.learned.mlp_weights(jax.random.key(0))),
        [".count", ".nu['w']", ".mu['w']"],
    ),
    "chain": (gradtx.chain(gradtx.clip(1.0), gradtx.sgd(0.1, 0.9)), ["[1][0].trace['w']", "[1][1].count"]),
    "named_chain": (
        gradtx.named_chain(("slow", gradtx.ema(0.9)), ("rate", gradtx.scale_by_learning_rate(0.1))),
        ["['rate'].count", "['slow'].count", "['slow'].ema['w']"],
    ),
}


@pytest.mark.parametrize("name", KEYS)
def test_key_paths_of_a_state(name):
    tx, expected = KEYS[name]
    state = jax.eval_shape(tx.init, {"w": jnp.ones(3)})
    assert [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(state)] == expected


def test_key_paths_cover_every_state():
    """Each class of state the library has stands in a snapshot above."""
    kinds = {
        type(node).__name__ for tx, _ in KEYS.values() for node in _nodes(jax.eval_shape(tx.init, {"w": jnp.ones(3)}))
    }
    public = [getattr(gradtx, name) for name in dir(gradtx)]
    modules = {f.__module__ for f in public if getattr(f, "__module__", "").startswith("gradtx.")}
    every = {name for module in modules for name in vars(__import__(module, fromlist=["*"])) if name.endswith("State")}
    assert every <= kinds


def _nodes(tree: Any) -> list[Any]:
    if not isinstance(tree, (tuple, dict)):
        return []
    children = tree.values() if isinstance(tree, dict) else tree
    return [tree, *(node for child in children for node in _nodes(child))]


def test_configuration_is_json_that_a_person_can_read(tmp_path):
    text = json.dumps(gradtx.to_config(gradtx.sgd(0.1, 0.9)))
    assert text == (
        '{"version": 1, "name": "gradtx.sgd", "arguments": {"learning_rate": 0.1, "momentum": 0.9, '
        '"nesterov": false, "accumulator_dtype": null}}'
    )
