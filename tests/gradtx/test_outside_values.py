"""Hyperparameters as other programs have them: callables of many kinds, scalars of other libraries, batches."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import gradtx

ONES = jnp.ones(2)


def falling(rate: Any, count: Any) -> Any:
    return rate / (1.0 + jnp.asarray(count, float))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Registered:
    """A dataclass that JAX knows."""

    rate: Any

    def __call__(self, count: Any) -> Any:
        return falling(self.rate, count)


class Module(eqx.Module):
    """A module of Equinox."""

    rate: Any

    def __call__(self, count: Any) -> Any:
        return falling(self.rate, count)


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A dataclass that JAX does not know; it has a hash."""

    rate: float

    def __call__(self, count: Any) -> Any:
        return falling(self.rate, count)


@dataclasses.dataclass
class Mutable:
    """A dataclass without a hash."""

    rate: float

    def __call__(self, count: Any) -> Any:
        return falling(self.rate, count)


TREES: dict[str, Callable[[Any], Any]] = {
    "dataclass": Registered,
    "module": Module,
    "Partial": lambda rate: jax.tree_util.Partial(falling, rate),
}
each_tree = pytest.mark.parametrize("make", TREES.values(), ids=TREES)


def first_step(tx: Any) -> jax.Array:
    return tx.update(ONES, tx.init(ONES))[0]


@each_tree
def test_a_callable_tree_is_data(make):
    """Its numbers are leaves: traced, swept and differentiated like those of a schedule of gradtx's own."""
    tx = gradtx.sgd(make(jnp.asarray(0.5)))
    assert jax.tree.leaves(tx) == [0.5]
    np.testing.assert_array_equal(first_step(tx), [-0.5, -0.5])
    np.testing.assert_array_equal(jax.jit(first_step)(tx), [-0.5, -0.5])
    assert tx == gradtx.sgd(make(jnp.asarray(0.5))) != gradtx.sgd(make(jnp.asarray(0.25)))
    assert gradtx.current(tx, tx.init(ONES)) == {"learning_rate": 0.5}
    inside = jax.jit(lambda rate: first_step(gradtx.sgd(make(rate))))
    np.testing.assert_array_equal(inside(0.5), [-0.5, -0.5])
    np.testing.assert_array_equal(jax.jacfwd(inside)(0.5), [-1.0, -1.0])
    slope = jax.grad(lambda tx: first_step(tx).sum())(tx)
    assert jax.tree.leaves(slope) == [-2.0]
    joined = gradtx.join_schedules([make(jnp.asarray(0.5)), 0.1], [3])
    assert [float(joined(count)) for count in (0, 1, 3)] == [0.5, 0.25, pytest.approx(0.1)]


def test_one_trace_for_the_numbers_of_a_callable_tree():
    traces = []

    @jax.jit
    def step(tx):
        traces.append(1)
        return first_step(tx)

    assert step(gradtx.sgd(Module(jnp.asarray(0.5))))[0] == 2 * step(gradtx.sgd(Module(jnp.asarray(0.25))))[0]
    assert len(traces) == 1


def test_a_callable_that_is_no_tree_of_numbers_is_static():
    for function in (Frozen(0.5), functools.partial(falling, 0.5)):
        tx = gradtx.sgd(function)
        assert jax.tree.leaves(tx) == []
        np.testing.assert_array_equal(first_step(tx), [-0.5, -0.5])
    with pytest.raises(
        TypeError, match=r"Mutable\(rate=0.5\) as a schedule: .*unhashable.*Make its class a gradtx.Schedule"
    ):
        gradtx.sgd(Mutable(0.5))
    # Not all of its leaves are numbers.
    network = eqx.nn.MLP("scalar", "scalar", 2, 1, key=jax.random.key(0))
    assert jax.tree.leaves(gradtx.sgd(network)) == []


SCALARS = (ml_dtypes.bfloat16(0.125), ml_dtypes.float8_e4m3fn(0.125), np.float16(0.125), np.float64(0.125))


@pytest.mark.parametrize("value", SCALARS, ids=lambda value: type(value).__name__)
def test_scalars_of_numpy_are_numbers(value):
    assert gradtx.sgd(value) == gradtx.sgd(0.125)
    assert gradtx.linear_schedule(value, value, 3) == gradtx.linear_schedule(0.125, 0.125, 3)
    assert [leaf.dtype for leaf in jax.tree.leaves(gradtx.sgd(np.asarray(value)))] == [value.dtype]


@pytest.mark.parametrize("value", [np.complex64(1), np.bool_(True), np.datetime64("2020-01-01"), np.str_("a")])
def test_scalars_of_numpy_that_are_no_numbers(value):
    with pytest.raises(TypeError, match="sgd: `learning_rate` must be a number"):
        gradtx.sgd(value)


def test_batches_of_two_lengths_are_named():
    rates, decays = jnp.asarray([0.1, 0.2]), jnp.asarray([0.7, 0.8, 0.9])
    with pytest.raises(ValueError, match="`learning_rate` has 2 entries and `b1` has 3 entries: expected one length"):
        gradtx.batch_axes(gradtx.adam(rates, decays))
    with pytest.raises(ValueError, match=r"`transforms.0.max_delta` has 3 .* `transforms.1.learning_rate` has 2"):
        gradtx.batch_axes(gradtx.chain(gradtx.clip(decays), gradtx.sgd(rates)))


def test_a_sweep_of_a_learned_optimizer():
    weights = gradtx.learned.mlp_weights(jax.random.key(0), 4)
    txs = gradtx.learned.mlp(weights, jnp.asarray([0.1, 0.2]), hidden=4)
    steps = jax.vmap(first_step, in_axes=(gradtx.batch_axes(txs),))(txs)
    np.testing.assert_allclose(2 * steps[0], steps[1], rtol=1e-6)
    one = first_step(gradtx.learned.mlp(weights, 0.1, hidden=4))
    np.testing.assert_allclose(steps[0], one, rtol=1e-6)


def test_several_networks_as_the_refusal_says():
    keys = jax.random.split(jax.random.key(0), 3)
    weights = jax.vmap(lambda key: gradtx.learned.mlp_weights(key, 4))(keys)
    tx = gradtx.learned.mlp(weights, hidden=4)
    with pytest.raises(ValueError, match=r"jax.vmap\(lambda weights: step\(tx.replace\(weights=weights\)"):
        first_step(tx)
    steps = jax.vmap(lambda weights: first_step(tx.replace(weights=weights)))(weights)
    assert len(np.unique(steps[:, 0])) == 3


def test_lax_map_over_the_numbers_that_vary():
    tx, rates = gradtx.adam(0.0, 0.8), jnp.asarray([0.1, 0.2])
    mapped = jax.lax.map(lambda rate: first_step(tx.replace(learning_rate=rate)), rates)
    txs = tx.replace(learning_rate=rates)
    np.testing.assert_array_equal(mapped, jax.vmap(first_step, in_axes=(gradtx.batch_axes(txs),))(txs))
