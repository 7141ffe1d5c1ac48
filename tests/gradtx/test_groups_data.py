"""Groups as data: names, states, saving, sweeps, factors by rule, and what `describe` says."""

from __future__ import annotations

import json
import pickle
import re
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

from .network import first, halved, is_narrow, model, rules
from .rows.groups import by_kind, vectors

A, B = gradtx.sgd(0.1), gradtx.sgd(0.2)


# Groups as data


def test_numbers_are_named_by_their_groups() -> None:
    tx = rules()
    names = gradtx.hyperparams(tx)
    assert names["*bias.learning_rate"] == 0.1
    for name, value in names.items():
        assert gradtx.hyperparams(tx.replace({name: value / 2}))[name] == value / 2
    assert tx.replace({"*bias.learning_rate": 0.2})["*bias"] == gradtx.sgd(0.2)
    assert gradtx.current(tx, tx.init(model()))["*bias.learning_rate"] == jnp.float32(0.1)
    dotted = gradtx.partition({re.compile(r".*\.w"): gradtx.sgd(0.1), "*": gradtx.sgd(0.2)})
    assert dotted.replace({r".*\.w.learning_rate": 0.3})[r".*\.w"] == gradtx.sgd(0.3)
    with pytest.raises(KeyError, match="partition has no group 'head'"):
        tx["head"]


def test_the_repr_makes_it_again() -> None:
    tx = gradtx.partition({re.compile("^a"): gradtx.scale(0.5), "*": gradtx.freeze()})
    assert repr(tx) == "partition({re.compile('^a'): scale(step_size=0.5), '*': freeze()})"
    assert eval(repr(tx), vars(gradtx) | {"re": re}) == tx
    labels = gradtx.partition({"a": gradtx.scale(0.5)}, {"w": "a"})
    assert repr(labels) == "partition({'a': scale(step_size=0.5)}, param_labels={'w': 'a'})"
    assert repr(gradtx.scale_by_rule({"a": 2.0, "*": 1.0})) == "scale_by_rule({'a': 2.0, '*': 1.0})"


SAVED = (
    gradtx.partition(
        {re.compile("^a", re.IGNORECASE): gradtx.sgd(0.1), gradtx.by_rank(2): gradtx.freeze("b*"), "*": gradtx.sgd(0.3)}
    ),
    gradtx.partition({gradtx.by_path("a", re.compile("b")): gradtx.adam(0.1)}),
    gradtx.partition({"z": gradtx.sgd(0.1), "a": gradtx.sgd(0.2)}, {"w": "a", "b": {"c": "z"}}),
    gradtx.masked(gradtx.sgd(0.1), {"w": True, "b": False}),
    gradtx.selective_transform(gradtx.sgd(0.1), freeze_mask="embed/*"),
    gradtx.scale_by_rule({"head/*": gradtx.linear_schedule(1.0, 0.0, 5), gradtx.by_rank(2): 2.0}),
    gradtx.layerwise_decay(0.5, ["embed/*", gradtx.by_path("a", "b"), re.compile("$")]),
)  # fmt: skip


@pytest.mark.parametrize("tx", SAVED, ids=repr)
def test_compares_saves_and_pickles(tx: Any) -> None:
    saved = json.loads(json.dumps(gradtx.to_config(tx)))
    for same in (gradtx.from_config(saved), pickle.loads(pickle.dumps(tx)), tx.replace()):
        assert same == tx
        assert hash(same) == hash(tx)
        assert repr(same) == repr(tx)
    assert jax.tree.map(lambda leaf: leaf + 1, tx) != tx if jax.tree.leaves(tx) else True


@pytest.mark.parametrize(
    ("tx", "place"),
    [
        (gradtx.partition({"matrix": gradtx.sgd(0.1)}, by_kind), "param_labels: the plain function by_kind"),
        (gradtx.partition({by_kind: gradtx.sgd(0.1)}), "groups[0]: the plain function by_kind"),
        (gradtx.partition({gradtx.by_rule(is_narrow): A}), "groups[0].predicate: the plain function is_narrow"),
        (gradtx.masked(gradtx.sgd(0.1), vectors), "mask: the plain function vectors"),
    ],
    ids=["labels", "a rule", "a predicate", "a mask"],
)  # fmt: skip
def test_functions_are_refused_by_name(tx: Any, place: str) -> None:
    with pytest.raises(TypeError, match=re.escape(place)):
        gradtx.to_config(tx)


def test_a_sweep_over_two_groups_is_one_program() -> None:
    params = model()
    rates = jnp.array([0.1, 0.2, 0.3])

    def train(tx: Any) -> Any:
        state, here = tx.init(params), params
        for _ in range(3):
            updates, state = tx.update(here, state, here)
            here = gradtx.apply_updates(here, updates)
        return here

    def make(kernel: Any, other: Any) -> Any:
        return gradtx.partition({"*kernel": gradtx.adam(kernel), "*": gradtx.sgd(other, momentum=0.9)})

    txs = make(rates, 2 * rates)
    swept = jax.jit(jax.vmap(train, in_axes=(gradtx.batch_axes(txs),)))(txs)
    once = jax.jit(chex.assert_max_traces(1)(train))
    for i, rate in enumerate([0.1, 0.2, 0.3]):
        alone = once(make(rate, 2 * rate))
        chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[i], swept), alone, rtol=1e-5)  # noqa: B023


@pytest.mark.usefixtures("x64")
def test_hypergradients_go_through_groups() -> None:
    params = jax.tree.map(lambda leaf: leaf.astype(float), model())

    def loss(tx: Any) -> Any:
        state, here = tx.init(params), params
        for _ in range(3):
            updates, state = tx.update(here, state, here)
            here = gradtx.apply_updates(here, updates)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(here))

    tx = gradtx.partition({"*kernel": gradtx.adam(0.1), "embed/*": gradtx.freeze(), "*": gradtx.sgd(0.2)})
    tx = gradtx.chain(tx, gradtx.scale_by_rule({"head/*": 0.5, "*": 1.0}))
    slopes = gradtx.hyperparams(jax.grad(loss)(tx))
    for name in ("0.*kernel.learning_rate", "0.*.learning_rate", "1.head/*", "1.*"):
        value, far = gradtx.hyperparams(tx)[name], 1e-6
        difference = loss(tx.replace({name: value + far})) - loss(tx.replace({name: value - far}))
        # Central differences: their error is far squared, and rounding over far.
        np.testing.assert_allclose(slopes[name], difference / (2 * far), rtol=1e-6)
        assert slopes[name] != 0


# States


def test_frozen_parameters_have_no_state() -> None:
    params = model()
    frozen = [gradtx.freeze(), gradtx.set_to_zero()]
    for still in frozen:
        state = gradtx.partition({"head/*": gradtx.adam(0.1), "*": still}).init(params)
        assert state.inner_states["*"] == gradtx.EmptyState()
        assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * 10 + 2  # mu, nu and two counts


def test_optax_s_chain_of_adam_and_freeze_keeps_a_state_for_what_is_frozen() -> None:
    params = model()
    mask = {"embed": True, "body": True, "head": False}

    def numbers(state: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)

    everything = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert numbers(optax.chain(optax.adam(0.1), optax.masked(optax.set_to_zero(), mask)).init(params)) == 2 * everything
    assert numbers(gradtx.selective_transform(gradtx.adam(0.1), freeze_mask=mask).init(params)) == 2 * 10


def test_none_stays_none_and_params_may_be_missing() -> None:
    params, tx = model(), gradtx.partition({"*bias": gradtx.trace(0.9), "*": gradtx.scale_by_adam()})
    state = tx.init(params)
    grads = {**params, "embed": {"table": None}, "head": {**params["head"], "bias": None}}
    for given in (params, None):
        updates, new = tx.update(grads, state, given)
        assert updates["embed"]["table"] is None
        assert updates["head"]["bias"] is None
        chex.assert_trees_all_equal_structs(new, state)
        assert not np.any(new.inner_states["*"].mu["embed"]["table"])
    tx = gradtx.partition({"*": gradtx.adamw(0.1)})
    with pytest.raises(ValueError, match="add_decayed_weights needs params"):
        tx.update(params, tx.init(params))


def test_names_are_unique() -> None:
    tx = gradtx.partition({"a*": gradtx.sgd(1.0), re.compile("a*"): gradtx.sgd(2.0), "*": gradtx.sgd(3.0)})
    assert list(tx.init({"a": jnp.ones(1)}).inner_states) == ["a*", "a* (2)", "*"]
    assert tx["a* (2)"] == tx[re.compile("a*")] == gradtx.sgd(2.0)


def test_states_of_other_groups_are_refused() -> None:
    params = model()
    state = gradtx.partition({"*": gradtx.sgd(0.1)}).init(params)
    tx = gradtx.partition({"a": gradtx.sgd(0.1), "*": gradtx.sgd(0.1)})
    with pytest.raises(TypeError, match=r"states for the groups \['a', '\*'\], got \['\*'\]"):
        tx.update(params, state, params)


def test_optax_s_state_is_taken_over() -> None:
    params = model()
    labels = by_kind(params)
    ours, theirs = (
        lib.partition({"matrix": lib.adam(0.1), "other": lib.sgd(0.1, momentum=0.9)}, labels) for lib in (gradtx, optax)
    )
    grads = jax.tree.map(jnp.ones_like, params)
    with jax.numpy_dtype_promotion("standard"):
        _, restored = theirs.update(grads, theirs.init(params), params)
        expected, _ = theirs.update(grads, restored, params)
    state = gradtx.interop.from_optax(ours, restored, params)
    chex.assert_trees_all_close(ours.update(grads, state, params)[0], expected, rtol=2e-5)


# Factors


def test_factors_by_rule() -> None:
    params = model()
    line = gradtx.linear_schedule(1.0, 0.0, 4)
    tx = gradtx.scale_by_rule({"head/*": 10.0, "*bias": line, "*": 0.5})
    state = tx.init(params)
    grads = jax.tree.map(jnp.ones_like, params)
    for bias in (1.0, 0.75):
        assert gradtx.current(tx, state)["*bias"] == bias
        updates, state = tx.update(grads, state)
        assert [float(leaf.ravel()[0]) for leaf in jax.tree.leaves(updates)] == [bias, 0.5, 0.5, 10.0, 10.0]
    assert gradtx.hyperparams(tx.replace({"head/*": 3.0}))["head/*"] == 3.0
    swept = jax.vmap(lambda factor: first(tx.replace({"head/*": factor}), params)["head"]["bias"])(jnp.arange(3.0))
    chex.assert_trees_all_equal(swept[:, 0], jnp.arange(3.0))


def test_layerwise_decay_is_a_power_of_the_depth() -> None:
    tx = gradtx.layerwise_decay(0.5, ["embed/*", "body/*", "head/*"])
    assert [float(leaf.ravel()[0]) for leaf in jax.tree.leaves(first(tx, model()))] == [0.5, 0.5, 0.25, 1.0, 1.0]


# Describe


def test_describe_tells_where_each_parameter_goes() -> None:
    tx = gradtx.partition({"*bias": gradtx.sgd(0.1), "embed/*": gradtx.freeze(), "*": gradtx.adam(0.01)})
    expected = """\
parameter    type           group
-----------------------------------
body/bias    float32[4]     *bias
body/kernel  float32[4, 4]  *
embed/table  float32[5, 4]  embed/*
head/bias    float32[2]     *bias
head/kernel  float32[4, 2]  *

group    arrays  numbers  state bytes
---------------------------------------------------------------------------------------------------
*bias         2        6            4  sgd(learning_rate=0.1, momentum=None)
embed/*       1       20            0  freeze()
*             2       24          200  adam(learning_rate=0.01, b1=0.9, b2=0.999, eps=1e-08, eps...
total         5       50          204"""
    assert str(gradtx.describe(tx, model())) == expected


@pytest.mark.parametrize("tx", [gradtx.adamw(0.1), gradtx.chain(gradtx.trace(0.9), rules()), halved(rules())], ids=repr)
def test_described_bytes_are_those_of_the_state(tx: Any) -> None:
    params = model()
    found = gradtx.describe(tx, jax.eval_shape(lambda: params))
    assert found.state_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(tx.init(params)))
    assert sum(group.leaves for group in found.groups) == 5
    assert sum(group.parameters for group in found.groups) == 50


def test_describe_several_stages_with_groups() -> None:
    tx = gradtx.chain(
        gradtx.trace(0.9), rules(), gradtx.scale_by_rule({"*bias": 2.0, "*": 1.0}), gradtx.freeze("head/*")
    )
    found = gradtx.describe(tx, model())
    assert found.parameters[3].groups == ("1 > *bias", "2 > *bias", "3 > by_path('head/*')")
    assert "outside of groups" in str(found)
    theirs: Any = optax.adam(0.1)
    with pytest.raises(TypeError, match="describe"):
        gradtx.describe(theirs, model())


def test_layers_are_a_sequence() -> None:
    layers: Any = {"*": 1}
    with pytest.raises(ValueError, match=r"layerwise_decay needs a rule for each layer, got \{'\*': 1\}"):
        gradtx.layerwise_decay(0.5, layers)
    layers = "abc"
    with pytest.raises(TypeError, match=r"`layers` must be a tuple or dict, got 'abc' \(str\)"):
        gradtx.layerwise_decay(0.5, layers)
