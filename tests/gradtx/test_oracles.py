"""Optimizers and parts in float64 against NumPy oracles of the papers and against optax."""

import chex
import jax
import numpy as np
import optax
import pytest

import gradtx

from . import table
from .problem import assert_close, gradient, iterate, oracle_path, problem, train
from .table import each_optimizer, each_optimizer_costly, each_part

STEPS = 50
# Rounding of 2^-53 an operation, some ten operations a step, 50 steps: 1e-13, and the gradient feeds it back.
RTOL = 1e-12

pytestmark = pytest.mark.usefixtures("x64")


def cosine(rate):
    """The same schedule in both libraries, and as numbers."""
    steps = np.arange(STEPS)
    values = rate * (0.1 + 0.9 * (1 + np.cos(np.pi * np.minimum(steps, 40) / 40)) / 2)
    return gradtx.cosine_decay_schedule(rate, 40, 0.1), optax.cosine_decay_schedule(rate, 40, 0.1), values


@each_optimizer
def test_optimizer_equals_oracle_and_optax(row):
    equal_three_ways(row, row.rate, row.rate, [row.rate] * STEPS)


@each_optimizer_costly
def test_scheduled_optimizer_equals_oracle_and_optax(row):
    equal_three_ways(row, *cosine(row.rate))


def equal_three_ways(row, ours, theirs, rates):
    params, noise = problem(STEPS)
    path, _ = train(row.make(ours), params, noise)
    assert_close(path, oracle_path(row.oracle, params, noise, rates, row.oracle_arguments(params)), RTOL)
    if row.peer is not None:
        with jax.numpy_dtype_promotion("standard"):
            peer = row.make_peer(theirs)
            other, _ = jax.jit(lambda p, n: iterate(peer, p, n, optax.apply_updates))(params, noise)
        assert_close(path, other, RTOL)


@pytest.mark.slow
def test_every_argument_counts():
    """A table row whose argument changes nothing would test nothing."""
    params, noise = problem(STEPS)
    for row in table.OPTIMIZERS:
        path, _ = train(row.make(), params, noise)
        for name, value in row.numbers.items():
            # A tenth of a percent is far above RTOL and inside every range.
            changed, _ = train(row.make(**{name: value * 0.999 if value else 1e-3}), params, noise)
            with pytest.raises(AssertionError):
                assert_close(changed, path, RTOL)


@each_part
def test_part_equals_optax(row):
    params, noise = problem(STEPS)

    def updates(tx):
        def step(state, noise):
            out, state = tx.update(noise, state, params)
            return state, out

        return jax.jit(lambda noise: jax.lax.scan(step, tx.init(params), noise))(noise)

    state, path = updates(row.make())
    with jax.numpy_dtype_promotion("standard"):
        other_state, other = updates(row.make_peer())
    # No feedback here: only the rounding of a sum over 50 steps.
    assert_close(path, other, 1e-13)
    # A state of the same name is the same checkpoint format: optax's fields and their values.
    if hasattr(state, "_asdict") and type(other_state).__name__ == type(state).__name__:
        theirs = other_state._asdict()
        assert_close({name: getattr(state, name) for name in theirs}, theirs, 1e-13)


def test_a_mask_is_a_function_a_rule_or_a_prefix():
    params, noise = problem(10)
    row = table.BY_NAME["adamw-masked"]
    expected, _ = train(row.make(), params, noise)
    for mask in (gradtx.by_rank(2), gradtx.by_path("big", "empty"), {**dict.fromkeys(params, False), "big": True}):
        path, _ = train(row.make(mask=mask), params, noise)
        chex.assert_trees_all_equal(path, expected)


def test_global_norm_equals_optax():
    params, _ = problem(1)
    with jax.numpy_dtype_promotion("standard"):
        expected = optax.tree.norm(params)
    # A sum of 18 squares; optax adds in another order.
    np.testing.assert_allclose(gradtx.global_norm(params), expected, rtol=1e-15)
    assert float(gradtx.global_norm(gradient(params, jax.tree.map(lambda x: -0.3 * x, params)))) < 1e-15
