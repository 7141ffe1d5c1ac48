"""gradtx on an Equinox module: its arrays are the parameters, all else is None."""

from typing import Any

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

import gradtx

X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)


def loss(model: Any) -> jax.Array:
    return jnp.mean((jax.vmap(model)(X) - 1.0) ** 2)


def train(tx: Any) -> tuple[Any, Any, Any]:
    """A module after a few steps, the state and the first and last loss."""
    model = eqx.nn.MLP(3, 1, 4, 1, key=jax.random.key(0))
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model: Any, state: Any) -> Any:
        value, grads = eqx.filter_value_and_grad(loss)(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, value

    values = []
    for _ in range(4):
        model, state, value = step(model, state)
        values.append(value)
    return model, state, values


@pytest.mark.usefixtures("standard_promotion")
def test_equinox_module():
    model, state, values = train(gradtx.adamw(0.05, b2=0.95, eps=1e-3))
    expected, _, _ = train(optax.adamw(0.05, b2=0.95, eps=1e-3))
    chex.assert_trees_all_close(*(eqx.filter(m, eqx.is_inexact_array) for m in (model, expected)), rtol=1e-5)
    assert values[-1] < values[0]
    assert model.activation is expected.activation
    assert state[0].mu.activation is None
    assert jax.tree.structure(state[0].mu) == jax.tree.structure(eqx.filter(model, eqx.is_inexact_array))


def test_apply_updates_skips_what_is_none():
    model = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    frozen = eqx.tree_at(lambda m: m.bias, params, None)
    tx = gradtx.sgd(0.1, 0.9)
    grads = jax.tree.map(jnp.ones_like, frozen)
    updates, _ = tx.update(grads, tx.init(frozen), frozen)
    new = eqx.combine(gradtx.apply_updates(params, eqx.combine(updates, jax.tree.map(lambda _: None, params))), static)
    chex.assert_trees_all_equal(new.bias, model.bias)
    chex.assert_trees_all_close(new.weight, model.weight - 0.1, rtol=1e-6)


def test_the_whole_module_is_refused():
    model = eqx.nn.MLP(3, 1, 4, 1, key=jax.random.key(0))
    with pytest.raises(TypeError, match=r"params\.activation.*Leave what is not trained out of the tree"):
        gradtx.adam(0.1).init(model)


def test_a_mask_like_a_module_that_can_be_called():
    """A `Linear` of bools is a tree of bools, not a function."""
    params = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    tx = gradtx.add_decayed_weights(0.5, mask=jax.tree.map(lambda leaf: leaf.ndim > 1, params))
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    chex.assert_trees_all_equal(updates.weight, 0.5 * params.weight)
    assert not jnp.any(updates.bias)
