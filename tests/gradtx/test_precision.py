"""Half precision, double precision and complex numbers, under strict promotion."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import OptState, Params, Updates

from . import table
from .problem import assert_close, assert_same_types, oracle_path, problem, train
from .table import each_varied_optimizer

STEPS = 20
HALF = {"bf16": jnp.bfloat16, "f16": jnp.float16}
NARROW = {**HALF, "f32": jnp.float32, "c64": jnp.complex64}
ALL = {**NARROW, "f64": jnp.float64, "c128": jnp.complex128}


def leaves_of(dtypes, steps=STEPS, size=1.0):
    """A leaf of each dtype, and its noise."""
    rng = np.random.default_rng(30)

    def draw(shape, dtype):
        values = rng.normal(size=shape) * size
        values = values + 1j * rng.normal(size=shape) * size if jnp.issubdtype(dtype, jnp.complexfloating) else values
        return np.asarray(values, dtype)

    return (
        {name: draw((3,), dtype) for name, dtype in dtypes.items()},
        {name: draw((steps, 3), dtype) for name, dtype in dtypes.items()},
    )


class narrowed(gradtx.GradientTransformation):
    """What a chain would be that casts at each stage."""

    inner: gradtx.GradientTransformation

    def init(self, params: Params) -> OptState:
        return self.inner.init(params)

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, OptState]:
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), updates)
        wide, state = self.inner.update(wide, state, params, **extra)
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), wide), state


def test_chain_rounds_once():
    rng = np.random.default_rng(31)
    grads = jnp.asarray(rng.normal(size=(20, 1000)), jnp.bfloat16)
    stages = gradtx.clip(1.5), gradtx.scale_by_adam(), gradtx.scale(0.37), gradtx.scale_by_learning_rate(0.1)
    once, each = gradtx.chain(*stages), gradtx.chain(*map(narrowed, stages))

    def last(tx, grads):
        _, updates = jax.lax.scan(lambda state, g: tx.update(g, state)[::-1], tx.init(grads[0]), grads)
        return np.asarray(updates[-1], np.float32)

    wide = grads.astype(jnp.float32)
    reference = last(once, wide)
    error = np.abs(last(once, grads) - reference)
    # One rounding, that of the float32 result.
    np.testing.assert_array_equal(
        last(once, grads), np.asarray(jnp.asarray(reference).astype(jnp.bfloat16), np.float32)
    )
    # Four roundings in place of one: about sqrt(3) times the mean error (the clip rounds nothing).
    assert np.mean(np.abs(last(each, wide) - reference)) > 1.3 * np.mean(error)


def test_small_updates_of_half_precision_accumulate_in_the_state():
    """1 - b2 = 0.001 is lost in a bfloat16 average; ours is in float32."""
    g = jnp.full((4,), 0.1, jnp.bfloat16)
    tx = gradtx.scale_by_adam()
    state = tx.init(g)
    for _ in range(50):
        _, state = tx.update(g, state)
    np.testing.assert_allclose(state.nu, float(g[0]) ** 2 * (1 - 0.999**50), rtol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_apply_updates_rounds_once(dtype):
    params, updates = jnp.asarray([1.0, 1000.0], dtype), jnp.asarray([0.002, 0.7], jnp.float32)
    expected = (params.astype(jnp.float32) + updates).astype(dtype)
    np.testing.assert_array_equal(gradtx.apply_updates(params, updates), expected)
    assert gradtx.apply_updates(params, updates).dtype == dtype


def test_numpy_leaves_of_64_bits_are_32_where_jax_has_no_more():
    """And without JAX's warning, which is an error in tests."""
    tx = gradtx.adamw(gradtx.cosine_decay_schedule(0.1, 10))
    params = {"w": np.ones((2, 3)), "b": np.ones(3)}
    updates, _ = tx.update(params, tx.init(params), params)
    after = gradtx.apply_updates(params, updates)
    assert {leaf.dtype for leaf in jax.tree.leaves((updates, after))} == {np.dtype(np.float32)}


@each_varied_optimizer
@pytest.mark.usefixtures("x64")
def test_complex_equals_the_oracle(row):
    """Moments of |g|, so that a rotation of the gradient rotates the step."""
    params, noise = problem(STEPS, np.complex128)
    path, state = train(row.make(), params, noise)
    rates = [row.rate] * STEPS
    assert_close(path, oracle_path(row.oracle, params, noise, rates, row.oracle_arguments(params)), 1e-12)
    moments = [leaf for path, leaf in jax.tree.leaves_with_path(state) if _second_moment(path)]
    assert all(leaf.dtype == np.float64 for leaf in moments)


def _second_moment(path):
    return any(getattr(entry, "name", "") in ("nu", "sum_of_squares", "e_g", "e_x") for entry in path)


@pytest.mark.parametrize("name", ["sgd-nesterov", "nag"])
@pytest.mark.usefixtures("x64")
def test_complex_is_a_pair_of_reals_for_linear_methods(name):
    tx = table.BY_NAME[name].make()
    params, noise = problem(STEPS, np.complex128)
    path, _ = train(tx, params, noise)
    for part in (np.real, np.imag):
        alone, _ = train(tx, jax.tree.map(part, params), jax.tree.map(part, noise))
        # The same operations on each part; only fusion differs.
        assert_close(jax.tree.map(part, path), alone, 1e-14)


def test_rotation_of_complex_gradients_rotates_the_updates():
    params, noise = leaves_of({"c64": jnp.complex64})
    turn = np.complex64(np.exp(0.7j))
    rotated = jax.tree.map(lambda leaf: leaf * turn, noise)
    # From 0, so that the parameters' part of the gradient turns too.
    start = jax.tree.map(np.zeros_like, params)
    for row in table.OPTIMIZERS[::3]:
        path, _ = train(row.make(), start, noise)
        turned, _ = train(row.make(), start, rotated)
        # float32 over 20 steps.
        assert_close(turned["c64"], path["c64"] * turn, 1e-5)


RATES = {
    "float": lambda: 0.05,
    "np.float32": lambda: np.float32(0.05),
    "np.float64": lambda: np.float64(0.05),
    "strong": lambda: jnp.asarray(0.05, jnp.float32),
    "weak": lambda: jnp.asarray(0.05),
    "double": lambda: jnp.asarray(0.05, jnp.float64),
    "schedule": lambda: gradtx.cosine_decay_schedule(0.05, 30),
    "joined": lambda: gradtx.join_schedules([gradtx.linear_schedule(0, 0.05, 5), 0.05], [5]),
    "optax schedule": lambda: standard(optax.cosine_decay_schedule(0.05, 30)),
}


def standard(schedule):
    """optax's schedules need JAX's default promotion."""

    def value(count):
        with jax.numpy_dtype_promotion("standard"):
            return schedule(count)

    return value


def all_ways(tx, params):
    """Eager, jitted, mapped and scanned; the last three are traced only. Each keeps every type."""
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)
    updates, after = tx.update(params, state, params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((updates, after)))

    def step(tx, grads, state, params):
        updates, state = tx.update(grads, state, params)
        return updates, state, gradtx.apply_updates(params, updates), tx.gradient_params(params, state)

    def check(new, old, moved, ahead):
        for tree in (new, moved, ahead):
            assert_same_types(tree, params)
        assert_same_types(old, state)

    check(updates, after, params, params)
    check(*jax.eval_shape(jax.jit(step), tx, params, state, params))
    jax.eval_shape(
        lambda: jax.lax.scan(lambda carry, _: (step(tx, params, *carry)[1:3], None), (state, params), length=3)
    )
    batch = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), tx)
    mapped = jax.eval_shape(jax.vmap(step, (gradtx.batch_axes(batch), None, None, None)), batch, params, state, params)
    assert {name: leaf.dtype for name, leaf in mapped[0].items()} == {n: leaf.dtype for n, leaf in params.items()}


@pytest.mark.slow
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.usefixtures("x64")
def test_a_rate_of_any_kind_with_every_dtype_in_one_tree(rate):
    """A rate is read in two places: by `scale_by_learning_rate` and by `nag`."""
    params, _ = leaves_of(ALL)
    for name in ("adamw-masked", "nag"):
        all_ways(table.BY_NAME[name].make(RATES[rate]()), params)


@pytest.mark.parametrize("rate", [name for name in RATES if name != "double"])
def test_a_rate_of_any_kind_without_64_bits(rate):
    params, _ = leaves_of(NARROW)
    for name in ("adam", "nag"):
        all_ways(table.BY_NAME[name].make(RATES[rate]()), params)


@pytest.mark.usefixtures("x64")
def test_hyperparameters_are_converted_before_arithmetic():
    """1 - b2 in the precision of the leaf: a float32 b2 of 0.999 gives 1 - 0.99900001 in float64, not float32's."""
    g = jnp.asarray([0.3], jnp.float64)
    for b2 in (0.999, np.float32(0.999), jnp.asarray(0.999, jnp.float32)):
        _, state = gradtx.scale_by_adam(b2=b2).update(g, gradtx.scale_by_adam().init(g))
        np.testing.assert_allclose(state.nu, (1 - float(b2)) * 0.3**2, rtol=1e-15)
