"""Groups: their rules and labels, in any container; optax's numbers; what is refused."""

from __future__ import annotations

import dataclasses
import pickle
import re
from typing import Any, NamedTuple

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict

import gradtx

from .network import first, model, rules
from .problem import assert_close, iterate, problem
from .rows.groups import ADAM, labelled, vectors

A, B = gradtx.sgd(0.1), gradtx.sgd(0.2)
STEPS = 50
RTOL = 1e-12


# optax's numbers


def two_ways(ours: Any, theirs: Any) -> None:
    params, noise = problem(STEPS)
    path, _ = jax.jit(lambda p, n: iterate(ours, p, n))(params, noise)
    with jax.numpy_dtype_promotion("standard"):
        other, _ = jax.jit(lambda p, n: iterate(theirs, p, n, optax.apply_updates))(params, noise)
    assert_close(path, other, RTOL)


PEERS: dict[str, Any] = {
    "labels made by a function": (lambda: labelled(gradtx), lambda: labelled(optax)),
    "a prefix tree of labels": (
        lambda: gradtx.multi_transform({1: gradtx.adam(0.05), 2: gradtx.sgd(0.1)}, dict(PREFIX)),
        lambda: optax.multi_transform({1: optax.adam(0.05), 2: optax.sgd(0.1)}, dict(PREFIX)),
    ),
    "rules": (
        lambda: gradtx.partition({gradtx.by_rank(2): gradtx.adam(0.05, **ADAM), "*": gradtx.sgd(0.1, momentum=0.8)}),
        lambda: labelled(optax),
    ),
    "masked": (
        lambda: gradtx.chain(gradtx.masked(gradtx.trace(0.8), vectors), gradtx.scale(-0.1)),
        lambda: optax.chain(optax.masked(optax.trace(0.8), vectors), optax.scale(-0.1)),
    ),
    "freeze": (
        lambda: gradtx.chain(gradtx.adam(0.05), gradtx.freeze(dict(RANK_1))),
        lambda: optax.chain(optax.adam(0.05), optax.freeze(dict(RANK_1))),
    ),
    "selective_transform": (
        lambda: gradtx.selective_transform(gradtx.adam(0.05), freeze_mask=dict(RANK_1)),
        lambda: optax.selective_transform(optax.adam(0.05), freeze_mask=dict(RANK_1)),
    ),
}
PREFIX = {"big": 1, "nested": 2, "scalar": 1, "empty": 2}
RANK_1 = {"big": True, "nested": True, "scalar": False, "empty": True}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", PEERS)
def test_equals_optax(name: str) -> None:
    two_ways(*(make() for make in PEERS[name]))


@pytest.mark.usefixtures("x64")
def test_a_norm_sees_its_group_alone() -> None:
    params = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    clip = gradtx.clip_by_global_norm(1.0)
    updates, _ = clip.update(params, clip.init(params))
    chex.assert_trees_all_close(updates, {"a": jnp.array([0.6]), "b": jnp.array([0.8])})
    tx = gradtx.partition({"a": clip, "b": clip})
    updates, _ = tx.update(params, tx.init(params))
    chex.assert_trees_all_close(updates, {"a": jnp.array([1.0]), "b": jnp.array([1.0])})


# Rules


def test_the_first_rule_that_matches_wins() -> None:
    tx, last_two = rules(), rules().groups[2]
    found = gradtx.describe(tx, model())
    assert {p.path: p.groups for p in found.parameters} == {
        "embed/table": ("^embed/",),
        "body/kernel": ("by_rank(min_rank=2)",),
        "body/bias": ("*bias",),
        "head/kernel": (repr(last_two),),
        "head/bias": ("*bias",),
    }


def test_the_order_of_rules_is_kept() -> None:
    """JAX sorts the keys of a dict; the catch-all sorts before what it must not catch."""
    one, other = gradtx.sgd(1.0), gradtx.sgd(2.0)
    for tx in (gradtx.partition({"body/*": one, "*": other}), gradtx.partition({"*": one, "body/*": other})):
        expected = -1.0
        for same in (tx, pickle.loads(pickle.dumps(tx)), jax.tree.map(lambda leaf: leaf, tx)):
            updates = first(same, model())
            assert updates["body"]["bias"][0] == expected
            assert updates["head"]["bias"][0] == (-2.0 if tx.groups[0] == "body/*" else -1.0)


def test_a_group_may_be_empty() -> None:
    tx = gradtx.partition({"nothing": gradtx.adam(0.1), "*": gradtx.sgd(0.1)})
    found = gradtx.describe(tx, model())
    assert [group.leaves for group in found.groups] == [0, 5]
    chex.assert_trees_all_equal(first(tx, model()), first(gradtx.sgd(0.1), model()))


@dataclasses.dataclass
class Layer:
    """Parameters as a dataclass."""

    kernel: Any
    bias: Any


jax.tree_util.register_dataclass(Layer, ["kernel", "bias"], [])


class Pair(NamedTuple):
    """Parameters as a NamedTuple."""

    kernel: Any
    bias: Any


class Linear(eqx.Module):
    """Parameters as a module, which can be called."""

    kernel: Any
    bias: Any

    def __call__(self, x: Any) -> Any:
        return x @ self.kernel + self.bias


KERNEL, BIAS = jnp.ones((3, 2)), jnp.ones(2)
CONTAINERS: dict[str, Any] = {
    "dict": {"kernel": KERNEL, "bias": BIAS},
    "FrozenDict": FrozenDict({"kernel": KERNEL, "bias": BIAS}),
    "nnx.State": nnx.State({"kernel": nnx.Param(KERNEL), "bias": nnx.Param(BIAS)}),
    "Equinox": Linear(KERNEL, BIAS),
    "dataclass": Layer(KERNEL, BIAS),
    "NamedTuple": Pair(KERNEL, BIAS),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_any_container(kind: str) -> None:
    params = CONTAINERS[kind]
    tx = gradtx.partition({"*bias": gradtx.sgd(0.5), "*kernel": gradtx.sgd(0.1, momentum=0.9)})
    assert [p.groups for p in gradtx.describe(tx, params).parameters] in (
        [("*bias",), ("*kernel",)], [("*kernel",), ("*bias",)]
    )  # fmt: skip
    updates = first(tx, params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    assert sorted(float(leaf.ravel()[0]) for leaf in jax.tree.leaves(updates)) == pytest.approx([-0.5, -0.1])
    labels = jax.tree.map(lambda leaf: "ab"[leaf.ndim - 1], params)
    by_labels = gradtx.partition({"a": gradtx.sgd(0.5), "b": gradtx.sgd(0.1, momentum=0.9)}, labels)
    chex.assert_trees_all_equal(first(by_labels, params), updates)
    mask = jax.tree.map(lambda leaf: leaf.ndim == 1, params)
    frozen = first(gradtx.selective_transform(gradtx.sgd(0.1), freeze_mask=mask), params)
    assert sorted(float(leaf.ravel()[0]) for leaf in jax.tree.leaves(frozen)) == pytest.approx([-0.1, 0.0])


@pytest.mark.parametrize("make", [list, tuple])
def test_a_sequence(make: Any) -> None:
    params = make([jnp.ones(2), make([jnp.ones(3), jnp.ones(4)])])
    tx = gradtx.partition({"1/0": gradtx.freeze(), "[01]*": gradtx.sgd(1.0)})
    assert [float(leaf[0]) for leaf in jax.tree.leaves(first(tx, params))] == [-1.0, 0.0, -1.0]


def test_a_parameter_without_containers() -> None:
    assert first(gradtx.partition({"*": gradtx.sgd(1.0)}), jnp.ones(())) == -1.0


def test_rules_mean_the_same_in_nnx_optimizer() -> None:
    """It hands variables to `init`, whose paths end in `value`, and to `update` what is in them."""
    net = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    before = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    tx = gradtx.partition({"bias": gradtx.freeze(), "kernel": gradtx.adam(0.1)})
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)

    @nnx.jit
    def step(net: Any, optimizer: Any) -> None:
        optimizer.update(net, nnx.grad(lambda net: jnp.sum(net(jnp.ones((1, 3))) ** 2))(net))

    for _ in range(2):
        step(net, optimizer)
    after = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    chex.assert_trees_all_equal(after["bias"], before["bias"])
    assert not np.any(np.isclose(after["kernel"], before["kernel"]))


def test_equinox_modules_as_labels_and_masks() -> None:
    """They can be called. optax calls them (Equinox #193)."""
    params: Any = Linear(KERNEL, BIAS)
    labels: Any = Linear("w", "b")
    ours = first(gradtx.partition({"w": gradtx.sgd(0.1), "b": gradtx.sgd(0.2)}, labels), params)
    chex.assert_trees_all_close(ours, Linear(-0.1 * KERNEL, -0.2 * BIAS))
    with pytest.raises(TypeError):
        optax.partition({"w": optax.sgd(0.1), "b": optax.sgd(0.2)}, labels).init(params)
    mask: Any = Linear(True, False)
    chex.assert_trees_all_close(first(gradtx.masked(gradtx.scale(3.0), mask), params), Linear(3 * KERNEL, BIAS))


# Bad input


LABELS = {"embed": "a", "body": "a", "head": "b"}
LISTED: Any = [A, B]
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "no rule matches": (
        lambda: gradtx.partition({"*bias": A, "embed/*": B}).init(model()),
        ValueError,
        "partition: no rule matches body/kernel, head/kernel; the rules are '*bias', 'embed/*'. Add one for them, "
        "or '*' as the last, which matches all",
    ),
    "no group": (lambda: gradtx.partition({}), ValueError, "partition needs at least one group"),
    "no dict": (lambda: gradtx.partition(LISTED), TypeError, "partition takes a dict of transformations by rule"),
    "no transformation": (lambda: gradtx.partition({"*": 0.1}), TypeError, "`transforms`[0] must be a gradient"),
    "no rule": (lambda: gradtx.partition({1: A}), TypeError, "partition: a rule is a pattern like '*/kernel'"),
    "an unknown label": (
        lambda: gradtx.partition({"a": A}, LABELS).init(model()),
        ValueError,
        "no transformation has the label 'b' at params['head']['bias'], 'b' at params['head']['kernel']; there is one "
        "for each of 'a'",
    ),
    "labels of another tree": (
        lambda: gradtx.partition({"a": A}, {"elsewhere": "a"}).init(model()),
        ValueError,
        "the labels do not fit the tree: expected labels like",
    ),
    "a leaf without a label": (
        lambda: gradtx.partition({"a": A, "b": B}, {**LABELS, "body": None}).init(model()),
        ValueError,
        "the labels do not fit the tree",
    ),
    "an array as a label": (
        lambda: gradtx.partition({"a": A}, {**LABELS, "body": np.ones(2)}).init(model()),
        ValueError,
        "has the label array",
    ),
    "a rule with too few answers": (
        lambda: gradtx.partition({(lambda params: True): A}).init(model()),
        ValueError,
        "gave 1 answers for 5 parameters",
    ),
    "updates of another structure": (
        lambda: A_AND_B.update({"embed": {}}, A_AND_B.init(model()), model()),
        ValueError,
        "updates has nothing at ['body']['bias'], where the parameters have a leaf",
    ),
    "a gradient of another structure": (
        lambda: A_AND_B.update(model(), A_AND_B.init(model()), model(), grad={"x": KERNEL}),
        ValueError,
        "grad['x'] is float32[3, 2], but the parameters have nothing there",
    ),
    "a mask of numbers": (lambda: gradtx.masked(A, {"w": 1}), TypeError, "mask['w'] must be True or False, got 1"),
    "no mask": (lambda: gradtx.masked(A, None), TypeError, "masked: `mask` must be bools, a rule"),
    "freeze without a mask": (lambda: gradtx.freeze(None), TypeError, "freeze: `mask` must be bools, a rule"),
    "no freeze_mask": (
        lambda: gradtx.selective_transform(A, freeze_mask=None), TypeError, "`freeze_mask` must be bools, a rule"
    ),
    "a mask that does not fit": (
        lambda: gradtx.masked(A, {"w": True}).init(model()), ValueError, "the mask does not fit the tree"
    ),
    "a negative factor": (lambda: gradtx.scale_by_rule({"*": -1.0}), ValueError, "must be a finite number >= 0"),
    "no factors": (lambda: gradtx.scale_by_rule({}), ValueError, "scale_by_rule needs a factor for each rule"),
    "factors in a list": (lambda: gradtx.scale_by_rule(LISTED), TypeError, "scale_by_rule takes a dict of factors"),
    "a factor without a rule": (
        lambda: gradtx.scale_by_rule({"head/*": 1.0}).init(model()),
        ValueError,
        "scale_by_rule: no rule matches body/bias, body/kernel, embed/table",
    ),
    "a decay of 0": (lambda: gradtx.layerwise_decay(0.0, ["*"]), ValueError, "`decay` must be in (0, 1], got 0.0"),
    "no layers": (lambda: gradtx.layerwise_decay(0.5, []), ValueError, "layerwise_decay needs a rule for each layer"),
    "a layer left out": (
        lambda: gradtx.layerwise_decay(0.5, ["embed/*", "head/*"]).init(model()),
        ValueError,
        "layerwise_decay: no rule matches body/bias, body/kernel",
    ),
}  # fmt: skip
A_AND_B = gradtx.partition({"*bias": A, "*": B})


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name: str) -> None:
    make, error, words = WRONG[name]
    with pytest.raises(error, match=re.escape(words)):
        make()
