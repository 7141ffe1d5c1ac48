"""What tunes the steps of an optimizer: Mechanic, and smaller steps on a plateau, against NumPy and optax."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

from .problem import CURVATURE, assert_close, iterate, problem, train

STEPS = 50
# For calls that type checkers refuse, too.
UNTYPED: Any = gradtx


def mechanic_oracle(x: np.ndarray, gradient: Any, steps: int, base: Any, numbers: dict[str, float], betas: int) -> Any:
    """Cutkosky et al., 2023, algorithm 1, with its sums as they are printed; clipped as in the authors' code."""
    lam, eps, s_init = numbers["weight_decay"], numbers["eps"], numbers["s_init"]
    x0, total = x, np.zeros_like(x)
    beta = 1 - 0.1 ** np.arange(1.0, betas + 1)
    r, m, v, s = np.zeros(betas), np.zeros(betas), np.zeros(betas), np.full(betas, s_init)
    for t in range(1, steps + 1):
        g = gradient(t, x)
        u = base(g)
        seen = g + lam * s.sum() * np.linalg.norm(g) / (np.linalg.norm(x) + eps) * x
        h = np.sum(seen * total)
        m_old, m = m, np.maximum(beta * m, np.abs(h) + eps)
        v = beta**2 * v + h**2
        r = beta * r + np.clip(h, -m_old, m_old) * s
        s = (s_init / betas * m + np.maximum(r, 0)) / (np.sqrt(v) + eps)
        total = total - u  # downwards, as the gradient counts it
        x = x0 - s.sum() * total
        yield x


@pytest.mark.usefixtures("x64")
def test_mechanic_is_the_papers() -> None:
    """The printed sum of steps, where the library reads it from the parameters: equal up to eps over the scale."""
    x, rng = np.array([3.0, -2.0, 1.0]), np.random.default_rng(1)
    noise = 0.1 * rng.normal(size=(STEPS, 3))
    numbers = {"weight_decay": 0.05, "eps": 1e-14, "s_init": 1e-2}
    tx = gradtx.mechanize(gradtx.sgd(1.0), num_betas=3, **numbers)
    path, _ = train(tx, jnp.asarray(x), noise)
    oracle = mechanic_oracle(x, lambda t, at: CURVATURE * at + noise[t - 1], STEPS, lambda g: -g, numbers, 3)
    np.testing.assert_allclose(path, list(oracle), rtol=1e-8)
    assert float(np.linalg.norm(path[-1])) < 0.5 * float(np.linalg.norm(x))


@pytest.mark.usefixtures("x64")
def test_mechanic_equals_optax_and_so_does_its_state(standard_promotion: None) -> None:
    params, noise = problem(STEPS)
    numbers = {"weight_decay": 0.05, "eps": 1e-6, "s_init": 1e-3, "num_betas": 4}
    ours, theirs = (
        gradtx.mechanize(gradtx.adam(1.0, eps=1e-3), **numbers),
        optax.contrib.mechanize(optax.adam(1.0, eps=1e-3), **numbers),
    )
    path, state = train(ours, params, noise)
    other, other_state = jax.jit(lambda p, n: iterate(theirs, p, n, optax.apply_updates))(params, noise)
    # Both divide a difference of parameters by a scale of 1e-3, which amplifies its rounding.
    assert_close(path, other, 1e-9)
    for name in ("r", "m", "v", "s", "x0"):
        assert_close(getattr(state, name), getattr(other_state, name), 1e-9)
    chex.assert_trees_all_equal(
        gradtx.mechanize(gradtx.adam(1.0)), gradtx.mechanize(gradtx.adam(1.0), 1e-2, 1e-8, 1e-6, 6)
    )
    assert float(gradtx.report(state)["scale"]) == pytest.approx(float(jnp.sum(state.s)))


def test_checkpoints_of_optax_go_on(standard_promotion: None) -> None:
    params = {"w": jnp.array([1.0, -2.0])}
    pairs: Any = (
        (gradtx.mechanize(gradtx.adam(1.0)), optax.contrib.mechanize(optax.adam(1.0)), "x0"),
        (gradtx.reduce_on_plateau(), optax.contrib.reduce_on_plateau(), "best_value"),
    )
    for ours, theirs, field in pairs:
        state = theirs.init(params)
        for _ in range(3):
            _, state = theirs.update(params, state, params, value=2.0)
        adopted = gradtx.interop.from_optax(ours, state, params)
        assert type(adopted) is type(ours.init(params))
        chex.assert_trees_all_equal(getattr(adopted, field), getattr(state, field))
        updates, _ = ours.update(params, adopted, params, value=2.0)
        expected, _ = theirs.update(params, state, params, value=2.0)
        # optax takes a step of 1e-6 as a difference of parameters of size 1, and loses what is below 1e-7.
        chex.assert_trees_all_close(updates, expected, rtol=1e-6, atol=2e-7)


@pytest.mark.usefixtures("x64")
def test_mechanic_finds_the_scale_from_any_start() -> None:
    """Three orders of magnitude in the learning rate come to less than a five-hundredth of the first loss, 10."""

    def last(rate: Any) -> Any:
        tx, x = gradtx.mechanize(gradtx.sgd(rate)), jnp.ones(10)

        def step(carry: Any, _: Any) -> Any:
            x, state = carry
            updates, state = tx.update(x, state, x)
            return (x + updates, state), None

        return jnp.sum(jax.lax.scan(step, (x, tx.init(x)), length=500)[0][0] ** 2)

    losses = jax.vmap(last)(jnp.array([0.01, 0.1, 1.0, 10.0]))
    assert np.all(np.asarray(losses) < 0.02)


def scales(tx: Any, values: Any) -> np.ndarray:
    """The factor that each update was multiplied by."""

    def step(state: Any, value: Any) -> Any:
        updates, state = tx.update(jnp.ones([]), state, value=value)
        return state, updates

    return np.asarray(jax.lax.scan(step, tx.init(jnp.zeros([])), jnp.asarray(values, float))[1])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("cooldown", [0, 3])
@pytest.mark.parametrize("accumulation_size", [1, 4])
def test_plateau_equals_optax_on_positive_values(cooldown: int, accumulation_size: int) -> None:
    rng = np.random.default_rng(3)
    values = 2 + np.exp(-np.arange(120) / 20) + 0.3 * rng.uniform(size=120)
    numbers = {"factor": 0.5, "patience": 3, "rtol": 1e-2, "atol": 1e-3, "min_scale": 0.01}
    sizes = {"cooldown": cooldown, "accumulation_size": accumulation_size}
    with jax.numpy_dtype_promotion("standard"):
        theirs = scales(optax.contrib.reduce_on_plateau(**numbers, **sizes), values)
    ours = scales(gradtx.reduce_on_plateau(**numbers, **sizes), values)
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    assert len(set(ours)) > 2


def test_plateau_is_right_on_negative_values_where_optax_is_not(standard_promotion: None) -> None:
    """optax #1767: of a negative best value a tenth less is more, so that what becomes worse counts as better."""
    flat, worse, better = [-10.0] * 12, [-10.0 + 0.05 * t for t in range(12)], [-10.0 * 1.5**t for t in range(12)]
    numbers = {"factor": 0.5, "patience": 4, "rtol": 0.1}
    for make, expected in (
        (gradtx.reduce_on_plateau, [0.25, 0.25, 1.0]),
        (optax.contrib.reduce_on_plateau, [1.0, 1.0, 1.0]),
    ):
        assert [scales(make(**numbers), values)[-1] for values in (flat, worse, better)] == expected


def test_plateau_by_hand() -> None:
    """Two bad values in a row reduce it; the next value is not counted; the least factor is 0.2."""
    tx = gradtx.reduce_on_plateau(0.5, 2, rtol=0.0, atol=0.1, cooldown=1, min_scale=0.2)
    values = [3.0, 2.95, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0]
    expected = [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2]
    np.testing.assert_allclose(scales(tx, values), expected)
    assert float(np.min(scales(tx, [1.0] * 60))) == pytest.approx(0.2)


def test_plateau_from_any_first_value_and_with_a_value_that_is_none() -> None:
    for rtol in (1.0, 0.5):  # infinity less a share of itself is no number
        assert scales(gradtx.reduce_on_plateau(rtol=rtol, patience=3), [5.0, -5.0, -20.0])[-1] == 1.0
    assert scales(gradtx.reduce_on_plateau(patience=2), [1.0, np.nan, np.nan])[-1] == pytest.approx(0.1)


def test_a_sweep_over_patience_is_one_program() -> None:
    def last(patience: Any) -> Any:
        tx = gradtx.reduce_on_plateau(0.5, patience)

        def step(state: Any, _: Any) -> Any:
            updates, state = tx.update(jnp.ones([]), state, value=jnp.ones([]))
            return state, updates

        return jax.lax.scan(step, tx.init(jnp.zeros([])), length=10)[1][-1]

    # The first of ten values is an improvement.
    np.testing.assert_allclose(jax.vmap(last)(jnp.array([2.0, 3.0, 9.0, 20.0])), [0.5**4, 0.5**3, 0.5, 1.0])


def test_plateau_reports_what_to_log() -> None:
    tx = gradtx.chain(gradtx.sgd(0.1), gradtx.reduce_on_plateau())
    state = tx.init(jnp.ones(2))
    _, state = tx.update(jnp.ones(2), state, value=3.0)
    logged = gradtx.report(state)
    assert float(logged["scale"]) == 1.0
    assert float(logged["best_value"]) == 3.0


MECHANIC = gradtx.mechanize(gradtx.sgd(1.0))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: gradtx.mechanize(MECHANIC), ValueError, "mechanize changes the updates of mechanize"),
        (lambda: gradtx.mechanize(gradtx.sgd(1.0), num_betas=0), ValueError, "`num_betas` must be a whole number >= 1"),
        (lambda: gradtx.mechanize(gradtx.sgd(1.0), s_init=0.0), ValueError, "`s_init` must be a finite number > 0"),
        (
            lambda: gradtx.chain(MECHANIC, gradtx.scale(0.5)),
            ValueError,
            r"stage 0 \(mechanize\) keeps track of the parameters .* must come last",
        ),
        (lambda: gradtx.reduce_on_plateau(1.0), ValueError, r"`factor` must be in \(0, 1\), got 1.0"),
        (lambda: gradtx.reduce_on_plateau(rtol=1.5), ValueError, r"`rtol` must be in \[0, 1\], got 1.5"),
        (
            lambda: gradtx.reduce_on_plateau(rtol=0.0),
            ValueError,
            "one of `rtol` and `atol` must be positive",
        ),
        (lambda: gradtx.reduce_on_plateau(accumulation_size=0), ValueError, "`accumulation_size` must be a number of"),
        (lambda: scales(gradtx.reduce_on_plateau(), np.ones((3, 2))), ValueError, r"`value` has shape \(2,\)"),
        (
            lambda: UNTYPED.reduce_on_plateau().update(jnp.ones(2), gradtx.reduce_on_plateau().init(jnp.ones(2))),
            TypeError,
            "reduce_on_plateau needs the extra argument `value`",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()
