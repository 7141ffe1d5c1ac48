"""The ends of the range of floats: squares that would overflow or vanish, and what must not be hidden."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx

SQUARES = {
    "adam": gradtx.adam(0.1),
    "adam-nesterov": gradtx.adam(0.1, nesterov=True),
    "rmsprop": gradtx.rmsprop(0.1),
    "rmsprop-centered": gradtx.rmsprop(0.1, centered=True),
    "adagrad": gradtx.adagrad(0.1),
    "adadelta": gradtx.adadelta(0.1),
}
each_of_squares = pytest.mark.parametrize("tx", SQUARES.values(), ids=SQUARES)


@functools.partial(jax.jit, static_argnames="steps")
def path(tx, gradient, steps):
    """The updates after one `gradient`, then gradients of 1, and the last state."""

    def step(state, gradient):
        updates, state = tx.update(gradient, state, jnp.zeros_like(gradient))
        return state, updates

    rest = jnp.ones((steps, *gradient.shape), gradient.dtype)
    state, updates = jax.lax.scan(step, tx.init(gradient), jnp.concatenate([gradient[None], rest]))
    return updates, state


@each_of_squares
def test_one_gradient_whose_square_overflows(tx):
    """As in optax its entry stands still, and the state shows which; others go on."""
    updates, state = path(tx, jnp.asarray([4e20, 1.0]), 3)
    assert not np.any(updates[:, 0])
    assert np.all(updates[:, 1])
    assert any(np.array_equal(np.isinf(leaf), [True, False]) for leaf in jax.tree.leaves(state) if leaf.shape == (2,))


@each_of_squares
def test_clipping_in_front_of_squares_prevents_that(tx):
    sizes = jnp.asarray([4e20, -3e38, 1e18])
    updates, state = path(gradtx.chain(gradtx.clip(1e18), tx), sizes, 3)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((updates, state)))
    np.testing.assert_array_equal(np.abs(updates[0]), np.abs(updates[0, 2]))


@each_of_squares
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_infinite_gradients_are_not_hidden(tx, bad):
    updates, _ = path(tx, jnp.asarray([bad, 1.0]), 1)
    assert not np.isfinite(updates[0, 0])
    assert np.all(np.isfinite(updates[:, 1]))


SIZES = (3e-38, 1e-30, 1e-25, 1e-19, 1e-12, 1.0, 1e12, 1e19, 1e25, 1e37)


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_norm_of_any_size(jit):
    norm = jax.jit(gradtx.global_norm) if jit else gradtx.global_norm
    values = np.array([3.0, 0.0, -4.0, 12.0], np.float32)
    for size in SIZES:
        tree = {"a": jnp.asarray(size * values[:3]), "b": None, "c": [jnp.asarray(size * values[3])]}
        # One rounding in each of a few products and the root.
        assert float(norm(tree)) == pytest.approx(13 * size, rel=1e-6), size
    assert norm({"a": jnp.zeros(3)}) == 0 == norm({})
    assert float(norm([jnp.asarray(1e30 + 1e30j)])) == pytest.approx(2**0.5 * 1e30, rel=1e-6)
    assert np.isinf(norm([jnp.asarray([1.0, np.inf])]))
    assert np.isnan(norm([jnp.asarray([1.0, np.inf, np.nan])]))
    assert np.isinf(norm([jnp.full(3, 3e38)]))  # the norm itself is beyond the range


def test_norm_of_many_entries_below_the_least_square():
    """Each square is below the least float; together they count more than the one that is not."""
    tree = [jnp.full(4_000_000, 1e-19), jnp.asarray(1e-16)]
    assert float(gradtx.global_norm(tree)) == pytest.approx(np.hypot(2e-16, 1e-16), rel=1e-4)


@pytest.mark.usefixtures("x64")
def test_norm_of_a_tree_of_two_precisions():
    tree = [jnp.full(4, 1e30, jnp.float32), jnp.asarray(1e-200)]
    assert float(gradtx.global_norm(tree)) == pytest.approx(2e30, rel=1e-7)
    assert float(gradtx.global_norm([jnp.full(4, 1e300)])) == pytest.approx(2e300, rel=1e-14)
    assert float(gradtx.global_norm([jnp.full(4, 1e-300)])) == pytest.approx(2e-300, rel=1e-14)


def test_norm_under_transformations():
    rows = jnp.asarray([[3.0, 4.0], [3e30, 4e30], [3e-30, 4e-30], [0.0, 0.0]])
    np.testing.assert_allclose(jax.vmap(gradtx.global_norm)(rows), [5.0, 5e30, 5e-30, 0.0], rtol=1e-6)
    slopes = jax.vmap(jax.grad(gradtx.global_norm))(rows)
    np.testing.assert_allclose(slopes, [[0.6, 0.8]] * 3 + [[0.0, 0.0]], rtol=1e-6)
    # The Hessian of a norm at g: (1 - u u') / |g|, with u = g / |g|.
    expected = np.array([[0.64, -0.48], [-0.48, 0.36]]) / 5
    np.testing.assert_allclose(jax.hessian(gradtx.global_norm)(rows[0]), expected, atol=1e-6)
    assert not np.any(jax.hessian(gradtx.global_norm)(rows[3]))


def test_norm_inside_shard_map():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.P("d")

    def total(part):
        own, whole = gradtx.global_norm([part]), gradtx.global_norm([jax.lax.psum(part, "d")])
        return own[None], whole

    for size in (1.0, 1e30):
        part = jax.shard_map(total, mesh=mesh, in_specs=spec, out_specs=(spec, jax.P()))
        own, whole = part(jnp.asarray([1.0, 2.0, 3.0, 4.0]) * size)
        np.testing.assert_allclose(own, np.arange(1, 5) * size, rtol=1e-6)
        np.testing.assert_allclose(whole, 10 * size, rtol=1e-6)


# A norm beyond 2^126 has no normal reciprocal.
@pytest.mark.parametrize("size", [*SIZES[:-1], 5e36])
def test_clipping_keeps_the_direction(size):
    tx = gradtx.clip_by_global_norm(0.5 * size)
    updates, _ = tx.update([jnp.asarray([3.0, 4.0]) * size, jnp.asarray(12.0) * size], gradtx.EmptyState())
    assert [*map(float, updates[0]), float(updates[1])] == pytest.approx([x * 0.5 * size / 13 for x in (3, 4, 12)])


def test_clipping_leaves_others_when_one_square_overflows():
    updates, _ = gradtx.clip_by_global_norm(1.0).update([jnp.asarray([1e20, 1e18])], gradtx.EmptyState())
    np.testing.assert_allclose(updates[0], [0.99995, 0.0099995], rtol=1e-6)
