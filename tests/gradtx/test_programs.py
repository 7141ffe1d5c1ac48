"""Hyperparameters are data: one trace for all of them, a vmap for many, a scan for the steps."""

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx

from . import table
from .problem import assert_close, gradient, iterate, problem, train
from .table import each_optimizer, each_optimizer_costly, each_part

RATES = np.geomspace(1e-3, 0.3, 16)


def other_values(tx, factor):
    """All hyperparameters changed; decays stay below 1, and 0 becomes something."""
    return jax.tree.map(lambda leaf: 0.9 * leaf + 1e-3 * factor, tx)


def traced_once():
    """`train`, failing at the second trace. Tests trace only, which is what counts: nothing is compiled."""
    chex.clear_trace_counter()
    return jax.jit(chex.assert_max_traces(lambda tx, params, noise: iterate(tx, params, noise), n=1))


@each_optimizer
def test_one_trace_for_all_values(case):
    data, step = problem(4, np.float32), traced_once()
    for factor in (0, 1, 2):
        step.trace(other_values(case.make(), factor), *data)


@each_optimizer
def test_one_trace_for_schedules_of_one_shape(case):
    data, step = problem(4, np.float32), traced_once()
    for steps in (10, 20, 40):
        step.trace(case.make(gradtx.cosine_decay_schedule(0.05, steps)), *data)


def test_one_trace_when_run():
    data, step = problem(4, np.float32), traced_once()
    first, _ = step(gradtx.adam(0.1), *data)
    second, _ = step(gradtx.adam(0.2, 0.8), *data)
    assert np.max(np.abs(np.asarray(first["big"] - second["big"]))) > 0.1


def test_a_second_trace_would_be_seen():
    data, step = problem(4, np.float32), traced_once()
    step.trace(gradtx.adam(0.1), *data)
    with pytest.raises(AssertionError, match="traced > 1"):
        step.trace(gradtx.adam(0.1, nesterov=True), *data)


@each_optimizer_costly
@pytest.mark.usefixtures("x64")
def test_vmap_over_16_rates_and_all_numbers_is_a_loop(case):
    params, noise = problem(5)
    near = jnp.linspace(0.99, 1.0, len(RATES))
    batch = jax.tree.map(lambda leaf: leaf * near, case.make()).replace(learning_rate=jnp.asarray(RATES))
    together, states = jax.jit(jax.vmap(iterate, (gradtx.batch_axes(batch), None, None)))(batch, params, noise)
    for i in range(len(RATES)):
        alone, state = train(jax.tree.map(lambda leaf, i=i: leaf[i], batch), params, noise)
        # The same operations; XLA may fuse them in another order.
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], together), alone, 1e-14)
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], states), state, 1e-13)


def test_vmap_over_one_number_only():
    params, noise = problem(5, np.float32)
    batch = gradtx.adam(0.1, b1=jnp.asarray([0.5, 0.9]))
    together, _ = jax.vmap(iterate, (gradtx.batch_axes(batch), None, None))(batch, params, noise)
    for i, b1 in enumerate((0.5, 0.9)):
        alone, _ = train(gradtx.adam(0.1, b1=jnp.asarray(b1)), params, noise)
        # float32 has 6e-8; five steps.
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], together), alone, 1e-6)


@each_optimizer_costly
@pytest.mark.usefixtures("x64")
def test_scan_is_a_loop_and_jit_is_eager(case):
    params, noise = problem(50)
    tx = case.make()
    path, _ = train(tx, params, noise)
    at, state = params, tx.init(params)
    for t in range(4):
        g = gradient(tx.gradient_params(at, state), jax.tree.map(lambda n, t=t: n[t], noise))
        updates, state = tx.update(g, state, at)
        at = gradtx.apply_updates(at, updates)
        # XLA contracts a * b + c into one rounding in the larger program.
        assert_close(at, jax.tree.map(lambda leaf, t=t: leaf[t], path), 1e-14)


@each_part
def test_part_compiles_once_and_equals_eager(part):
    params, noise = problem(2, np.float32)
    tx = part.make()
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(lambda tx, g, s, p: tx.update(g, s, p), n=1))
    state = compiled = tx.init(params)
    for t in range(2):
        g = jax.tree.map(lambda n, t=t: n[t], noise)
        eager, state = tx.update(g, state, params)
        jitted, compiled = step(tx if t else other_values(other_values(tx, 0), 0), g, compiled, params)
        if t == 0:
            jitted, compiled = step(tx, g, tx.init(params), params)
        # float32: an ulp or two where the compiler fuses.
        assert_close(jitted, eager, 3e-7)
    assert_close(compiled, state, 3e-7)


@hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
@hypothesis.given(
    shape=st.sampled_from([(), (0,), (3,), (2, 3)]),
    # Out of a few programs; the numbers are free.
    name=st.sampled_from(["sgd-nesterov", "nag", "adagrad", "adadelta", "rmsprop", "adam"]),
    rate=st.floats(0, 10),
    seed=st.integers(0, 2**32 - 1),
    size=st.floats(-15, 15),
)
def test_updates_are_finite_and_against_the_gradient(shape, name, rate, seed, size):
    """From a zero state every optimizer of the study steps against the gradient, of any size from 1e-15 to 1e15."""
    g = jnp.asarray(np.random.default_rng(seed).normal(size=shape) * 10.0**size, jnp.float32)
    updates, _ = _first_step(table.BY_NAME[name].make(rate), g)
    assert updates.shape == g.shape
    assert updates.dtype == g.dtype
    assert np.all(np.isfinite(updates))
    assert np.all(np.asarray(updates * jnp.sign(g)) <= 0)
    if rate == 0:
        assert np.all(np.asarray(updates) == 0)


@jax.jit
def _first_step(tx, g):
    return tx.update(g, tx.init(g), jnp.zeros_like(g))
