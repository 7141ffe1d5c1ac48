"""Half precision, double precision and complex numbers, under strict promotion."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

from . import table
from .problem import assert_close, oracle_path, problem, train
from .table import each_optimizer_costly, each_part, each_varied_optimizer

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


def make(case, dtypes, rate=None):
    """A mask has to fit the tree."""
    changes = {"mask": dict.fromkeys(dtypes, True)} if "mask" in case.flags else {}
    return case.make(rate, **changes)


def same_types(actual, expected):
    """Structure, shapes, dtypes and weak types."""
    describe = lambda leaf: (jnp.shape(leaf), leaf.dtype, getattr(leaf, "weak_type", False))  # noqa: E731
    assert jax.tree.map(describe, actual) == jax.tree.map(describe, expected)


@each_optimizer_costly
def test_half_precision_trains_without_drift(case):
    dtypes = {**HALF, "f32": jnp.float32}
    params, noise = leaves_of(dtypes)
    tx = make(case, dtypes)
    state = tx.init(jax.tree.map(jnp.asarray, params))
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} <= {np.dtype(np.float32), np.dtype(np.int32)}
    path, last = train(tx, params, noise)
    assert {name: leaf.dtype for name, leaf in path.items()} == {n: np.dtype(d) for n, d in dtypes.items()}
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((path, last)))
    same_types(last, state)
    # Zero gradients, by zero parameters without noise: nothing moves and nothing is NaN.
    zeros = jax.tree.map(np.zeros_like, (params, noise))
    still, last = train(tx, *zeros)
    assert all(np.all(leaf == 0) for leaf in still.values())
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(last))


@each_part
def test_part_keeps_half_precision(part):
    params, noise = leaves_of(HALF, 2)
    tx = part.factory(
        **{**part.arguments, **({"mask": {"bf16": True, "f16": False}} if "mask" in part.arguments else {})}
    )
    state = before = tx.init(params)
    for t in range(2):
        grads = {name: jnp.asarray(leaf[t]) for name, leaf in noise.items()}
        updates, state = tx.update(grads, state, params)
        same_types(updates, grads)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((updates, state)))
    same_types(state, before)
    zero, state = tx.update({name: jnp.zeros((3,), dtype) for name, dtype in HALF.items()}, state, params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((zero, state)))


@gradtx.transformation
def narrowed(inner: gradtx.GradientTransformation) -> gradtx.Transform:
    """What a chain would be that casts at each stage."""

    def update(updates, state, params=None):
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), updates)
        wide, state = inner.update(wide, state, params)
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), wide), state

    return gradtx.Transform(inner.init, update)


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
def test_complex_equals_the_oracle(case):
    """Moments of |g|, so that a rotation of the gradient rotates the step."""
    params, noise = problem(STEPS, np.complex128)
    path, state = train(case.make(), params, noise)
    rates = [case.rate] * STEPS
    assert_close(path, oracle_path(case.oracle, params, noise, rates, case.oracle_arguments(params)), 1e-12)
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
    for case in table.OPTIMIZERS[::3]:
        path, _ = train(case.make(), start, noise)
        turned, _ = train(case.make(), start, rotated)
        # float32 over 20 steps.
        assert_close(turned["c64"], path["c64"] * turn, 1e-5)


def test_clip_refuses_complex():
    tx, g = gradtx.clip(1.0), jnp.ones((2,), jnp.complex64)
    with pytest.raises(TypeError, match="clip: complex updates have no order; use clip_by_global_norm"):
        tx.update(g, tx.init(g))


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
            same_types(tree, params)
        same_types(old, state)

    check(updates, after, params, params)
    check(*jax.eval_shape(jax.jit(step), tx, params, state, params))
    jax.eval_shape(
        lambda: jax.lax.scan(lambda carry, _: (step(tx, params, *carry)[1:3], None), (state, params), length=3)
    )
    batch = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), tx)
    mapped = jax.eval_shape(jax.vmap(step, (gradtx.batch_axes(batch), None, None, None)), batch, params, state, params)
    assert {name: leaf.dtype for name, leaf in mapped[0].items()} == {n: leaf.dtype for n, leaf in params.items()}


@each_varied_optimizer
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.usefixtures("x64")
def test_every_dtype_in_one_tree(case, rate):
    params, _ = leaves_of(ALL)
    all_ways(make(case, ALL, RATES[rate]()), params)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.usefixtures("x64")
def test_every_dtype_alone(dtype, rate):
    params, _ = leaves_of({dtype: ALL[dtype]})
    all_ways(gradtx.adamw(RATES[rate](), mask={dtype: True}), params)
    all_ways(gradtx.nag(RATES[rate]()), params)


@pytest.mark.parametrize("rate", [name for name in RATES if name != "double"])
def test_every_narrow_dtype_without_x64(rate):
    params, _ = leaves_of(NARROW)
    all_ways(gradtx.adam(RATES[rate]()), params)
    all_ways(gradtx.sgd(RATES[rate](), 0.9, nesterov=True), params)


@pytest.mark.usefixtures("x64")
def test_hyperparameters_are_converted_before_arithmetic():
    """1 - b2 in the precision of the leaf: a float32 b2 of 0.999 gives 1 - 0.99900001 in float64, not float32's."""
    g = jnp.asarray([0.3], jnp.float64)
    for b2 in (0.999, np.float32(0.999), jnp.asarray(0.999, jnp.float32)):
        _, state = gradtx.scale_by_adam(b2=b2).update(g, gradtx.scale_by_adam().init(g))
        np.testing.assert_allclose(state.nu, (1 - float(b2)) * 0.3**2, rtol=1e-15)


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    name=st.sampled_from(["sgd-momentum", "adagrad", "adadelta", "rmsprop", "adam"]),
    dtype=st.sampled_from(list(NARROW)),
    exponent=st.integers(-30, 15),
    eps=st.sampled_from([None, 0.0]),
)
def test_no_nan_at_any_size(name, dtype, exponent, eps):
    """From denormal halves to their largest, with eps and without, two steps."""
    case = table.BY_NAME[name]
    tx = case.make(**({} if eps is None or "eps" not in case.numbers else {"eps": eps}))
    g = jnp.asarray([2.0**exponent, 0.0, -(2.0**exponent)], NARROW[dtype])
    updates, state = _two_steps(tx, g)
    assert updates.dtype == g.dtype
    assert np.all(np.isfinite(updates))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))
    assert updates[1] == 0


@jax.jit
def _two_steps(tx, g):
    _, state = tx.update(g, tx.init(g), jnp.zeros_like(g))
    return tx.update(g, state, jnp.zeros_like(g))
