"""Optimizers and parts in float64 against NumPy oracles of the papers and against optax."""

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
def test_optimizer_equals_oracle_and_optax(case):
    equal_three_ways(case, case.rate, case.rate, [case.rate] * STEPS)


@each_optimizer_costly
def test_scheduled_optimizer_equals_oracle_and_optax(case):
    equal_three_ways(case, *cosine(case.rate))


def equal_three_ways(case, ours, theirs, rates):
    params, noise = problem(STEPS)
    path, _ = train(case.make(ours), params, noise)
    assert_close(path, oracle_path(case.oracle, params, noise, rates, case.oracle_arguments(params)), RTOL)
    if case.peer is not None:
        with jax.numpy_dtype_promotion("standard"):
            peer = case.make_peer(theirs)
            other, _ = jax.jit(lambda p, n: iterate(peer, p, n, optax.apply_updates))(params, noise)
        assert_close(path, other, RTOL)


@pytest.mark.slow
def test_every_argument_counts():
    """A table row whose argument changes nothing would test nothing."""
    params, noise = problem(STEPS)
    for case in table.OPTIMIZERS:
        path, _ = train(case.make(), params, noise)
        for name, value in case.numbers.items():
            # A tenth of a percent is far above RTOL and inside every range.
            changed, _ = train(case.make(**{name: value * 0.999 if value else 1e-3}), params, noise)
            with pytest.raises(AssertionError):
                assert_close(changed, path, RTOL)


@each_part
def test_part_equals_optax(part):
    params, noise = problem(STEPS)

    def updates(tx):
        def step(state, noise):
            out, state = tx.update(noise, state, params)
            return state, out

        return jax.jit(lambda noise: jax.lax.scan(step, tx.init(params), noise))(noise)

    state, path = updates(part.make())
    with jax.numpy_dtype_promotion("standard"):
        other_state, other = updates(part.make_peer())
    # No feedback here: only the rounding of a sum over 50 steps.
    assert_close(path, other, 1e-13)
    # A state of the same name is the same checkpoint format: the fields and their values.
    if type(other_state).__name__ == type(state).__name__:
        assert_close(state._asdict(), other_state._asdict(), 1e-13)


def test_adamw_mask_as_function_and_prefix():
    params, noise = problem(10)
    case = table.BY_NAME["adamw-masked"]

    def by_path(params):
        return {key: jax.tree.map(lambda leaf, keep=table.MASK[key]: keep, part) for key, part in params.items()}

    expected, _ = train(case.make(), params, noise)
    path, _ = train(case.make(mask=by_path), params, noise)
    jax.tree.map(np.testing.assert_array_equal, path, expected)


def test_global_norm_equals_optax():
    params, _ = problem(1)
    with jax.numpy_dtype_promotion("standard"):
        expected = optax.tree.norm(params)
    # A sum of 18 squares; optax adds in another order.
    np.testing.assert_allclose(gradtx.global_norm(params), expected, rtol=1e-15)
    assert float(gradtx.global_norm(gradient(params, jax.tree.map(lambda x: -0.3 * x, params)))) < 1e-15
