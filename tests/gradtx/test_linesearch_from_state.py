"""What a line search has evaluated already: read by `minimize` and `value_and_grad_from_state`, wherever it stands."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import Reason, minimize


def paraboloid(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.asarray([1.0, 5.0]) * jnp.square(x - 3))


ZOOM, STORING = gradtx.scale_by_zoom_linesearch(20), gradtx.scale_by_backtracking_linesearch(20, store_grad=True)
DESCEND = gradtx.sgd(0.3)


class searching(gradtx.Recipe):
    learning_rate: gradtx.LearningRate

    def parts(self) -> gradtx.chain:
        return gradtx.chain(gradtx.sgd(self.learning_rate), ZOOM)


NESTED = {
    "a chain": (gradtx.chain(DESCEND, ZOOM), 1),
    "a chain in a chain": (gradtx.chain(gradtx.clip(1e3), gradtx.chain(DESCEND, gradtx.chain(STORING))), 1),
    "a named chain": (gradtx.named_chain(("z", DESCEND), ("a", ZOOM)), 1),
    "a recipe": (gradtx.lbfgs(), 1),
    "a recipe in a chain": (gradtx.chain(gradtx.identity(), gradtx.lbfgs(memory_size=2)), 1),
    "your own": (searching(0.3), 1),
    "two": (gradtx.chain(gradtx.lbfgs(), STORING), 2),
    "two, the first in a recipe": (gradtx.named_chain(("z", searching(0.3)), ("a", ZOOM)), 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NESTED)
def test_minimize_reads_the_last_search(name):
    """It needs no evaluation of its own but the first, and counts those of every search."""
    tx, searches = NESTED[name]
    found = minimize(paraboloid, jnp.zeros(2), tx, tol=1e-3)
    assert found.reason == Reason.CONVERGED
    states = [node for node in jax.tree.leaves(found.state, is_leaf=is_search) if is_search(node)]
    assert len(states) == searches
    assert found.evaluations == 1 + sum(int(state.evaluations) for state in states)
    np.testing.assert_allclose(found.value, paraboloid(found.params), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.grad, jax.grad(paraboloid)(found.params), rtol=1e-3, atol=1e-5)


def is_search(node: Any) -> bool:
    return hasattr(node, "outcome")


@pytest.mark.parametrize(
    "tx",
    [gradtx.chain(DESCEND, ZOOM, gradtx.scale(0.5)), gradtx.chain(DESCEND, STORING.replace(store_grad=False))],
    ids=["no longer last", "no gradient"],
)
def test_what_is_not_known_is_evaluated(tx):
    found = minimize(paraboloid, jnp.zeros(2), tx, tol=1e-3)
    assert found.reason == Reason.CONVERGED
    np.testing.assert_allclose(found.value, paraboloid(found.params), rtol=1e-6)
    search = found.state[1]
    assert found.evaluations == 1 + search.evaluations + found.steps


@pytest.mark.parametrize("name", ["a chain in a chain", "a recipe", "your own", "two"])
def test_value_and_grad_from_state(name):
    tx, _ = NESTED[name]
    value_and_grad = jax.jit(gradtx.value_and_grad_from_state(paraboloid))
    x = jnp.zeros(2)
    state = tx.init(x)
    for _ in range(3):
        value, grad = value_and_grad(x, state=state)
        chex.assert_trees_all_close((value, grad), jax.value_and_grad(paraboloid)(x), rtol=1e-4, atol=1e-4)
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=paraboloid)
        x = gradtx.apply_updates(x, updates)
    # From the state: another objective changes nothing.
    other = gradtx.value_and_grad_from_state(lambda x: jnp.sum(x))
    chex.assert_trees_all_equal(other(x, state=state), value_and_grad(x, state=state))


def test_value_and_grad_from_state_takes_what_the_objective_takes():
    value_and_grad = gradtx.value_and_grad_from_state(lambda x, a, *, b: jnp.sum(a * x) + b)
    tx = gradtx.chain(DESCEND, ZOOM)
    value, grad = value_and_grad(jnp.ones(2), 3.0, state=tx.init(jnp.ones(2)), b=1.0)
    assert float(value) == 7
    np.testing.assert_array_equal(grad, 3.0)


def test_value_and_grad_from_state_gives_gradients_in_the_parameters_dtype():
    def square(x):
        return jnp.sum(jnp.square(x))

    x = jnp.ones(2, jnp.bfloat16)
    tx = gradtx.chain(DESCEND, ZOOM)
    value_and_grad = gradtx.value_and_grad_from_state(square)
    state = tx.init(x)
    for _ in range(2):
        value, grad = value_and_grad(x, state=state)
        assert (value.dtype, grad.dtype) == (jnp.float32, jnp.bfloat16)
        _, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=square)


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
def test_value_and_grad_from_state_reads_optaxs_states():
    ours, theirs = (lib.value_and_grad_from_state(paraboloid) for lib in (gradtx, optax))
    tx = optax.lbfgs()
    x = jnp.zeros(2)
    state = tx.init(x)
    for _ in range(2):
        value, grad = theirs(x, state=state)
        chex.assert_trees_all_equal(ours(x, state=state), (value, grad))
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=paraboloid)
        x = optax.apply_updates(x, updates)


@pytest.mark.parametrize(
    ("tx", "message"),
    [
        (gradtx.sgd(0.1), "the state has no value and gradient in it. A line search keeps them"),
        (gradtx.newton_cg(linesearch=None), "the state has no value and gradient in it"),
        (STORING.replace(store_grad=False), "state has a value, but its gradient is None; .* store_grad=True"),
        (gradtx.named_chain(("z", ZOOM), ("a", ZOOM)), r"state\['a'\] and state\['z'\] both are of line searches"),
    ],
    ids=["none", "a value alone", "no gradient", "a dict"],
)
def test_what_value_and_grad_from_state_refuses(tx, message):
    x = jnp.zeros(2)
    with pytest.raises(ValueError, match=message):
        gradtx.value_and_grad_from_state(paraboloid)(x, state=tx.init(x))
