"""Weight decay: each mode against NumPy, identities between them, rules, schedules, and what is refused."""

from __future__ import annotations

from typing import Any, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

from .problem import CURVATURE, assert_close, gradient, problem, train

STEPS = 50
RTOL = 1e-12
DECAY = 0.3
PEAK = 0.05
MODES = ("coupled", "decoupled", "independent", "corrected", "palm", "proximal", "cautious")

pytestmark = pytest.mark.usefixtures("x64")


def warm() -> Any:
    return gradtx.warmup_cosine_decay_schedule(0.01, PEAK, 5, STEPS, 0.002)


T = np.arange(STEPS)
RATES = np.where(T < 5, 0.01 + (PEAK - 0.01) * T / 5, 0.002 + (PEAK - 0.002) * (1 + np.cos(np.pi * (T - 5) / 45)) / 2)


def sgd_in_numpy(rates: Any) -> Any:
    return lambda t, g: -rates[t] * g


def adam_in_numpy(rates: Any, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-3) -> Any:
    m: Any = 0.0
    v: Any = 0.0

    def step(t: int, g: np.ndarray) -> np.ndarray:
        nonlocal m, v
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        return -rates[t] * (m / (1 - b1 ** (t + 1))) / (np.sqrt(v / (1 - b2 ** (t + 1))) + eps)

    return step


def oracle(mode: Any, inner: Any, rates: Any, decays: Any, peak: float, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The parameters after each step: each convention as it is printed, on w itself."""
    path = []
    for t in range(STEPS):
        g, lr, wd = CURVATURE * x + noise[t], rates[t], decays[t]
        u = inner(t, g + wd * x if mode == "coupled" else g)
        factor = {"independent": lr / peak, "corrected": lr**2 / peak, "palm": lr**2, "coupled": 0.0}.get(mode, lr)
        if mode == "proximal":
            x = (x + u) / (1 + lr * wd)
        elif mode == "cautious":  # of a step u, the direction is -u
            x = x + u - lr * wd * x * (-u * x > 0)
        else:
            x = x + u - factor * wd * x
        path.append(x)
    return np.stack(path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("inner", ["sgd", "adam"])
@pytest.mark.parametrize("scheduled", [True, False], ids=["scheduled", "constant"])
def test_each_mode_equals_numpy(mode: Any, inner: str, scheduled: bool) -> None:
    params, noise = problem(STEPS)
    rate, rates = (warm(), RATES) if scheduled else (PEAK, np.full(STEPS, PEAK))
    decays = DECAY * (1 - np.arange(STEPS) / 100) if scheduled else np.full(STEPS, DECAY)
    decay = gradtx.linear_schedule(DECAY, 0.0, 100) if scheduled else DECAY
    made = {"sgd": gradtx.sgd(rate), "adam": gradtx.adam(rate, eps=1e-3)}[inner]
    step = {"sgd": sgd_in_numpy, "adam": adam_in_numpy}[inner]
    path, _ = train(gradtx.decay_weights(made, decay, mode), params, noise)
    expected = jax.tree.map(lambda x, n: oracle(mode, step(rates), rates, decays, PEAK, x, n), params, noise)
    assert_close(path, expected, RTOL)


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_around_lbfgs(mode: Any) -> None:
    """Without a search, whose step is another: what the decay adds is known from the step alone."""
    params, noise = problem(10)
    inner = gradtx.lbfgs(0.1, memory_size=3, linesearch=None)
    tx, state, bare_state = gradtx.decay_weights(inner, DECAY, mode), None, inner.init(params)
    for t in range(10):
        state = tx.init(params) if state is None else state
        grads = gradient(params, jax.tree.map(lambda n, t=t: n[t], noise))
        whole = grads if mode != "coupled" else jax.tree.map(lambda g, p: g + DECAY * p, grads, params)
        step, bare_state = inner.update(whole, bare_state, params)
        updates, state = tx.update(grads, state, params)
        factor = {"independent": 1.0, "palm": 0.01, "coupled": 0.0}.get(mode, 0.1) * DECAY

        def decayed(u: Any, p: Any, factor: float = factor) -> Any:
            if mode == "proximal":
                return (p + u) / (1 + factor) - p
            return u - factor * p * np.where((np.asarray(u) * p < 0) | (mode != "cautious"), 1.0, 0.0)

        assert_close(updates, jax.tree.map(decayed, step, params), 1e-11)
        params = gradtx.apply_updates(params, updates)


def path_of(tx: Any, **changes: Any) -> Any:
    params, noise = problem(STEPS)
    return train(tx.replace(**changes) if changes else tx, params, noise)[0]


@pytest.mark.parametrize("scheduled", [True, False], ids=["scheduled", "constant"])
def test_decoupled_around_adam_is_adamw(scheduled: bool) -> None:
    rate = warm() if scheduled else PEAK
    mine = path_of(gradtx.decay_weights(gradtx.adam(rate), DECAY))
    assert_close(mine, path_of(gradtx.adamw(rate, weight_decay=DECAY)), RTOL)
    params, noise = problem(STEPS)
    with jax.numpy_dtype_promotion("standard"):
        peer = optax.adamw((lambda count: jnp.asarray(RATES)[count]) if scheduled else PEAK, weight_decay=DECAY)
        step = jax.jit(lambda g, s, p: peer.update(g, s, p))
        state = peer.init(params)
        for t in range(STEPS):
            grads = gradient(params, jax.tree.map(lambda n, t=t: n[t], noise))
            updates, state = step(grads, state, params)
            params = optax.apply_updates(params, updates)
    assert_close(jax.tree.map(lambda x: x[-1], mine), params, RTOL)


def test_coupled_is_the_part_before() -> None:
    chained = gradtx.chain(gradtx.add_decayed_weights(DECAY), gradtx.adam(warm()))
    chex.assert_trees_all_equal(path_of(gradtx.decay_weights(gradtx.adam(warm()), DECAY, "coupled")), path_of(chained))


def test_modes_that_are_one_another() -> None:
    def path(mode: Any, decay: Any = DECAY, rate: Any = None, **arguments: Any) -> Any:
        return path_of(gradtx.decay_weights(gradtx.adam(rate or warm()), decay, mode, **arguments))

    assert_close(path("palm", DECAY / PEAK), path("corrected"), RTOL)
    assert_close(path("decoupled", DECAY / PEAK), path("independent"), RTOL)
    # At a constant rate the peak is the rate.
    for mode in ("corrected", "independent"):
        decay = DECAY if mode == "corrected" else DECAY * PEAK
        assert_close(path(mode, decay, PEAK), path("decoupled", DECAY, PEAK), RTOL)
        assert_close(path(mode, decay, PEAK), path(mode, decay, PEAK, peak_learning_rate=PEAK), RTOL)
    # A decay that no rate multiplies.
    constant = path("decoupled", gradtx.constant_schedule(0.01), learning_rate=1.0)
    assert_close(constant, path("independent", 0.01, learning_rate=0.5), RTOL)
    # Only the order of the two halves of a step makes a difference, of the size of the rate squared.
    proximal, decoupled = (jax.tree.leaves(path(mode))[0] for mode in ("proximal", "decoupled"))
    apart = np.max(np.abs(proximal - decoupled))
    assert 1e-6 < apart < STEPS * PEAK**2


def test_without_decay_nothing_changes() -> None:
    for mode in MODES:
        tx = gradtx.decay_weights(gradtx.adam(warm()), 0.0, mode)
        chex.assert_trees_all_equal(path_of(tx), path_of(tx.inner))


def test_rules_and_masks() -> None:
    params, noise = problem(STEPS)
    rules = {"nested/*": 0.0, gradtx.by_rank(1): DECAY, "*": gradtx.linear_schedule(DECAY, 0.0, STEPS)}
    makers = (
        lambda decay: gradtx.decay_weights(gradtx.adam(warm()), decay, "corrected"),
        lambda decay: gradtx.adamw(warm(), weight_decay=decay),
        lambda decay: gradtx.lion(warm(), weight_decay=decay),
        lambda decay: gradtx.adadelta(0.1, weight_decay=decay),
    )
    for make in makers:
        by_rule, none, whole, fading = (
            train(make(decay), params, noise)[0] for decay in (rules, 0.0, DECAY, rules["*"])
        )
        chex.assert_trees_all_equal(by_rule["nested"], none["nested"])
        chex.assert_trees_all_equal(by_rule["big"], whole["big"])
        chex.assert_trees_all_equal(by_rule["scalar"], fading["scalar"])
    masked = gradtx.decay_weights(gradtx.adam(warm()), DECAY, mask=gradtx.by_path("big"))
    ruled = gradtx.decay_weights(gradtx.adam(warm()), {"big": DECAY, "*": 0.0})
    chex.assert_trees_all_equal(path_of(masked), path_of(ruled))


def test_rules_are_data_in_their_order() -> None:
    """JAX sorts the keys of a dict, and `*` would come first."""
    tx = gradtx.decay_weights(gradtx.sgd(0.1), {"*bias": 0.0, "*": 0.1})
    leaves, structure = jax.tree.flatten(tx)
    assert leaves == [0.1, 0.0, 0.1]
    assert repr(structure.unflatten(leaves)) == repr(tx)
    assert "weight_decay={'*bias': 0.0, '*': 0.1}" in repr(tx)
    assert gradtx.from_config(gradtx.to_config(tx)) == tx
    assert gradtx.hyperparams(tx) == {"inner.learning_rate": 0.1, "weight_decay.*bias": 0.0, "weight_decay.*": 0.1}
    assert tx.replace({"weight_decay.*bias": 0.2}) == tx.replace(weight_decay={"*bias": 0.2, "*": 0.1})
    state = tx.init({"bias": jnp.ones(2), "kernel": jnp.ones(2)})
    assert gradtx.current(tx, state) == {"weight_decay.*bias": 0.0, "weight_decay.*": 0.1, "learning_rate": 0.1}
    swept = jax.vmap(lambda d: path_of(gradtx.decay_weights(gradtx.sgd(0.1), {"big": d, "*": 0.1})))(jnp.arange(3.0))
    assert len({float(x) for x in swept["big"][:, -1, 0, 0]}) == 3


def test_what_has_no_gradient_does_not_decay() -> None:
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    for decay in (DECAY, {"a": DECAY, "*": 0.1}):
        tx = gradtx.decay_weights(gradtx.adam(0.1), decay)
        updates, _ = tx.update({"a": None, "b": jnp.ones(2)}, tx.init(params), params)
        assert updates["a"] is None


def test_the_rate_is_that_of_the_count_inside() -> None:
    """A state whose inner count is ahead decays by the rate of that count."""
    tx, params = gradtx.decay_weights(gradtx.sgd(gradtx.linear_schedule(0.0, 1.0, 10)), 1.0), jnp.ones(1)
    state = tx.init(params)
    inner = tx.inner
    for _ in range(5):
        _, ahead = inner.update(params, state.inner_state, params)
        state = state._replace(inner_state=ahead)
    updates, _ = tx.update(jnp.zeros(1), state, params)
    np.testing.assert_allclose(updates, -0.5)


def test_half_precision_is_rounded_once() -> None:
    """The step and its decay are added in float32, not the one rounded and then the other."""
    params, grads = jnp.asarray([1.0, -2.0, 3.0], jnp.bfloat16), jnp.asarray([0.3, 0.2, -0.1], jnp.bfloat16)
    for mode in MODES:
        tx = gradtx.decay_weights(gradtx.sgd(0.37), 0.23, mode)
        updates, _ = tx.update(grads, tx.init(params), params)
        exact, _ = tx.update(grads.astype(jnp.float32), tx.init(params), params.astype(jnp.float32))
        np.testing.assert_array_equal(updates, exact.astype(jnp.bfloat16))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_hypergradients_are_finite_differences(mode: Any) -> None:
    params, noise = jnp.array([0.5, -1.0, 0.3]), np.random.default_rng(0).normal(size=(8, 3))

    def total(numbers: Any) -> jax.Array:
        rate, decay = numbers
        schedule = gradtx.warmup_cosine_decay_schedule(0.0, rate, 3, 10)
        return jnp.sum(train(gradtx.decay_weights(gradtx.adam(schedule, eps=0.1), decay, mode), params, noise)[0])

    at, h = jnp.array([0.1, 0.4]), 1e-6
    slopes = jax.grad(total)(at)
    for i in range(2):
        step = h * jnp.eye(2)[i]
        np.testing.assert_allclose(slopes[i], (total(at + step) - total(at - step)) / (2 * h), rtol=2e-6)


def test_a_coupled_decay_is_differentiated_through_the_optimizer() -> None:
    """optax's Adam has the root of 0 in it where a gradient is, and its derivative is infinite."""
    params, grads = jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0])

    def moved(decay: Any, inner: Any) -> jax.Array:
        tx = gradtx.decay_weights(inner, decay, "coupled")
        return jnp.sum(tx.update(grads, tx.init(params), params)[0])

    with jax.numpy_dtype_promotion("standard"):
        assert np.isnan(jax.grad(moved)(0.1, optax.adam(0.1)))
    assert np.isfinite(jax.grad(moved)(0.1, gradtx.adam(0.1)))


def test_a_rate_of_0_decays_nothing() -> None:
    for mode in ("independent", "corrected"):
        tx = gradtx.decay_weights(gradtx.sgd(gradtx.warmup_cosine_decay_schedule(0.0, 0.0, 2, 10)), DECAY, mode)
        updates, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2))
        np.testing.assert_array_equal(updates, 0.0)


SGD = gradtx.sgd(0.1)
WRONG = {
    "no rate": (r"mode='decoupled' multiplies by the argument `learning_rate` inside scale_by_adam\(.*has none. Give",
                lambda: gradtx.decay_weights(gradtx.scale_by_adam(), 0.1)),
    "two rates": (r"which has 2: 0.learning_rate, 1.learning_rate. Give learning_rate=..., or put decay_weights around",
                  lambda: gradtx.decay_weights(gradtx.chain(SGD, SGD), 0.1)),
    "optax's": ("has none. Give learning_rate=", lambda: gradtx.decay_weights(cast(Any, optax.adam(0.1)), 0.1)),
    "no peak": (r"mode='corrected' needs the largest learning rate, which cannot be read off linear_schedule\(.*; give "
                "peak_learning_rate=",
                lambda: gradtx.decay_weights(gradtx.sgd(gradtx.linear_schedule(0.1, 0.2, 9)), 0.1, "corrected")),
    "a rate in vain": ("`learning_rate` has no part in mode='coupled'; leave it out",
                       lambda: gradtx.decay_weights(SGD, 0.1, "coupled", learning_rate=0.1)),
    "a peak in vain": (r"`peak_learning_rate` has no part in mode='palm'; .* \(it is for independent, corrected\)",
                       lambda: gradtx.decay_weights(SGD, 0.1, "palm", peak_learning_rate=0.1)),
    "a look-ahead": (r"nag\(.*defines gradient_params, and mode='decoupled' would change the step",
                     lambda: gradtx.decay_weights(gradtx.nag(0.1), 0.1)),
    "micro-batches": ("accumulate makes one step of several updates, and mode='decoupled' would decay in each of them",
                      lambda: gradtx.decay_weights(gradtx.MultiSteps(SGD, 4), 0.1)),
    "a sum of updates": ("Put decay_weights around the optimizer alone, inside of apply_every or before it",
                         lambda: gradtx.decay_weights(gradtx.chain(SGD, gradtx.apply_every(4)), 0.1, "proximal")),
    "another mode": ("`mode` must be 'coupled' or 'decoupled' or .*, got 'l2'",
                     lambda: gradtx.decay_weights(SGD, 0.1, cast(Any, "l2"))),
    "a negative decay": ("decay_weights: `weight_decay` must be a finite number >= 0, got -0.1",
                         lambda: gradtx.decay_weights(SGD, -0.1)),
    "a negative decay of a rule": (r"`weight_decay`\['\*'\] must be a finite number >= 0, got -0.1",
                                   lambda: gradtx.adamw(0.1, weight_decay={"*": -0.1})),
    "a rule that is none": ("weight_decay: a rule is a pattern like .* got <class 'int'>",
                            lambda: gradtx.adamw(0.1, weight_decay={int: 0.1})),
    "what no rule matches": ("weight_decay: no rule matches b; the rules are 'a'",
                             lambda: gradtx.decay_weights(SGD, {"a": 0.1}).init({"a": jnp.ones(2), "b": jnp.ones(2)})),
    "a mask of nothing": ("the mask selects nothing", lambda: gradtx.decay_weights(SGD, 0.1, mask={"a": False}).init(
        {"a": jnp.ones(2)})),
}  # fmt: skip


@pytest.mark.parametrize(("words", "make"), WRONG.values(), ids=WRONG)
def test_what_is_refused(words: str, make: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_coupled_decay_is_gathered_with_the_gradient() -> None:
    gathered = gradtx.decay_weights(gradtx.accumulate(SGD, 2), DECAY, "coupled")
    params, state, updates = jnp.ones(2), gathered.init(jnp.ones(2)), jnp.zeros(2)
    for _ in range(2):
        updates, state = gathered.update(jnp.ones(2), state, params)
    np.testing.assert_allclose(updates, -0.1 * (1 + DECAY), rtol=1e-6)


def test_optax_by_its_rate() -> None:
    """A foreign optimizer hides its rate, which then is given."""
    with jax.numpy_dtype_promotion("standard"):
        path = path_of(gradtx.decay_weights(cast(Any, optax.sgd(PEAK)), DECAY, learning_rate=PEAK))
    assert_close(path, path_of(gradtx.decay_weights(gradtx.sgd(PEAK), DECAY)), RTOL)
