"""Clipping, normalisation and noise: oracles, optax, what is not finite, and sizes at the ends of the range."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx

from .steps import once, updates_of

STEPS = 50
RTOL = 1e-12
INF, NAN = np.inf, np.nan


# Bounds of 0, and what is not finite


@pytest.mark.parametrize(
    "tx",
    [gradtx.clip(0.0), gradtx.clip_by_global_norm(0.0), gradtx.clip_by_block_rms(0.0), gradtx.adaptive_grad_clip(0.0)],
    ids=lambda tx: type(tx).__name__,
)
def test_a_bound_of_0_is_no_step(tx: Any) -> None:
    """Also of a gradient of 0."""
    grads = {"w": jnp.ones(3), "zero": jnp.zeros(2)}
    for each in (grads, jax.tree.map(jnp.zeros_like, grads)):
        chex.assert_trees_all_equal(once(tx, each, grads), jax.tree.map(jnp.zeros_like, grads))


def test_optax_makes_nan_of_no_gradient_and_no_bound() -> None:
    """https://github.com/google-deepmind/optax/issues/1752."""
    zero = jnp.zeros(2)
    assert np.all(np.isnan(once(optax.clip_by_global_norm(0.0), zero)))
    np.testing.assert_array_equal(once(gradtx.clip_by_global_norm(0.0), zero), zero)


@pytest.mark.parametrize("lib", [gradtx, optax], ids=["gradtx", "optax"])
def test_one_infinite_entry_is_not_hidden_by_the_global_norm(lib: Any) -> None:
    grads = {"w": jnp.array([1.0, INF]), "b": jnp.ones(2)}
    chex.assert_trees_all_equal(
        once(lib.clip_by_global_norm(1.0), grads), {"w": jnp.array([0.0, NAN]), "b": jnp.zeros(2)}
    )


def test_a_nan_is_not_hidden_by_the_global_norm() -> None:
    grads = {"w": jnp.array([1.0, NAN]), "b": jnp.ones(2)}
    assert np.all(np.isnan(np.concatenate(jax.tree.leaves(once(gradtx.clip_by_global_norm(1.0), grads)))))
    # The two that clip leaf by leaf leave the others alone.
    for tx in (gradtx.clip_by_block_rms(2.0), gradtx.adaptive_grad_clip(2.0)):
        clipped = once(tx, grads, grads | {"w": jnp.ones(2)})
        assert np.all(np.isnan(clipped["w"]))
        np.testing.assert_array_equal(clipped["b"], grads["b"])


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_norm_of_the_whole_tree_has_any_size(size: float) -> None:
    """Squares leave the range of float32 from 2e19 on, and below 1e-19."""
    grads, unit = jnp.array([[3.0, 4.0], [0.0, 0.0]]) * size, np.float32(size)
    for tx in (gradtx.clip_by_global_norm(unit), gradtx.normalize_by_update_norm(unit, 0.0)):
        np.testing.assert_allclose(jnp.sqrt(jnp.sum(jnp.square(once(tx, grads) / unit))), 1.0, rtol=1e-6)
    history = gradtx.zclip(0.9, 2.0, 2.0, eps=0.0)
    _, state = history.update(grads, history.init(grads))
    _, state = history.update(2 * grads, state)
    np.testing.assert_allclose([state.mean / unit, state.deviation / unit], [7.5, 2.5], rtol=1e-6)


def test_where_a_square_overflows_a_part_becomes_0() -> None:
    grads = {"far": jnp.array([1e20, 1.0]), "near": jnp.ones(2)}
    for tx in (gradtx.clip_by_block_rms(2.0), gradtx.adaptive_grad_clip(2.0)):
        chex.assert_trees_all_equal(
            once(tx, grads, {"far": jnp.ones(2), "near": jnp.ones(2)}), grads | {"far": jnp.zeros(2)}
        )
    sums, clipped = gradtx.per_example_global_norm_clip(jnp.array([[1e20, 1.0], [0.0, 0.5]]), 1.0)
    np.testing.assert_array_equal(sums, [0.0, 0.5])
    assert clipped == 1


# Adaptive clipping


def agc_in_numpy(g: np.ndarray, p: np.ndarray, clipping: float, eps: float) -> np.ndarray:
    """As the paper prints it, of a kernel of inputs x outputs: for each output."""
    out = g.copy()
    for j in range(g.shape[1]):
        most = clipping * max(np.linalg.norm(p[:, j]), eps)
        norm = np.linalg.norm(g[:, j])
        out[:, j] = g[:, j] * most / norm if norm > most else g[:, j]
    return out


@pytest.mark.usefixtures("x64")
def test_adaptive_clipping_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    g, p = rng.normal(size=(5, 4)) * np.array([1.0, 1.0, 0.1, 3.0]), rng.normal(size=(5, 4))
    p[:, 0] = 0.0
    expected = agc_in_numpy(g, p, 0.7, 1e-2)
    assert 0 < np.sum(expected != g) < g.size
    np.testing.assert_allclose(once(gradtx.adaptive_grad_clip(0.7, 1e-2), g, p), expected, rtol=1e-14)
    np.testing.assert_allclose(once(gradtx.adaptive_grad_clip(0.7, 1e-2, axis=1), g.T, p.T), expected.T, rtol=1e-14)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("axis", [None, 0, (0, 2)])
def test_adaptive_clipping_equals_optax_in_each_rank(axis: Any) -> None:
    rng, ranks = np.random.default_rng(1), (1, 2, 3, 4, 5) if axis is None else (3, 4)
    shapes = [(2, 3, 4, 2, 3)[:rank] for rank in ranks] + [(1, 5)] * (axis is None)
    g, p = ([rng.normal(size=shape) for shape in shapes] for _ in range(2))
    ours, theirs = (once(lib.adaptive_grad_clip(0.6, axis=axis), g, p) for lib in (gradtx, optax))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-14)


def test_optax_bounds_by_more_than_it_says_where_the_bound_is_tiny() -> None:
    """Its guard against a division by 0, 1e-6, is larger than the norm here."""
    g, p = jnp.array([3e-7, 4e-7]), jnp.zeros(2)
    ours, theirs = (jnp.linalg.norm(once(lib.adaptive_grad_clip(1e-4), g, p)) for lib in (gradtx, optax))
    np.testing.assert_allclose([ours, theirs], [1e-7, 5e-8], rtol=1e-5)


def test_adaptive_clipping_works_on_an_explicit_mesh() -> None:
    mesh = jax.make_mesh((len(jax.devices()),), ("x",), axis_types=(AxisType.Explicit,))
    size = 2 * len(jax.devices())
    g = p = jnp.arange(size * size, dtype=jnp.float32).reshape(size, size)
    expected = once(gradtx.adaptive_grad_clip(0.5), g, p)
    with jax.set_mesh(mesh):
        for spec in (PartitionSpec(None, "x"), PartitionSpec("x", None)):
            sharded = jax.device_put(g, NamedSharding(mesh, spec))
            clipped = jax.jit(lambda g: once(gradtx.adaptive_grad_clip(0.5), g, g))(sharded)
            assert clipped.sharding.spec == spec
            np.testing.assert_allclose(clipped, expected, rtol=1e-6)
        with pytest.raises(Exception, match="shard"):
            jax.jit(lambda g: once(optax.adaptive_grad_clip(0.5), g, g))(sharded)


@pytest.mark.parametrize("make", [gradtx.centralize, lambda axis: gradtx.adaptive_grad_clip(0.1, axis=axis)])
@pytest.mark.parametrize("axis", [0.5, True, "x", (0, None)])
def test_axes_are_whole_numbers(make: Any, axis: Any) -> None:
    with pytest.raises(TypeError, match="`axis`: expected an axis, a tuple of axes or None, got"):
        make(axis=axis)


@pytest.mark.usefixtures("x64")
def test_centralized_along_any_axes() -> None:
    g = np.random.default_rng(0).normal(size=(3, 4, 5))
    for axis, means in ((None, g.mean((1, 2), keepdims=True)), (0, g.mean(0)), ((0, 1), g.mean((0, 1)))):
        np.testing.assert_allclose(once(gradtx.centralize(axis), g), g - means, rtol=1e-13)


# By history


def zclip_in_numpy(norms: Any, decay: float, z_threshold: float, warmup_steps: int, eps: float) -> list[float]:
    """Norms after clipping, as the authors' code has them: https://github.com/bluorion-com/ZClip."""
    seen, after, mean, variance = [], [], 0.0, 0.0
    for norm in norms:
        kept = norm
        if len(seen) < warmup_steps:
            seen.append(norm)
            mean, variance = np.mean(seen), np.var(seen)
        else:
            z = (norm - mean) / (variance**0.5 + eps)
            if z > z_threshold:
                kept = mean + z_threshold * variance**0.5 / (z / z_threshold)
            mean = decay * mean + (1 - decay) * kept
            variance = decay * variance + (1 - decay) * (kept - mean) ** 2
        after.append(kept)
    return after


@pytest.mark.usefixtures("x64")
def test_clipping_by_history_is_the_papers() -> None:
    rng = np.random.default_rng(3)
    norms = np.exp(0.3 * rng.normal(size=STEPS))
    norms[12::5] *= 20.0
    direction = np.array([0.6, -0.8])
    tx = gradtx.zclip(0.9, 2.0, 10.0, 1e-3)
    updates = updates_of(tx, direction, norms[:, None] * direction)
    expected = zclip_in_numpy(norms, 0.9, 2.0, 10, 1e-3)
    clipped = np.count_nonzero(expected != norms)
    assert 3 < clipped < STEPS // 2
    np.testing.assert_allclose(updates, np.array(expected)[:, None] * direction, rtol=RTOL)
    state = tx.init(direction)
    for norm in norms:
        _, state = tx.update(norm * direction, state)
    report = gradtx.report(state)
    assert set(report) == {"norm", "mean_norm", "clip_fraction"}
    np.testing.assert_allclose(report["norm"], norms[-1], rtol=RTOL)
    np.testing.assert_allclose(report["clip_fraction"], clipped / STEPS, rtol=1e-6)  # of two int32


def test_a_norm_that_is_not_finite_stays_out_of_the_history() -> None:
    tx, g = gradtx.zclip(warmup_steps=2.0), jnp.array([3.0, 4.0])
    _, state = tx.update(g, tx.init(g))
    for bad in (NAN, INF):
        updates, after = tx.update(g.at[0].set(bad), state)
        assert not np.isfinite(updates[0])
        chex.assert_trees_all_equal(after._replace(norm=state.norm), state)


# NaN and norms


def test_nans_become_0_and_are_reported() -> None:
    tx = gradtx.zero_nans()
    params = {"a": jnp.ones(2), "b": jnp.ones(2), "none": None}
    state = tx.init(params)
    updates, state = tx.update({"a": jnp.array([NAN, INF]), "b": jnp.ones(2), "none": None}, state)
    np.testing.assert_array_equal(updates["a"], [0.0, INF])
    assert state.found_nan == {"a": True, "b": False, "none": None}
    assert gradtx.report(state)["found_nan"]
    # A parameter without a gradient keeps its flag.
    _, state = tx.update({"a": None, "b": jnp.ones(2), "none": None}, state)
    assert gradtx.report(state)["found_nan"]
    _, state = tx.update({"a": jnp.ones(2), "b": jnp.ones(2), "none": None}, state)
    assert not gradtx.report(state)["found_nan"]


def test_normalizing_a_gradient_of_0() -> None:
    """optax's is NaN."""
    zero = jnp.zeros(2)
    np.testing.assert_array_equal(once(gradtx.normalize(), zero), zero)
    assert np.all(np.isnan(once(optax.contrib.normalize(), zero)))


# Hypergradients


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "make",
    [
        gradtx.clip,
        gradtx.clip_by_global_norm,
        gradtx.clip_by_block_rms,
        gradtx.adaptive_grad_clip,
        lambda x: gradtx.adaptive_grad_clip(0.3, 2 * x),
        lambda x: gradtx.zclip(x, 1.0, 2.0),
        lambda x: gradtx.zclip(0.5, 2 * x, 2.0),
        lambda x: gradtx.add_noise(x, 0.5, 0),
        lambda x: gradtx.add_noise(0.1, x, 0),
        gradtx.normalize_by_update_norm,
        lambda x: gradtx.normalize_by_update_norm(1.0, x),
    ],
)
def test_hypergradients_are_finite_differences(make: Any) -> None:
    params, noise = jnp.array([[0.5, -1.0], [0.0, 2.0]]), np.random.default_rng(0).normal(size=(8, 2, 2))
    noise *= np.array([1.0, 1.1, 0.9, 1.0, 6.0, 1.0, 1.2, 5.0])[:, None, None]
    weights = np.random.default_rng(1).normal(size=noise.shape)

    def total(x: Any) -> jax.Array:
        return jnp.sum(weights * updates_of(make(x), params, noise))

    slope, h = jax.grad(total)(0.4), 1e-6
    assert slope != 0
    np.testing.assert_allclose(slope, (total(0.4 + h) - total(0.4 - h)) / (2 * h), rtol=1e-5)


def test_hypergradient_of_a_private_aggregate() -> None:
    grads = jnp.array([[3.0, 4.0], [0.1, 0.2]])

    def first(clip: Any) -> jax.Array:
        return once(gradtx.differentially_private_aggregate(clip, 0.0, key=0), grads, grads[0])[0]

    # Only the first is clipped, to c times .6, and two are averaged.
    np.testing.assert_allclose(jax.grad(first)(1.0), 0.3, rtol=1e-6)
