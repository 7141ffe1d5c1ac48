"""Corrections on any update: against NumPy from the papers, optax, and by what they promise."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

from .problem import CURVATURE, assert_close, oracle_path, problem, train

# As in test_oracles.py.
RTOL = 1e-12
STEPS = 50
# For calls that type checkers refuse, too.
UNTYPED: Any = gradtx


def adam_step(state: Any, g: np.ndarray, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-3) -> Any:
    """The direction of Adam, and its state, in NumPy."""
    t, mu, nu = state
    t, mu, nu = t + 1, b1 * mu + (1 - b1) * g, b2 * nu + (1 - b2) * g**2
    return mu / (1 - b1**t) / (np.sqrt(nu / (1 - b2**t)) + eps), (t, mu, nu)


def adam_start(x: np.ndarray) -> Any:
    return 0, np.zeros_like(x), np.zeros_like(x)


def path_of(tx: Any, oracle: Any, arguments: dict[str, Any], rate: float) -> None:
    params, noise = problem(STEPS)
    path, _ = train(tx, params, noise)
    own = jax.tree.map(lambda leaf: arguments, params)
    assert_close(path, oracle_path(oracle, params, noise, [rate] * STEPS, own), RTOL)


def cautious_oracle(x: Any, gradient: Any, rates: Any, normalization: str, weight_decay: float = 0.0) -> Any:
    """Liang et al., 2024, algorithm 2; "count" is the first version of their code."""
    state = adam_start(x)
    for t, rate in enumerate(rates, start=1):
        g = gradient(t, x)
        u, state = adam_step(state, g)
        m = (u * g > 0).astype(float)
        if normalization == "mean":
            m = m / max(m.mean() if m.size else 0.0, 1e-3)
        elif normalization == "count":
            m = m * (m.size / (m.sum() + 1))
        x = x - rate * (u * m + weight_decay * x)
        yield x


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("normalization", ["mean", "count", "none"])
def test_cautious_is_the_papers_around_an_optimizer_and_around_a_part(normalization: Any) -> None:
    arguments = {"normalization": normalization}
    path_of(gradtx.cautious(gradtx.adam(0.3, eps=1e-3), normalization), cautious_oracle, arguments, 0.3)
    part = gradtx.cautious(gradtx.scale_by_adam(eps=1e-3), normalization)
    decayed = gradtx.chain(part, gradtx.add_decayed_weights(0.1), gradtx.scale_by_learning_rate(0.3))
    path_of(decayed, cautious_oracle, {**arguments, "weight_decay": 0.1}, 0.3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("inner", [gradtx.sgd(0.1, 0.9), gradtx.adam(0.1), gradtx.lion(0.1, weight_decay=0.5)])
def test_no_entry_of_a_cautious_step_goes_up(inner: Any) -> None:
    params, noise = problem(20)
    tx = gradtx.cautious(inner)
    state, against = tx.init(params), 0
    bare = inner.init(params)
    for t in range(20):
        grads = jax.tree.map(lambda n, t=t: jnp.asarray(n[t]), noise)
        updates, state = tx.update(grads, state, params)
        step, bare = inner.update(grads, bare, params)
        chex.assert_trees_all_equal_shapes(updates, step)
        for u, s, g in zip(*map(jax.tree.leaves, (updates, step, grads)), strict=True):
            assert np.all(u * g <= 0)
            against += int(np.sum(np.asarray(s) * np.asarray(g) > 0))
            # What is left points as before, and is longer.
            left = np.asarray(u) != 0
            assert np.all(np.abs(u)[left] >= np.abs(s)[left] * (1 - 1e-12))
    assert against > 20  # there was something to leave out


def test_cautious_sees_the_sign_of_products_that_are_too_small() -> None:
    tx = gradtx.cautious(gradtx.scale(1e-30), descends=False)
    updates, _ = tx.update(jnp.full(2, 1e-20), tx.init(jnp.zeros(2)))
    # A product would be 0 and leave nothing; XLA flushes what is below 1e-38.
    tx = gradtx.cautious(gradtx.scale(1e-10), descends=False)
    updates, _ = tx.update(jnp.full(2, 1e-25), tx.init(jnp.zeros(2)))
    np.testing.assert_allclose(updates, 1e-35, rtol=1e-6)


def test_cautious_bounds_the_lengthening_of_the_last_entry() -> None:
    grads = jnp.full(10_000, -1.0).at[0].set(1.0)
    inner = gradtx.stateless(lambda updates, params: jnp.ones_like(updates))
    tx = gradtx.cautious(inner, descends=False)
    updates, _ = tx.update(grads, tx.init(grads), grads)
    assert float(updates[0]) == pytest.approx(1000.0)  # and not 10,000
    assert np.all(np.asarray(updates[1:]) == 0)


def test_cautious_hides_no_nan() -> None:
    grads = jnp.array([jnp.nan, 1.0, -2.0])
    for tx in (gradtx.cautious(gradtx.sgd(0.1), "none"), gradtx.cautious(gradtx.scale_by_adam(), "count")):
        updates, _ = tx.update(grads, tx.init(grads))
        np.testing.assert_array_equal(np.isnan(updates), np.isnan(grads))


def test_cautious_knows_which_way_updates_go() -> None:
    up, down = jnp.ones(2), -jnp.ones(2)
    ascent = gradtx.chain(gradtx.scale_by_adam(), gradtx.scale_by_learning_rate(0.1, flip_sign=False))
    sgd, adam = gradtx.sgd(0.1), gradtx.adam(0.1)
    for inner, way in (
        (ascent, up),
        (gradtx.scale_by_adam(), up),
        (adam, down),
        # Two rates one beside the other turn updates once.
        (gradtx.decay_weights(adam, 0.0), down),
        (gradtx.grafting(sgd, adam), down),
        (gradtx.grafting(sgd, gradtx.scale_by_adam()), up),
        (gradtx.partition({gradtx.by_rank(1): sgd, "*": adam}), down),
        (gradtx.partition({gradtx.by_rank(1): sgd, "*": gradtx.freeze()}), down),
        (gradtx.accumulate(sgd, 1), down),
        (gradtx.chain(sgd, gradtx.scale(0.5)), down),
        (gradtx.chain(sgd, gradtx.scale_by_learning_rate(1.0)), up),
    ):
        tx = gradtx.cautious(gradtx.chain(inner))
        updates, _ = tx.update(up, tx.init(up), up)
        np.testing.assert_array_equal(np.sign(updates), way)
    with pytest.raises(ValueError, match=r"whether the updates of .* go along .* cannot be seen"):
        UNTYPED.cautious(optax.adam(0.1))
    for unseen in (
        gradtx.chain(gradtx.scale_by_adam(), gradtx.scale(-0.1)),
        gradtx.chain(gradtx.scale_by_adam(), gradtx.scale_by_schedule(lambda count: -0.1)),
        gradtx.partition({gradtx.by_rank(1): sgd, "*": gradtx.scale_by_adam()}),
    ):
        with pytest.raises(ValueError, match=r"cannot be seen\. Say descends=True"):
            gradtx.cautious(unseen)
    tx = UNTYPED.cautious(optax.sgd(0.1), descends=True)
    np.testing.assert_allclose(tx.update(up, tx.init(up), up)[0], -0.1, rtol=1e-6)
    gradtx.cautious(gradtx.chain(optax.clip(1.0), gradtx.adam(0.1)))


def grokfast_oracle(x: Any, gradient: Any, rates: Any, alpha: float, lamb: float) -> Any:
    """Lee et al., 2024, gradfilter_ema."""
    ema = None
    for t, rate in enumerate(rates, start=1):
        g = gradient(t, x)
        ema = g if ema is None else alpha * ema + (1 - alpha) * g
        x = x - rate * (g + lamb * ema)
        yield x


@pytest.mark.usefixtures("x64")
def test_grokfast_is_the_papers() -> None:
    tx = gradtx.chain(gradtx.grokfast(0.9, 1.5), gradtx.sgd(0.05))
    path_of(tx, grokfast_oracle, {"alpha": 0.9, "lamb": 1.5}, 0.05)


@pytest.mark.usefixtures("x64")
def test_grokfast_amplifies_the_slow_part_alone() -> None:
    """A constant gradient comes out 1 + lambda times, one that alternates nearly as it is."""
    tx = gradtx.grokfast(0.98, 2.0)
    grads = np.stack([np.ones(1000), (-1.0) ** np.arange(1000)], axis=1)

    def step(state: Any, g: Any) -> Any:
        updates, state = tx.update(g, state)
        return state, updates

    updates = jax.lax.scan(step, tx.init(jnp.zeros(2)), grads)[1][-1]
    # The alternating part's average is (1 - alpha) / (1 + alpha) of it.
    np.testing.assert_allclose(updates, [3.0, -(1 + 2 * 0.02 / 1.98)], rtol=1e-6)


def mars_oracle(x: Any, gradient: Any, rates: Any, b1: float, gamma: float, max_norm: float, exact: bool) -> Any:
    """Yuan et al., 2024, algorithm 1 around gradient descent; exact: the new batch at the last parameters."""
    before, last = x, None
    for t, rate in enumerate(rates, start=1):
        g = gradient(t, x)
        prev = gradient(t, before) if exact else (g if last is None else last)
        c = g + gamma * b1 / (1 - b1) * (g - prev)
        norm = np.linalg.norm(c)
        before, last, x = x, g, x - rate * (c / norm * max_norm if norm > max_norm else c)
        yield x


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("exact", [False, True])
def test_mars_is_the_papers(exact: bool) -> None:
    params, noise = problem(STEPS)
    numbers = {"b1": 0.9, "gamma": 0.3, "max_norm": 2.0}
    tx = gradtx.chain(gradtx.mars(**numbers), gradtx.sgd(0.3))

    def step(carry: Any, n: Any) -> Any:
        x, before, state = carry
        grads, prev = (jax.tree.map(lambda p, n: CURVATURE * p + n, at, n) for at in (x, before))
        extra = {"grad_prev": prev} if exact else {}
        updates, state = tx.update(grads, state, x, **extra)
        new = gradtx.apply_updates(x, updates)
        return (new, x, state), new

    path = jax.jit(lambda p, n: jax.lax.scan(step, (p, p, tx.init(p)), n)[1])(params, noise)
    arguments = jax.tree.map(lambda leaf: {**numbers, "exact": exact}, params)
    assert_close(path, oracle_path(mars_oracle, params, noise, [0.3] * STEPS, arguments), RTOL)


@pytest.mark.usefixtures("x64")
def test_mars_reduces_the_variance_of_a_mean_of_gradients() -> None:
    """With the exact form and gamma = 1, the mean of a quadratic's gradients has no lag."""
    b1, fall, steps = 0.9, 0.2, 200
    noise = np.random.default_rng(0).normal(size=(steps, 1))
    x = 1.0 - fall * np.arange(steps)[:, None]
    before = np.concatenate([x[:1], x[:-1]])
    tx = gradtx.mars(b1, 1.0, 1e9)

    def step(state: Any, both: Any) -> Any:
        updates, state = tx.update(both[0], state, grad_prev=both[1])
        return state, updates

    _, corrected = jax.lax.scan(step, tx.init(x[0]), (x + noise, before + noise))
    weights = (1 - b1) * b1 ** np.arange(steps)

    def lag(grads: Any) -> float:
        means = np.convolve(np.ravel(grads), weights)[:steps]
        return float(np.mean((means - x[:, 0])[50:]))

    # The average of a falling gradient is behind by 0.2 b1 / (1 - b1) = 1.8; that of corrected ones by its noise, whose
    # mean over 150 steps is below 0.3.
    assert abs(lag(corrected)) < 0.3
    assert lag(x + noise) > 1.5


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scope", ["leaf", "global"])
def test_grafting_has_the_one_norm_and_the_other_direction(scope: Any) -> None:
    params, noise = problem(10)
    magnitude, direction = gradtx.sgd(0.05, 0.9), gradtx.adam(0.1)
    tx = gradtx.grafting(magnitude, direction, scope)
    state, m_state, d_state = tx.init(params), magnitude.init(params), direction.init(params)
    for t in range(10):
        grads = jax.tree.map(lambda n, t=t: jnp.asarray(n[t]), noise)
        updates, state = tx.update(grads, state, params)
        m, m_state = magnitude.update(grads, m_state, params)
        d, d_state = direction.update(grads, d_state, params)
        if scope == "global":
            assert float(gradtx.global_norm(updates)) == pytest.approx(float(gradtx.global_norm(m)), rel=1e-13)
            factor = gradtx.global_norm(m) / gradtx.global_norm(d)
            chex.assert_trees_all_close(updates, jax.tree.map(lambda leaf, f=factor: f * leaf, d), rtol=1e-12)
            continue
        for u, a, b in zip(*map(jax.tree.leaves, (updates, m, d)), strict=True):
            np.testing.assert_allclose(np.linalg.norm(u), np.linalg.norm(a), rtol=1e-13)
            np.testing.assert_allclose(u * np.linalg.norm(b), b * np.linalg.norm(a), rtol=1e-12)


def test_grafting_onto_itself_changes_nothing_and_a_direction_of_zero_is_none() -> None:
    params = {"a": jnp.array([3e-30, 4e-30]), "b": jnp.array([1e25, 1e25]), "c": jnp.zeros(2)}
    tx = gradtx.grafting(gradtx.sgd(0.1), gradtx.sgd(0.1))
    updates, _ = tx.update(params, tx.init(params), params)
    # Squares of these leave the range of float32.
    chex.assert_trees_all_close(updates, jax.tree.map(lambda p: -0.1 * p, params), rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_a_trust_ratio_makes_steps_as_long_as_the_parameter() -> None:
    params, noise = problem(1)
    grads = jax.tree.map(lambda n: jnp.asarray(n[0]), noise)
    tx = gradtx.scale_by_trust_ratio(trust_coefficient=0.01)
    updates, _ = tx.update(grads, tx.init(params), params)
    for u, p, g in zip(*map(jax.tree.leaves, (updates, params, grads)), strict=True):
        np.testing.assert_allclose(np.linalg.norm(u), 0.01 * np.linalg.norm(p), rtol=1e-13)
        np.testing.assert_allclose(u * np.linalg.norm(g), g * np.linalg.norm(u), rtol=1e-12)
    zero = jax.tree.map(jnp.zeros_like, params)
    chex.assert_trees_all_equal(tx.update(grads, tx.init(params), zero)[0], grads)
    chex.assert_trees_all_equal(tx.update(zero, tx.init(params), params)[0], zero)


def test_a_trust_ratio_of_numbers_whose_squares_are_none() -> None:
    params, grads = jnp.full(4, 1e-25), jnp.full(4, 1e25)
    ours, theirs = (library.scale_by_trust_ratio() for library in (gradtx, optax))
    np.testing.assert_allclose(ours.update(grads, ours.init(params), params)[0], params, rtol=1e-6)
    assert not np.allclose(theirs.update(grads, theirs.init(params), params)[0], params, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_a_sweep_over_gamma_is_a_vmap() -> None:
    params, noise = problem(STEPS)
    gammas = jnp.array([0.0, 0.1, 0.4])

    def run(gamma: Any) -> Any:
        return train(gradtx.chain(gradtx.mars(0.9, gamma, 2.0), gradtx.sgd(0.3)), params, noise)[0]

    paths = jax.vmap(run)(gammas)
    for i, gamma in enumerate(gammas):
        own = jax.tree.map(
            lambda leaf, g=gamma: {"b1": 0.9, "gamma": float(g), "max_norm": 2.0, "exact": False}, params
        )
        expected = oracle_path(mars_oracle, params, noise, [0.3] * STEPS, own)
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], paths), expected, RTOL)


MECHANIC = gradtx.mechanize(gradtx.sgd(1.0))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: gradtx.cautious(MECHANIC),
            ValueError,
            r"cautious changes .* Put mechanize outside",
        ),
        (
            lambda: gradtx.cautious(gradtx.nag(0.1)),
            ValueError,
            "the updates of nag, whose gradient_params assume",
        ),
        (lambda: UNTYPED.cautious(gradtx.adam(0.1), "max"), ValueError, "`normalization` must be 'mean' or 'count' or"),
        (lambda: gradtx.grafting(gradtx.sgd(0.1), MECHANIC), ValueError, "grafting changes the updates of mechanize"),
        (lambda: gradtx.grafting(MECHANIC, gradtx.sgd(0.1)), ValueError, "grafting changes the updates of mechanize"),
        (lambda: UNTYPED.grafting(gradtx.sgd(0.1), gradtx.adam(0.1), "all"), ValueError, "`scope` must be 'leaf' or"),
        (lambda: gradtx.grokfast(1.0), ValueError, r"`alpha` must be in \[0, 1\), got 1.0"),
        (lambda: gradtx.mars(max_norm=0.0), ValueError, "`max_norm` must be a finite number > 0, got 0.0"),
        (
            lambda: UNTYPED.scale_by_trust_ratio().update(jnp.ones(2), gradtx.EmptyState()),
            ValueError,
            "scale_by_trust_ratio needs params",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()
