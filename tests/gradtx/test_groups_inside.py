"""What goes through groups: extra arguments, points, meshes, groups and wrappers inside."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradtx
from gradtx.testing import check_transformation

from .network import first, halved, model

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


def test_the_value_of_a_search_in_a_group_is_not_that_of_the_next_point() -> None:
    tx = gradtx.partition({"a": gradtx.lbfgs(), "b": gradtx.sgd(0.1)})
    with pytest.raises(ValueError, match="one of a group of parameters, and does not know the moves of the others"):
        gradtx.value_and_grad_from_state(rosenbrock)(START, state=tx.init(START))


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
    with pytest.raises(ValueError, match=r"stage 0 \(nag\) defines gradient_params and must come last"):
        gradtx.chain(tx, gradtx.scale(1.0))


# Inside others, and others inside


@pytest.mark.slow
def test_groups_inside_groups_inside_wrappers() -> None:
    inner = gradtx.partition({"*bias": gradtx.sgd(1.0), "*": gradtx.freeze()})
    tx = halved(gradtx.chain(gradtx.scale(2.0), gradtx.partition({"head/*": inner, "*": halved(gradtx.sgd(3.0))})))
    check_transformation(tx, model())
    updates = first(tx, model())
    assert [float(leaf.ravel()[0]) for leaf in jax.tree.leaves(updates)] == [-1.5, -1.5, -1.5, -1.0, 0.0]
    found = gradtx.describe(tx, model())
    assert [group.name for group in found.groups] == ["head/* > *bias", "head/* > *", "*"]
    assert tx.replace({"head/*.*bias.learning_rate": 0.5}) != tx


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
