"""Constraints on parameters: where a step ends, in float64, float32 and bfloat16."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

from .problem import assert_close, gradient, problem, train

STEPS = 50
# As in test_oracles.py.
RTOL = 1e-12

# For calls that type checkers refuse, too.
UNTYPED: Any = gradtx

CONSTRAINTS = {
    "keep_params_nonnegative": gradtx.keep_params_nonnegative(),
    "max_norm": gradtx.max_norm(0.5),
    "max_norm units": gradtx.max_norm(0.5, axis=0),
    "norm_floor": gradtx.norm_floor(5.0),
    "norm_floor units": gradtx.norm_floor(5.0, axis=0),
    "project_norm": gradtx.project_norm(2.0),
    "project_norm units": gradtx.project_norm(2.0, axis=0),
    "hyperball": gradtx.hyperball(),
    "hyperball units": gradtx.hyperball(axis=0),
}
each_constraint = pytest.mark.parametrize("tx", CONSTRAINTS.values(), ids=CONSTRAINTS.keys())


def moved(tx: Any, params: Any, updates: Any, state: Any = None) -> Any:
    """The parameters after a step."""
    state = tx.init(params) if state is None else state
    return gradtx.apply_updates(params, tx.update(updates, state, params)[0])


def norms(tree: Any, axis: Any = None) -> list[np.ndarray]:
    found = []
    for leaf in jax.tree.leaves(tree):
        x = np.asarray(leaf, np.float64)
        found.append(np.ravel(np.sqrt(np.sum(x**2, axis=axis if x.ndim else None))))
    return found


def sample(dtype: Any = np.float64) -> tuple[Any, Any]:
    params, noise = problem(1, dtype)
    return jax.tree.map(jnp.asarray, params), jax.tree.map(lambda n: jnp.asarray(n[0]), noise)


@pytest.mark.usefixtures("x64")
@each_constraint
def test_a_projected_point_stays_where_it_is(tx: Any) -> None:
    params, updates = sample()
    state = tx.init(params)
    there = moved(tx, params, updates, state)
    # The difference and the sum round once each, of parameters and steps that are up to 100 times as long.
    assert_close(moved(tx, there, jax.tree.map(jnp.zeros_like, there), state), there, 1e-15 * 100)


@pytest.mark.usefixtures("x64")
@each_constraint
def test_constraints_are_of_the_point_and_not_of_how_it_is_reached(tx: Any) -> None:
    """From other parameters by another step to the same planned point: the end is the same."""
    params, updates = sample()
    state = tx.init(params)
    other = jax.tree.map(lambda p: 0.7 * p + 0.1, params)
    rest = jax.tree.map(lambda p, u, o: p + u - o, params, updates, other)
    assert_close(moved(tx, other, rest, state), moved(tx, params, updates, state), 1e-13)


@pytest.mark.usefixtures("x64")
def test_norms_are_in_range_and_points_the_nearest() -> None:
    params, updates = sample()
    planned = gradtx.apply_updates(params, updates)
    for axis in (None, 0):
        for tx, low, high in (
            (gradtx.max_norm(0.5, axis), 0.0, 0.5),
            (gradtx.norm_floor(5.0, axis), 5.0, np.inf),
            (gradtx.project_norm(2.0, axis), 2.0, 2.0),
        ):
            there = moved(tx, params, updates)
            for before, after in zip(norms(planned, axis), norms(there, axis), strict=True):
                expected = np.clip(before, low, high) * (before > 0)
                np.testing.assert_allclose(after, expected, rtol=1e-12)
            for p, q in zip(*map(jax.tree.leaves, (planned, there)), strict=True):
                if axis is None and p.size:
                    # Along the same ray.
                    np.testing.assert_allclose(q * np.linalg.norm(p), p * np.linalg.norm(q), rtol=1e-12)


def test_a_step_that_ends_where_it_may_is_left_alone_to_the_bit() -> None:
    params, updates = sample(np.float32)
    small = jax.tree.map(lambda u: 1e-3 * u, updates)
    for tx in (gradtx.max_norm(1e6), gradtx.norm_floor(1e-9)):
        chex.assert_trees_all_equal(tx.update(small, tx.init(params), params)[0], small)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_no_parameter_is_negative_in_any_precision(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    params = jnp.asarray(np.abs(rng.normal(size=10_000)), dtype)
    for tx in (
        gradtx.keep_params_nonnegative(),
        gradtx.chain(gradtx.sgd(1.0), gradtx.keep_params_nonnegative()),
    ):
        updates = jnp.asarray(rng.normal(size=10_000), dtype)
        there = moved(tx, params, updates)
        assert float(jnp.min(there)) == 0.0
        assert 0.2 < float(jnp.mean((there == 0).astype(jnp.float32))) < 0.4


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@each_constraint
def test_half_precision_ends_at_the_rounded_projection(tx: Any, dtype: Any) -> None:
    """Within one spacing of the projection in float64, though the step that leads there is rounded, too."""
    rng = np.random.default_rng(1)
    params = jnp.asarray(rng.normal(size=(64, 64)), dtype)
    updates = jnp.asarray(0.3 * rng.normal(size=(64, 64)), dtype)
    there = moved(gradtx.chain(tx), params, updates)
    with jax.enable_x64(True):
        exact = moved(tx, jnp.asarray(np.asarray(params, np.float64)), jnp.asarray(np.asarray(updates, np.float64)))
    eps = float(jnp.finfo(dtype).eps)
    # Half a spacing of the step, which is as long as params and projection together, and half of the sum.
    bound = 0.5 * eps * (np.abs(np.asarray(exact) - np.asarray(params, np.float64)) + np.abs(exact)) * 1.01 + 1e-7
    assert np.all(np.abs(np.asarray(there, np.float64) - np.asarray(exact)) <= bound)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("radius", ["initial", "current"])
def test_hyperball_keeps_the_norm_and_is_the_fields_formula(radius: Any) -> None:
    """W <- R normalize(W - lr R normalize(u)), with u the direction of Adam."""
    params, noise = problem(STEPS)
    tx = gradtx.chain(
        gradtx.scale_by_adam(eps=1e-3),
        gradtx.scale_by_trust_ratio(),
        gradtx.scale_by_learning_rate(0.1),
        gradtx.hyperball(radius),
    )
    path, _ = train(tx, params, noise)

    def oracle(w: np.ndarray, noise: np.ndarray) -> np.ndarray:
        size, mu, nu, found = np.linalg.norm(w), 0.0, 0.0, []
        for t, n in enumerate(noise, start=1):
            g = gradient(w, n)
            mu, nu = 0.9 * mu + 0.1 * g, 0.999 * nu + 0.001 * g**2
            u = mu / (1 - 0.9**t) / (np.sqrt(nu / (1 - 0.999**t)) + 1e-3)
            w = w - 0.1 * size * u / max(np.linalg.norm(u), 1e-300)
            w = size * w / max(np.linalg.norm(w), 1e-300)
            found.append(w)
        return np.stack(found)

    assert_close(path, jax.tree.map(oracle, params, noise), RTOL)
    for leaf, start in zip(*map(jax.tree.leaves, (path, params)), strict=True):
        sizes = np.linalg.norm(np.reshape(leaf, (STEPS, -1)), axis=1)
        # "current" adds a rounding a step.
        np.testing.assert_allclose(sizes, np.linalg.norm(start), rtol=1e-14 if radius == "initial" else 1e-13)


def test_hyperball_does_not_drift_from_the_norm_it_began_with() -> None:
    """In bfloat16 each step rounds; the initial radius takes that back at the next one, the current one keeps it."""
    rng = np.random.default_rng(0)
    params = jnp.asarray(rng.normal(size=(128, 128)), jnp.bfloat16)
    steps = jnp.asarray(0.05 * rng.normal(size=(300, 128, 128)), jnp.bfloat16)

    def last(tx: Any) -> float:
        def step(carry: Any, u: Any) -> Any:
            updates, state = tx.update(u, carry[1], carry[0])
            return (gradtx.apply_updates(carry[0], updates), state), None

        (end, _), _ = jax.lax.scan(step, (params, tx.init(params)), steps)
        return float(norms(end)[0][0] / norms(params)[0][0]) - 1

    initial, current = last(gradtx.hyperball()), last(gradtx.hyperball("current"))
    # One rounding of 16,384 entries; 300 of them.
    assert abs(initial) < 3e-4
    assert abs(initial) < abs(current)


def test_hyperball_of_stacked_matrices_keeps_each_norm() -> None:
    rng = np.random.default_rng(0)
    params, updates = (jnp.asarray(rng.normal(size=(5, 3, 4)), jnp.float32) for _ in range(2))
    there = moved(gradtx.hyperball(axis=(-2, -1)), params, updates)
    np.testing.assert_allclose(norms(there, (1, 2))[0], norms(params, (1, 2))[0], rtol=1e-6)
    whole = moved(gradtx.hyperball(), params, updates)
    assert not np.allclose(norms(whole, (1, 2))[0], norms(params, (1, 2))[0], rtol=1e-2)


def test_leaves_of_zeros_have_no_direction() -> None:
    zero, step = {"w": jnp.zeros((2, 2))}, {"w": jnp.ones((2, 2))}
    chex.assert_trees_all_equal(moved(gradtx.hyperball(), zero, step), step)
    for tx in (gradtx.norm_floor(1.0), gradtx.project_norm(1.0)):
        chex.assert_trees_all_equal(moved(tx, zero, zero), zero)


def test_several_constraints_may_follow_each_other() -> None:
    tx = gradtx.chain(gradtx.sgd(1.0), gradtx.keep_params_nonnegative(), gradtx.max_norm(1.0))
    there = moved(tx, jnp.array([3.0, 4.0]), jnp.array([-3.0, 9.0]))
    np.testing.assert_allclose(there, [1.0, 0.0], atol=1e-7)


def test_a_stage_that_keeps_track_of_parameters_cannot_stand_before_a_constraint() -> None:
    words = r"stage 0 \(mechanize\) keeps track of the parameters that its updates lead to, and must come last"
    with pytest.raises(ValueError, match=words):
        gradtx.chain(gradtx.mechanize(gradtx.sgd(1.0)), gradtx.max_norm(1.0))
    with pytest.raises(ValueError, match=r"stage 0 \(nag\) defines gradient_params and must come last"):
        gradtx.chain(gradtx.nag(0.1), gradtx.hyperball())
    # Inside, it is part of the step that is kept track of.
    tx = gradtx.sam(gradtx.chain(gradtx.sgd(0.1), gradtx.max_norm(1.0)))
    params = jnp.array([3.0, 4.0])
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(params, state, params)
        params = gradtx.apply_updates(params, updates)
    assert norms(params)[0][0] == pytest.approx(1.0, rel=1e-6)


@pytest.mark.usefixtures("x64")
def test_nonnegative_descent_equals_optax_and_finds_the_constrained_minimum() -> None:
    target = jnp.array([1.0, -2.0, 0.5])
    both = []
    for library in (gradtx, optax):
        tx, x = library.chain(library.sgd(0.1), library.keep_params_nonnegative()), jnp.ones(3)
        state = tx.init(x)
        for _ in range(100):
            updates, state = tx.update(x - target, state, x)
            x = library.apply_updates(x, updates)
        both.append(x)
    np.testing.assert_allclose(both[0], both[1], rtol=1e-15)
    np.testing.assert_allclose(both[0], [1.0, 0.0, 0.5], rtol=1e-4)


def test_a_sweep_over_radii_is_a_vmap_and_radii_have_hypergradients() -> None:
    params, updates = jnp.array([3.0, 4.0]), jnp.zeros(2)
    radii = jnp.array([0.5, 2.0, 20.0])
    ends = jax.vmap(lambda r: moved(gradtx.max_norm(r), params, updates))(radii)
    np.testing.assert_allclose(np.linalg.norm(ends, axis=1), [0.5, 2.0, 5.0], rtol=1e-6)
    slope = jax.grad(lambda r: jnp.sum(moved(gradtx.max_norm(r), params, updates) ** 2))
    np.testing.assert_allclose([slope(2.0), slope(20.0)], [4.0, 0.0], rtol=1e-6)


def test_a_nan_is_not_hidden() -> None:
    params, updates = jnp.ones(2), jnp.array([np.nan, 0.0])
    for tx in (gradtx.max_norm(1.0), gradtx.project_norm(1.0), gradtx.hyperball(), gradtx.keep_params_nonnegative()):
        assert np.any(np.isnan(moved(tx, params, updates)))


def test_entries_of_any_size_have_a_norm() -> None:
    # Squares of these leave the range of float32.
    for size in (1e-30, 1e30):
        there = moved(gradtx.project_norm(10 * size), jnp.array([3.0, 4.0]) * size, jnp.zeros(2))
        np.testing.assert_allclose(there / size, [6.0, 8.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: gradtx.max_norm(0.0), ValueError, "`max_norm` must be a finite number > 0, got 0.0"),
        (lambda: gradtx.norm_floor(-1.0), ValueError, "`min_norm` must be a finite number > 0, got -1.0"),
        (lambda: gradtx.project_norm(float("inf")), ValueError, "`norm` must be a finite number > 0, got inf"),
        (lambda: UNTYPED.max_norm(1.0, "rows"), TypeError, "`axis`: expected an axis, a tuple of axes or None, got"),
        (lambda: UNTYPED.max_norm(1.0, (0, 1.5)), TypeError, "expected an axis, a tuple of axes or None, got"),
        (lambda: UNTYPED.hyperball("last"), ValueError, "`radius` must be 'initial' or 'current', got 'last'"),
        (
            lambda: moved(gradtx.keep_params_nonnegative(), {"w": jnp.ones(2, complex)}, {"w": jnp.ones(2, complex)}),
            TypeError,
            r"keep_params_nonnegative: params\['w'\] is complex, expected real numbers: they have no order",
        ),
        (
            lambda: gradtx.hyperball().init({"w": jnp.arange(3)}),
            TypeError,
            r"params\['w'\] has dtype int32, expected a floating or complex array",
        ),
        (
            lambda: moved(gradtx.max_norm(jnp.ones(2)), jnp.ones(2), jnp.ones(2)),
            ValueError,
            r"`max_norm` has shape \(2,\), expected one number",
        ),
        (
            lambda: moved(gradtx.norm_floor(jnp.ones(2)), jnp.ones(2), jnp.ones(2)),
            ValueError,
            r"`min_norm` has shape \(2,\), expected one number",
        ),
        (
            lambda: UNTYPED.max_norm(1.0).update(jnp.ones(2), gradtx.EmptyState()),
            ValueError,
            "max_norm needs params",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()
