"""Averages of parameters: oracles, identities, order and nesting, sweeps and derivatives."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

from .following import follow, followed
from .problem import ALIKE, CURVATURE, assert_close, problem

STEPS = 50
# Rounding of 2^-53 an operation, some ten operations a step, 50 steps: 1e-13, and the gradient feeds it back.
RTOL = 1e-12
LINE = gradtx.linear_schedule(0.0, 0.1, 10)
SMOOTH: Any = {"b1": 0.8, "b2": 0.95, "eps": 1e-3}


def weights_of(tx: Any, steps: int) -> np.ndarray:
    """The weight of each iterate in the average after each step: the t-th iterate is the t-th unit vector."""

    def step(carry: Any, target: Any) -> Any:
        params, state = carry
        updates, state = tx.update(params - target, state, params)
        params = gradtx.apply_updates(params, updates)
        return (params, state), tx.eval_params(params, state)

    targets = jnp.eye(steps)
    start = jnp.zeros(steps)
    return np.asarray(jax.lax.scan(step, (start, tx.init(start)), targets)[1])


def points_taken(t: int, start_step: int, every: int) -> list[int]:
    """Which iterates, from 1 on, an average has taken after step t."""
    return [s for s in range(1, t + 1) if s > start_step and (s - start_step) % every == 0]


def ema_weights(n: int, decay: Callable[[int], float], warmup: float = 1.0) -> np.ndarray:
    """Of n points: each decay multiplies what was there."""
    weights = np.zeros(0)
    for t in range(n):
        rho = min(decay(t), (1 + t) / (warmup + t))
        weights = np.append(rho * weights, 1 - rho)
    return weights / weights.sum()


def tail_weights(n: int, fraction: float) -> np.ndarray:
    """Of n points: the smaller root of Le Roux's equation."""
    weights, sizes = np.zeros(0), [max(1.0, fraction * t) for t in range(n + 1)]
    for t in range(1, n + 1):
        roots = np.roots([1 / sizes[t - 1] + 1, -2.0, 1 - 1 / sizes[t]])
        keep = 0.0 if t == 1 else roots.real.min()
        weights = np.append(keep * weights, 1 - keep)
    return weights


def power_weights(n: int, power: float) -> np.ndarray:
    weights = np.arange(1.0, n + 1) ** power
    return weights / weights.sum()


def last_weights(n: int, k: int) -> np.ndarray:
    return np.where(np.arange(n) >= n - k, 1 / min(n, k), 0.0)


AVERAGES: dict[str, Any] = {
    "average": (lambda tx: gradtx.average(tx, 0.8), lambda n: ema_weights(n, lambda t: 0.8), 0, 1),
    "average-warmup": (lambda tx: gradtx.average(tx, 0.8, 10.0), lambda n: ema_weights(n, lambda t: 0.8, 10.0), 0, 1),
    "average-late": (
        lambda tx: gradtx.average(tx, 0.8, start_step=7, every=3),
        lambda n: ema_weights(n, lambda t: 0.8),
        7,
        3,
    ),
    "average-scheduled": (
        lambda tx: gradtx.average(tx, gradtx.linear_schedule(0.0, 0.9, 20)),
        lambda n: ema_weights(n, lambda t: 0.9 * min(t, 20) / 20),
        0,
        1,
    ),
    "polyak": (gradtx.polyak_average, lambda n: power_weights(n, 0.0), 0, 1),
    "polyak-power": (lambda tx: gradtx.polyak_average(tx, 2.5), lambda n: power_weights(n, 2.5), 0, 1),
    "polyak-late": (
        lambda tx: gradtx.polyak_average(tx, start_step=10, every=5),
        lambda n: power_weights(n, 0.0),
        10,
        5,
    ),
    "tail": (gradtx.tail_average, lambda n: tail_weights(n, 0.5), 0, 1),
    "tail-short": (lambda tx: gradtx.tail_average(tx, 0.15), lambda n: tail_weights(n, 0.15), 0, 1),
    "tail-whole": (lambda tx: gradtx.tail_average(tx, 1.0), lambda n: power_weights(n, 0.0), 0, 1),
    "lawa": (lambda tx: gradtx.lawa(tx, 3, 4, start_step=2), lambda n: last_weights(n, 3), 2, 4),
}
each_average = pytest.mark.parametrize("name", AVERAGES)


@pytest.mark.usefixtures("x64")
@each_average
def test_an_average_equals_its_formula(name):
    """Of the iterates that the optimizer really has, which are those without an average."""
    wrap, weights, start_step, every = AVERAGES[name]
    params, noise = problem(STEPS)
    bare, _, _ = followed(gradtx.adam(0.05, **SMOOTH), params, noise)
    path, points, _ = followed(wrap(gradtx.adam(0.05, **SMOOTH)), params, noise)
    chex.assert_trees_all_equal(path, bare)
    for t in range(1, STEPS + 1):
        taken = points_taken(t, start_step, every)
        expected = jax.tree.map(
            lambda leaf, taken=taken, t=t: (
                np.tensordot(weights(len(taken)), leaf[np.array(taken) - 1], 1) if taken else leaf[t - 1]
            ),
            jax.tree.map(np.asarray, bare),
        )
        assert_close(jax.tree.map(lambda leaf, t=t: leaf[t - 1], points), expected, RTOL)


@pytest.mark.usefixtures("x64")
def test_without_debias_the_average_begins_at_the_parameters():
    params, noise = problem(STEPS)
    path, points, _ = followed(gradtx.average(gradtx.sgd(0.05), 0.9, debias=False), params, noise)
    old = params
    for t in range(STEPS):
        new = jax.tree.map(lambda leaf, t=t: leaf[t], path)
        with jax.numpy_dtype_promotion("standard"):
            old = optax.incremental_update(new, old, 0.1)
        assert_close(jax.tree.map(lambda leaf, t=t: leaf[t], points), old, RTOL)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("fraction", [0.1, 0.35, 0.5, 1.0])
def test_a_tail_average_has_the_variance_of_a_mean_of_the_tail(fraction):
    weights = weights_of(gradtx.tail_average(gradtx.sgd(1.0), fraction), 60)
    sizes = np.maximum(1, fraction * np.arange(1, 61))
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-13)
    np.testing.assert_allclose((weights**2).sum(1), 1 / sizes, rtol=1e-12)
    # The beginning is forgotten, unlike in a mean of all.
    assert fraction == 1.0 or weights[-1, :10].sum() < 0.1 * 10 / 60


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_the_average_of_a_constant_is_that_constant(dtype):
    params = {"a": jnp.asarray(np.random.default_rng(0).normal(size=7), dtype), "b": jnp.asarray(0.1, dtype)}
    others = [lambda tx: gradtx.lookahead(tx, 2, 0.3), lambda tx: gradtx.schedule_free(tx, 0.1, keep_x=True)]
    for wrap in [*(each[0] for each in AVERAGES.values()), *others]:
        tx = wrap(gradtx.sgd(0.1))

        def step(carry, _, tx=tx):
            params, state = carry
            updates, state = tx.update(jax.tree.map(jnp.zeros_like, params), state, params)
            params = gradtx.apply_updates(params, updates)
            return (params, state), tx.eval_params(params, state)

        _, points = jax.lax.scan(step, (params, tx.init(params)), length=13)
        chex.assert_trees_all_equal(
            points, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (13, *leaf.shape)), params)
        )


@pytest.mark.parametrize("in_chain", [False, True], ids=["around", "last in a chain"])
def test_half_precision_averages_what_the_parameters_really_become(in_chain):
    """In a chain updates are float32 inside, and rounded behind the last stage."""
    params, noise = problem(20, jnp.bfloat16, ALIKE)
    tx = gradtx.polyak_average(gradtx.sgd(0.37))
    tx = gradtx.chain(gradtx.clip(1e3), tx) if in_chain else tx
    path, _, state = followed(tx, params, noise)
    state = state[1] if in_chain else state
    assert {leaf.dtype for leaf in jax.tree.leaves(state.average)} == {np.dtype(np.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(path)} == {np.dtype(jnp.bfloat16)}
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64).mean(0), path)
    # 20 sums in float32. A rounding to bfloat16 that is not mirrored is 4e-3 of an iterate.
    assert_close(state.average, exact, 1e-5)


def test_the_dtype_of_the_average_is_an_argument():
    params = jnp.ones(2, jnp.bfloat16)
    for wrap in (gradtx.average, gradtx.polyak_average, lambda tx, **dtype: gradtx.lawa(tx, 2, 1, **dtype)):
        for dtype, expected in ((None, jnp.float32), (jnp.bfloat16, jnp.bfloat16), ("float32", jnp.float32)):
            tx: Any = wrap(gradtx.sgd(1.0), accumulator_dtype=dtype)
            state = tx.init(params)
            kept = state.checkpoints if isinstance(state, gradtx.LawaState) else state.average
            assert kept.dtype == expected
            assert tx.eval_params(params, state).dtype == jnp.bfloat16


@each_average
def test_no_gradient_leaves_the_average_alone(name):
    """And a parameter that is frozen all the time is its own average."""
    tx = AVERAGES[name][0](gradtx.sgd(0.1))
    params = {"frozen": jnp.array([0.1, 0.7]), "now and then": jnp.array(1.0), "trained": jnp.array(1.0)}
    state = tx.init(params)
    for t in range(1, 14):
        before = tx.eval_params(params, state)["now and then"]
        given = {"frozen": None, "now and then": jnp.array(1.0) if t % 4 == 0 else None, "trained": jnp.array(1.0)}
        updates, state = tx.update(given, state, params)
        params = gradtx.apply_updates(params, updates)
        points = tx.eval_params(params, state)
        np.testing.assert_array_equal(points["frozen"], params["frozen"])
        if t % 4 and name != "lawa":  # whose mean grows by what is in the slots
            np.testing.assert_array_equal(points["now and then"], before)
        assert 0 < points["now and then"] <= 1


def test_updates_of_zero_count_as_points():
    """What an accumulation does between its steps: the parameters stay, and are averaged once more."""
    tx = gradtx.polyak_average(gradtx.sgd(1.0))
    params = jnp.zeros(())
    state = tx.init(params)
    for g in (0.0, -4.0, 0.0, 0.0):
        updates, state = tx.update(jnp.asarray(g), state, params)
        params = gradtx.apply_updates(params, updates)
    assert float(tx.eval_params(params, state)) == 3.0  # of 0, 4, 4, 4


def test_before_it_starts_an_average_is_the_newest_point():
    params, noise = problem(20, np.float32, ALIKE)
    for wrap in (gradtx.average, gradtx.polyak_average, gradtx.tail_average):
        path, points, _ = followed(wrap(gradtx.sgd(0.1), start_step=4, every=8), params, noise)
        early = jax.tree.map(lambda leaf: leaf[:12], (path, points))
        chex.assert_trees_all_equal(*early)
        assert not np.allclose(path["big"][14], points["big"][14])
    # Without debias the point where it starts is the first.
    path, points, _ = followed(gradtx.average(gradtx.sgd(0.1), debias=False, start_step=4, every=8), params, noise)
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[:4], path), jax.tree.map(lambda leaf: leaf[:4], points))
    np.testing.assert_array_equal(points["big"][10], path["big"][3])


def test_polyak_weights_of_a_high_power_stay_finite():
    """t^8 is beyond float32 from 64,000 on."""
    tx = gradtx.polyak_average(gradtx.sgd(1.0), power=8.0)
    state = tx.init(jnp.zeros(()))
    state = state._replace(count=jnp.asarray(10**6, jnp.int32), weight=jnp.asarray(1e6 / 9, jnp.float32))
    _, state = tx.update(jnp.asarray(-1.0), state, jnp.zeros(()))
    np.testing.assert_allclose(state.average, 9e-6, rtol=1e-4)


# Nesting and order


@pytest.mark.usefixtures("x64")
def test_an_average_of_an_average_and_of_what_carries_another_iterate():
    params, noise = problem(STEPS, leaves=ALIKE)
    _, inside, _ = followed(gradtx.average(gradtx.sgd(0.05), 0.8), params, noise)
    _, twice, _ = followed(gradtx.polyak_average(gradtx.average(gradtx.sgd(0.05), 0.8)), params, noise)
    assert_close(jax.tree.map(lambda x: x[-1], twice), jax.tree.map(lambda x: np.asarray(x).mean(0), inside), RTOL)
    free = gradtx.schedule_free(gradtx.sgd(0.05), 0.05)
    _, x, _ = followed(free, params, noise)
    _, mean, _ = followed(gradtx.polyak_average(free), params, noise)
    assert_close(jax.tree.map(lambda x: x[-1], mean), jax.tree.map(lambda x: np.asarray(x).mean(0), x), RTOL)
    # The look-ahead point of what is inside is handed on: `follow` differentiates there.
    bare, _, _ = followed(gradtx.nag(0.05), params, noise)
    path, _, _ = followed(gradtx.average(gradtx.nag(0.05)), params, noise)
    chex.assert_trees_all_equal(path, bare)


def test_what_would_change_the_step_goes_inside():
    sgd = gradtx.sgd(0.1)
    owners = {
        "average": gradtx.average(sgd),
        "polyak_average": gradtx.polyak_average(sgd),
        "tail_average": gradtx.tail_average(sgd),
        "lawa": gradtx.lawa(sgd, 2, 1),
        "lookahead": gradtx.lookahead(sgd, 2, 0.5),
        "schedule_free": gradtx.schedule_free(sgd, 0.1),
    }
    for name, tx in owners.items():
        with pytest.raises(ValueError, match=rf"stage 0 \({name}\) keeps track .* must come last"):
            gradtx.chain(tx, gradtx.scale(0.5))
        gradtx.chain(gradtx.clip(1.0), tx)
        gradtx.average(tx)
        for wrap in (lambda tx: gradtx.lookahead(tx, 2, 0.5), lambda tx: gradtx.schedule_free(tx, 0.1)):
            with pytest.raises(ValueError, match=rf"changes the updates of {name}, .* Put {name} outside: {name}\("):
                wrap(tx)
        with pytest.raises(ValueError, match="changes the updates of"):
            gradtx.lookahead(sgd, 2, 0.5, outer=tx)


def test_what_cannot_be_is_refused():
    sgd = gradtx.sgd(0.1)
    with pytest.raises(ValueError, match=r"`b1` must be positive, got 0: .* keep_x=True"):
        gradtx.schedule_free(sgd, 0.1, b1=0.0)
    with pytest.raises(ValueError, match=r"`outer` defines gradient_params .* gradtx.sgd\(learning_rate, momentum"):
        gradtx.lookahead(sgd, 2, 0.5, outer=gradtx.nag(0.1))
    with pytest.raises(ValueError, match=r"`every` must be a finite number >= 1, got 0"):
        gradtx.average(sgd, every=0)
    with pytest.raises(ValueError, match=r"`sync_period` must be a finite number >= 1, got 0"):
        gradtx.lookahead(sgd, 0, 0.5)
    with pytest.raises(ValueError, match=r"`fraction` must be in \(0, 1\], got 0"):
        gradtx.tail_average(sgd, 0.0)
    with pytest.raises(ValueError, match=r"`decay` must be in \[0, 1\), got 1"):
        gradtx.average(sgd, 1.0)
    with pytest.raises(ValueError, match="average needs params"):
        gradtx.average(sgd).update(jnp.ones(2), gradtx.average(sgd).init(jnp.ones(2)), None)


# Hyperparameters are data


@pytest.mark.usefixtures("x64")
def test_a_sweep_over_the_decay_and_the_horizon():
    params, noise = problem(STEPS, leaves=ALIKE)
    for make, values in (
        (lambda value: gradtx.average(gradtx.sgd(0.05), value), [0.5, 0.9, 0.99]),
        (lambda value: gradtx.average(gradtx.sgd(0.05), 0.9, every=value), [1.0, 2.0, 7.0]),
        (lambda value: gradtx.tail_average(gradtx.sgd(0.05), value), [0.1, 0.5, 1.0]),
        (lambda value: gradtx.polyak_average(gradtx.sgd(0.05), value), [0.0, 1.0, 8.0]),
        (lambda value: gradtx.lawa(gradtx.sgd(0.05), 3, value), [1.0, 2.0, 7.0]),
        (lambda value: gradtx.lookahead(gradtx.sgd(0.05), value, 0.5), [1.0, 2.0, 7.0]),
    ):
        grid = make(jnp.array(values))
        lanes = jax.vmap(lambda tx: follow(tx, params, noise)[1], in_axes=(gradtx.batch_axes(grid),))(grid)
        for i, value in enumerate(values):
            _, points, _ = followed(make(value), params, noise)
            assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], lanes), points, RTOL)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_hypergradients_of_an_average():
    params, noise = problem(20, leaves=ALIKE)

    @jax.jit
    def loss(tx):
        return sum(jnp.sum(leaf[-1] ** 2) for leaf in jax.tree.leaves(follow(tx, params, noise)[1]))

    for tx in (
        gradtx.average(gradtx.sgd(0.05), 0.9),
        gradtx.average(gradtx.sgd(0.05), 0.95, 3.0, debias=False),
        gradtx.polyak_average(gradtx.sgd(0.05), 1.5),
        gradtx.tail_average(gradtx.sgd(0.05), 0.4),
        gradtx.lookahead(gradtx.sgd(0.05), 3, 0.5, outer=gradtx.sgd(0.7, 0.8, nesterov=True)),
        # No step is at the end of the warm-up, where its slope has two values.
        gradtx.schedule_free(gradtx.sgd(0.05), gradtx.linear_schedule(0.0, 0.1, 9.5), 0.8, 1.5, r=0.5),
    ):
        slopes = jax.grad(loss)(tx)
        for (path, value), slope in zip(jax.tree.leaves_with_path(tx), jax.tree.leaves(slopes), strict=True):
            name = jax.tree_util.keystr(path)
            if any(word in name for word in ("start_step", "every", "sync_period")):
                assert float(slope) == 0
                continue
            if float(value) == 0:  # the beginning of a schedule, the edge of its range
                continue

            def at(share, path=path, tx=tx):
                return loss(jax.tree.map_with_path(lambda p, leaf: leaf * share if p == path else leaf, tx))

            difference = (at(1 + 1e-5) - at(1 - 1e-5)) / 2e-5
            # Of third order in 1e-5, and a rounding of 1e-16 over 1e-5.
            np.testing.assert_allclose(slope * value, difference, rtol=1e-6, atol=1e-10, err_msg=name)


# What averages are for


def test_averages_of_a_noisy_quadratic_beat_its_last_iterate():
    """At a constant rate the last iterate's error is the noise's; a mean of n has a part of it that falls as 1/n."""
    params = jnp.full(200, 3.0)
    noise = 1.0 * jax.random.normal(jax.random.key(0), (2000, 200))
    errors = {}
    for name, wrap in {
        "last": lambda tx: tx,
        "ema": lambda tx: gradtx.average(tx, 0.99),
        "polyak": gradtx.polyak_average,
        "tail": gradtx.tail_average,
        "lawa": lambda tx: gradtx.lawa(tx, 10, 100),
        "schedule-free": lambda tx: gradtx.schedule_free(tx, 0.2),
    }.items():
        _, points, _ = followed(wrap(gradtx.sgd(0.2)), params, noise)
        errors[name] = float(jnp.mean(points[-1] ** 2))
    # The stationary variance of x <- x - h (a x + e), h = .2, a = .3: h / (a (2 - h a)) = .344.
    np.testing.assert_allclose(errors["last"], 0.2 / (CURVATURE * (2 - 0.2 * CURVATURE)), rtol=0.3)
    # The variance of a mean of n is 1 / (a^2 n); the beginning, 3 away, is (3 / (h a n))^2 more. The memory of an
    # exponential average is (1 + rho) / (1 - rho). A mean of ten nearly independent iterates has a tenth.
    for name, expected in {
        "polyak": 1 / CURVATURE**2 / 2000 + (3 / 0.06 / 2000) ** 2,
        "tail": 1 / CURVATURE**2 / 1000,
        "ema": 1 / CURVATURE**2 / 199,
        "lawa": errors["last"] / 10,
    }.items():
        # A mean of 200 squares is within 10 % of its expectation, and the formulas are those of many steps.
        np.testing.assert_allclose(errors[name], expected, rtol=0.35, err_msg=name)
    assert errors["schedule-free"] < errors["last"] / 10, errors
