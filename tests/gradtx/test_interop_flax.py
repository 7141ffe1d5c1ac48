"""gradtx with Flax: `nnx.Optimizer`, Linen's `TrainState`, and its serialization of states."""

from typing import Any

import chex
import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import gradtx
from gradtx.interop import as_optax, from_optax

X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)
STEPS = 4
SMOOTH: Any = {"b2": 0.95, "eps": 1e-3}  # little is lost in float32, so that a small tolerance will do


class DataOptimizer(nnx.Optimizer):
    """The recipe for hyperparameters that are arrays: `tx` is data of the optimizer, not a static attribute."""

    tx: Any = nnx.data()


def nnx_step() -> tuple[Any, list[int]]:
    """A jitted step, and one entry for each of its traces."""
    traces: list[int] = []

    @nnx.jit
    def step(model: Any, optimizer: Any, x: jax.Array) -> jax.Array:
        traces.append(1)
        loss, grads = nnx.value_and_grad(lambda model: jnp.mean((model(x) - 1.0) ** 2))(model)
        optimizer.update(model, grads)
        return loss

    return step, traces


def train_nnx(make: Any, tx: Any, step: Any = None) -> Any:
    """Parameters after a few steps, from the same start."""
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = make(model, tx, wrt=nnx.Param)
    step = nnx_step()[0] if step is None else step
    losses = [float(step(model, optimizer, X)) for _ in range(STEPS)]
    assert losses[-1] < losses[0]
    return nnx.to_pure_dict(nnx.state(model, nnx.Param)), optimizer


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("adapt", [lambda tx: tx, as_optax], ids=["as it is", "as_optax"])
def test_nnx_optimizer(adapt):
    got, optimizer = train_nnx(nnx.Optimizer, adapt(gradtx.adam(0.1, **SMOOTH)))
    chex.assert_trees_all_close(got, train_nnx(nnx.Optimizer, optax.adam(0.1, **SMOOTH))[0], rtol=1e-5)
    assert int(optimizer.opt_state[0].count[...]) == STEPS


def test_nnx_optimizers_of_equal_tx_trace_once():
    step, traces = nnx_step()
    for rate in (0.1, 0.1, 0.2):
        train_nnx(nnx.Optimizer, gradtx.adam(rate), step)
    assert len(traces) == 2  # a float is part of what is compiled: 0.2 is another program


def test_nnx_optimizer_refuses_arrays_as_static():
    with pytest.raises(ValueError, match=r"Found .* on value of type .* static attribute 'tx'"):
        train_nnx(nnx.Optimizer, gradtx.adam(jnp.asarray(0.1)))


def test_nnx_optimizer_with_array_leaves_traces_once_for_all_rates():
    step, traces = nnx_step()
    paths = {rate: train_nnx(DataOptimizer, gradtx.adam(jnp.float32(rate)), step)[0] for rate in (0.1, 0.2)}
    assert len(traces) == 1
    for rate, got in paths.items():
        chex.assert_trees_all_close(got, train_nnx(nnx.Optimizer, gradtx.adam(rate))[0], rtol=1e-6)
    assert not np.allclose(paths[0.1]["kernel"], paths[0.2]["kernel"])


def test_nnx_rate_can_be_changed_between_steps():
    step, traces = nnx_step()
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    tx: Any = gradtx.sgd(jnp.float32(0.1))
    optimizer = DataOptimizer(model, tx, wrt=nnx.Param)
    step(model, optimizer, X)
    optimizer.tx = optimizer.tx.replace(learning_rate=jnp.float32(0.0))
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    before = jax.tree.map(np.array, before)
    step(model, optimizer, X)
    chex.assert_trees_all_equal(nnx.to_pure_dict(nnx.state(model, nnx.Param)), before)
    assert len(traces) == 1


def values(tree: Any) -> Any:
    """Arrays in place of Flax's variables."""
    return jax.tree.map(lambda leaf: leaf[...], tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def test_nnx_state_of_optax_goes_on():
    with jax.numpy_dtype_promotion("standard"):
        _, theirs = train_nnx(nnx.Optimizer, optax.adam(0.1))
    tx: Any = gradtx.adam(0.1)
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    params = values(nnx.state(model, nnx.Param))
    pure = from_optax(tx, values(theirs.opt_state), params)
    nnx.update(optimizer.opt_state, nnx.state(pure))
    chex.assert_trees_all_equal(values(optimizer.opt_state[0].mu), values(theirs.opt_state[0].mu))
    assert int(optimizer.opt_state[1].count[...]) == STEPS
    nnx_step()[0](model, optimizer, X)
    # As Orbax restores the pure dict of a whole optimizer, with numbers for keys.
    saved = nnx.to_pure_dict(nnx.state(theirs))["opt_state"]
    chex.assert_trees_all_equal(*(jax.tree.leaves(state) for state in (from_optax(tx, saved, params), pure)))


@pytest.mark.usefixtures("standard_promotion")
def test_linen_train_state():
    model = nn.Dense(2)
    params = model.init(jax.random.key(0), X)
    traces = []

    @jax.jit
    def step(state: TrainState) -> TrainState:
        traces.append(1)
        grads = jax.grad(lambda p: jnp.mean((state.apply_fn(p, X) - 1.0) ** 2))(state.params)
        return state.apply_gradients(grads=grads)

    def run(tx: Any) -> TrainState:
        state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)
        for _ in range(STEPS):
            state = step(state)
        return state

    ours: Any = run(gradtx.adamw(0.1, **SMOOTH))
    run(gradtx.adamw(0.1, **SMOOTH))
    assert len(traces) == 1
    chex.assert_trees_all_close(ours.params, run(optax.adamw(0.1, **SMOOTH)).params, rtol=1e-5)
    assert int(ours.opt_state[0].count) == STEPS


PARAMS = {"w": jnp.ones(3), "b": jnp.ones((2,), jnp.bfloat16)}


def test_serialization_of_states():
    tx = gradtx.chain(
        gradtx.clip_by_global_norm(1.0), gradtx.named_chain(("adam", gradtx.adamw(0.1))), optax.trace(0.9)
    )
    state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)[1]
    restored = flax.serialization.from_bytes(tx.init(PARAMS), flax.serialization.to_bytes(state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    chex.assert_trees_all_equal(restored, state)
    chex.assert_trees_all_equal_dtypes(restored, state)
    chex.assert_trees_all_close(*(tx.update(PARAMS, s, PARAMS) for s in (state, restored)), rtol=1e-6)


def test_state_dict_is_the_format():
    state = gradtx.adam(0.1).init({"w": jnp.ones(3)})
    as_dict = flax.serialization.to_state_dict(state)
    assert jax.tree.map(jnp.shape, as_dict) == {
        "0": {"count": (), "mu": {"w": (3,)}, "nu": {"w": (3,)}},
        "1": {"count": ()},
    }
    chex.assert_trees_all_equal(flax.serialization.from_state_dict(state, as_dict), state)
    assert flax.serialization.to_state_dict(gradtx.sgd(0.1).init(PARAMS)) == {"0": {}, "1": {"count": 0}}
