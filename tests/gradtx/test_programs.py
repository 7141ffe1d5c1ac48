"""Hyperparameters are data, of any value that is allowed, and so are gradients of any size."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

import gradtx

from . import table
from .problem import assert_close, iterate, problem, train

any_case = hypothesis.settings(max_examples=40, deadline=None, derandomize=True)


def test_vmap_over_one_number_only():
    params, noise = problem(5, np.float32)
    batch = gradtx.adam(0.1, b1=jnp.asarray([0.5, 0.9]))
    together, _ = jax.vmap(iterate, (gradtx.batch_axes(batch), None, None))(batch, params, noise)
    for i, b1 in enumerate((0.5, 0.9)):
        alone, _ = train(gradtx.adam(0.1, b1=jnp.asarray(b1)), params, noise)
        # float32 has 6e-8; five steps.
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], together), alone, 1e-6)


@any_case
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


@any_case
@hypothesis.given(
    name=st.sampled_from(["sgd-momentum", "adagrad", "adadelta", "rmsprop", "adam"]),
    dtype=st.sampled_from(["bfloat16", "float16", "float32", "complex64"]),
    exponent=st.integers(-30, 15),
    eps=st.sampled_from([None, 0.0]),
)
def test_no_nan_at_any_size(name, dtype, exponent, eps):
    """From denormal halves to their largest, with eps and without, two steps."""
    row = table.BY_NAME[name]
    tx = row.make(**({} if eps is None or "eps" not in row.numbers else {"eps": eps}))
    g = jnp.asarray([2.0**exponent, 0.0, -(2.0**exponent)], dtype)
    updates, state = _two_steps(tx, g)
    assert updates.dtype == g.dtype
    assert np.all(np.isfinite(updates))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))
    assert updates[1] == 0


@jax.jit
def _first_step(tx, g):
    return tx.update(g, tx.init(g), jnp.zeros_like(g))


@jax.jit
def _two_steps(tx, g):
    _, state = tx.update(g, tx.init(g), jnp.zeros_like(g))
    return tx.update(g, state, jnp.zeros_like(g))
