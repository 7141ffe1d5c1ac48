"""Groups: what each sees, keeps and returns; where optax has the same, its numbers; and what `describe` says."""

from __future__ import annotations

import dataclasses
import json
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
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradtx
from gradtx.testing import check_transformation

from .problem import assert_close, iterate, problem
from .rows.groups import ADAM, by_kind, labelled, vectors

A, B = gradtx.sgd(0.1), gradtx.sgd(0.2)
STEPS = 50
RTOL = 1e-12


def model() -> dict[str, Any]:
    """Parameters with names as of a network."""
    layers = {"body": {"kernel": (4, 4), "bias": (4,)}, "head": {"kernel": (4, 2), "bias": (2,)}}
    shapes = iter(np.random.default_rng(0).normal(size=(5, 20)))
    return jax.tree.map(
        lambda shape: jnp.asarray(next(shapes)[: int(np.prod(shape))].reshape(shape), jnp.float32),
        {"embed": {"table": (5, 4)}, **layers},
        is_leaf=lambda node: isinstance(node, tuple),
    )


def is_narrow(path: str, leaf: Any) -> bool:
    """A predicate."""
    return path.startswith("head") and leaf.shape[-1] == 2


def rules() -> gradtx.partition:
    """One group of each kind of rule."""
    return gradtx.partition(
        {
            "*bias": gradtx.sgd(0.1),
            re.compile("^embed/"): gradtx.freeze(),
            gradtx.by_rule(is_narrow): gradtx.adam(0.01),
            gradtx.by_rank(2): gradtx.adamw(1e-3),
        }
    )


def first(tx: Any, params: Any, **extra: Any) -> Any:
    """The updates of the first step, for a gradient of ones."""
    grads = jax.tree.map(jnp.ones_like, params)
    return tx.update(grads, tx.init(params), params, **extra)[0]


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


# Extra arguments


def rosenbrock(params: Any) -> jax.Array:
    return 100 * jnp.sum((params["b"] - params["a"] ** 2) ** 2) + jnp.sum((1 - params["a"]) ** 2)


START = {"a": jnp.array([-1.2, 0.5]), "b": jnp.array([1.0, 2.0])}


def search(tx: Any, params: Any, value_fn: Any, steps: int = 8) -> Any:
    """The path of a method that asks for value, gradient and objective."""

    def step(carry: Any, _: Any) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(value_fn)(params)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=value_fn)
        params = gradtx.apply_updates(params, updates)
        return (params, state), params

    return jax.jit(lambda carry: jax.lax.scan(step, carry, length=steps)[1])((params, tx.init(params)))


def last(path: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[-1], path)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "method",
    [
        gradtx.lbfgs(),
        gradtx.newton(),
        gradtx.newton_cg(),
        gradtx.stochastic_lbfgs(0.01, every=2),
        gradtx.chain(gradtx.sgd(0.01), gradtx.scale_by_backtracking_linesearch(20)),
    ],
    ids=["lbfgs", "newton", "newton_cg", "stochastic_lbfgs", "backtracking"],
)
def test_a_search_in_a_group_is_that_of_the_smaller_problem(method: Any) -> None:
    start = jax.tree.map(lambda leaf: leaf.astype(float), START)
    whole = search(gradtx.partition({"a": method, "b": gradtx.freeze()}), start, rosenbrock)
    alone = search(method, start["a"], lambda a: rosenbrock({"a": a, "b": start["b"]}))
    # The two are compiled apart, and a search turns their roundings into others.
    chex.assert_trees_all_close(whole["a"], alone, rtol=1e-8)
    chex.assert_trees_all_equal(last(whole)["b"], start["b"])
    assert not np.allclose(last(whole)["a"], start["a"])


def test_a_function_of_outputs_is_no_function_of_parameters() -> None:
    tx = gradtx.partition({"a": gradtx.gauss_newton_cg(), "b": gradtx.sgd(0.1)})

    def outputs_fn(params: Any) -> Any:
        return params["a"] + params["b"]

    def loss_fn(outputs: Any) -> jax.Array:
        return jnp.sum(outputs**2)

    params = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0, 4.0])}
    value, grads = jax.value_and_grad(lambda p: loss_fn(outputs_fn(p)))(params)
    known = {"value": value, "grad": grads, "value_fn": lambda p: loss_fn(outputs_fn(p))}
    updates, _ = tx.update(grads, tx.init(params), params, outputs_fn=outputs_fn, loss_fn=loss_fn, **known)
    # One damped Gauss-Newton step from outputs of 4 and 6 towards 0, with the other parameters where they are.
    assert np.all(updates["a"] < -0.9 * jnp.array([4.0, 6.0]))
    chex.assert_trees_all_close(updates["b"], -0.1 * grads["b"])


def test_lbfgs_works_in_a_group_where_optax_s_fails() -> None:
    value, grads = jax.value_and_grad(rosenbrock)(START)
    known = {"value": value, "grad": grads, "value_fn": rosenbrock}
    labels = {"a": "a", "b": "b"}
    theirs = optax.partition({"a": optax.lbfgs(), "b": optax.sgd(1e-4)}, labels)
    with pytest.raises((ValueError, TypeError)):
        theirs.update(grads, theirs.init(START), START, **known)
    ours = gradtx.partition({"a": gradtx.lbfgs(), "b": gradtx.sgd(1e-4)}, labels)
    assert rosenbrock(last(search(ours, START, rosenbrock, steps=30))) < 0.1 * value


def test_two_searches_and_minimize() -> None:
    tx = gradtx.partition({"a": gradtx.lbfgs(), "b": gradtx.lbfgs()})

    def bowl(params: Any) -> jax.Array:
        return jnp.sum((params["a"] - 1) ** 2) + 3 * jnp.sum((params["b"] + params["a"] / 4) ** 2)

    result = gradtx.minimize(bowl, START, tx)
    assert bowl(result.params) < 1e-9


class scale_by_tags(gradtx.Stateless):
    """Wants a tree like the updates under a name of its own, and says what it is called with."""

    def update(self, updates: Any, state: Any, params: Any = None, *, tags: Any, grad_fn: Any, batch: Any) -> Any:
        assert batch == {"x": 1, "y": 2}
        return jax.tree.map(lambda u, t, g: u * t * g, updates, tags, grad_fn(params)), state


def test_other_extra_arguments() -> None:
    params = {"x": jnp.array([2.0]), "y": jnp.array([3.0])}
    given: Any = {"tags": {"x": 2.0, "y": 5.0}, "batch": {"x": 1, "y": 2}}

    def grad_fn(params: Any) -> Any:
        return jax.grad(lambda p: jnp.sum(p["x"] * p["y"]))(params)

    class only_tags(gradtx.Stateless):
        def update(self, updates: Any, state: Any, params: Any = None, *, tags: Any, batch: Any) -> Any:
            seen.append((tags, batch))
            return updates, state

    for cuts in (False, True):
        seen: list[Any] = []
        tx = gradtx.partition({"x": only_tags(), "y": gradtx.identity()}, mask_compatible_extra_args=cuts)
        tx.update(params, tx.init(params), params, grad_fn=grad_fn, **given)
        whole = (given["tags"], given["batch"])
        assert seen == [({"x": 2.0, "y": None}, {"x": 1, "y": None}) if cuts else whole]
    tx = gradtx.partition({"x": scale_by_tags(), "y": gradtx.identity()})
    updates, _ = tx.update(
        params, tx.init(params), params, grad_fn=grad_fn, tags={"x": 2.0, "y": None}, batch=given["batch"]
    )
    chex.assert_trees_all_close(updates, {"x": jnp.array([2.0 * 2.0 * 3.0]), "y": jnp.array([3.0])})


# Points


def test_points_of_several_groups_apply_each_to_its_own() -> None:
    params = {"a": jnp.array([1.0]), "b": jnp.array([2.0]), "c": jnp.array([3.0])}
    parts = {"a": gradtx.nag(0.1, 0.5), "b": gradtx.nag(0.2, 0.9), "c": gradtx.sgd(0.1, 0.5, nesterov=True)}
    tx = gradtx.partition(parts)
    assert tx._defines("gradient_params")
    state, own = tx.init(params), {name: part.init(params[name]) for name, part in parts.items()}
    for _ in range(3):
        point = tx.gradient_params(params, state)
        expected = {name: part.gradient_params(params[name], own[name]) for name, part in parts.items()}
        chex.assert_trees_all_close(point, expected)
        assert np.all(point["c"] == params["c"])
        updates, state = tx.update(point, state, params)
        for name, part in parts.items():
            _, own[name] = part.update(point[name], own[name], params[name])
        params = gradtx.apply_updates(params, updates)
    shipped = tx.eval_params(params, state)
    chex.assert_trees_all_close(
        shipped, {name: part.eval_params(params[name], own[name]) for name, part in parts.items()}
    )
    assert not np.allclose(shipped["c"], params["c"])
    masked = gradtx.masked(gradtx.nag(0.2, 0.9), "b")
    point = masked.gradient_params(params, gradtx.MaskedState(state.inner_states["b"]))
    assert point["a"] is params["a"]
    assert not np.allclose(point["b"], params["b"])
    with pytest.raises(ValueError, match="stage 0 defines gradient_params and must come last"):
        gradtx.chain(tx, gradtx.scale(1.0))


# Inside others, and others inside


class HalvedState(NamedTuple):
    inner_state: Any


class halved(gradtx.GradientTransformation):
    """A small wrapper."""

    inner: gradtx.GradientTransformation

    def init(self, params: Any) -> Any:
        return HalvedState(self.inner.init(params))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        updates, inner = self.inner.update(updates, state.inner_state, params, **extra)
        return jax.tree.map(lambda u: u / 2, updates), HalvedState(inner)


def test_groups_inside_groups_inside_wrappers() -> None:
    inner = gradtx.partition({"*bias": gradtx.sgd(1.0), "*": gradtx.freeze()})
    tx = halved(gradtx.chain(gradtx.scale(2.0), gradtx.partition({"head/*": inner, "*": halved(gradtx.sgd(3.0))})))
    check_transformation(tx, model())
    updates = first(tx, model())
    assert [float(leaf.ravel()[0]) for leaf in jax.tree.leaves(updates)] == [-1.5, -1.5, -1.5, -1.0, 0.0]
    found = gradtx.describe(tx, model())
    assert [group.name for group in found.groups] == ["head/* > *bias", "head/* > *", "*"]
    assert tx.replace({"head/*.*bias.learning_rate": 0.5}) != tx


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


# Meshes


def test_groups_keep_an_explicit_mesh() -> None:
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        spec = {"kernel": P("data", "model"), "bias": P("model")}
        params = {n: jax.device_put(jnp.ones((8, 4)[: len(s)]), NamedSharding(mesh, s)) for n, s in spec.items()}
        tx = gradtx.partition({"*bias": gradtx.sgd(0.1, 0.9), "*": gradtx.adam(0.1)})
        tx = gradtx.chain(tx, gradtx.scale_by_rule({"*bias": 2.0, "*": 1.0}))
        updates, state = jax.jit(tx.update)(params, jax.jit(tx.init)(params), params)
        groups = state[0].inner_states
        for leaf, name in (
            (updates["kernel"], "kernel"),
            (updates["bias"], "bias"),
            (groups["*"][0].nu["kernel"], "kernel"),
            (groups["*bias"][0].trace["bias"], "bias"),
        ):
            assert jax.typeof(leaf).sharding.spec == spec[name]


# Bad input


LABELS = {"embed": "a", "body": "a", "head": "b"}
LISTED: Any = [A, B]
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "no rule matches": (
        lambda: gradtx.partition({"*bias": A, "embed/*": B}).init(model()),
        ValueError,
        "partition: no rule matches 'body/kernel', 'head/kernel'; the rules are '*bias', 'embed/*'. Add one for them, "
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
        "scale_by_rule: no rule matches 'body/bias', 'body/kernel', 'embed/table'",
    ),
    "a decay of 0": (lambda: gradtx.layerwise_decay(0.0, ["*"]), ValueError, "`decay` must be in (0, 1], got 0.0"),
    "no layers": (lambda: gradtx.layerwise_decay(0.5, []), ValueError, "layerwise_decay needs a rule for each layer"),
    "a layer left out": (
        lambda: gradtx.layerwise_decay(0.5, ["embed/*", "head/*"]).init(model()),
        ValueError,
        "layerwise_decay: no rule matches 'body/bias', 'body/kernel'",
    ),
}  # fmt: skip
A_AND_B = gradtx.partition({"*bias": A, "*": B})


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name: str) -> None:
    make, error, words = WRONG[name]
    with pytest.raises(error, match=re.escape(words)):
        make()
