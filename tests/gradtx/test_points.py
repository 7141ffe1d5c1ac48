"""Where to differentiate: SAM, extragradient and EMA-Nesterov against closed forms, NumPy and optax."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

from .problem import CURVATURE, assert_close, gradient, problem

# As in test_oracles.py: roundings of some ten operations a step over 50 steps, which the gradient feeds back.
RTOL = 1e-12
STEPS = 50
# For calls that type checkers refuse, too.
UNTYPED: Any = gradtx


def two_calls(tx: Any, params: Any, noise: Any, calls: int = 2) -> Any:
    """The parameters after each step, of several calls with one batch each."""

    def step(carry: Any, noise: Any) -> Any:
        params, state = carry
        for _ in range(calls):
            grads = gradient(tx.gradient_params(params, state), noise)
            updates, state = tx.update(grads, state, params)
            params = gradtx.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, tx.init(params)), noise)[1]


def one_call(tx: Any, params: Any, noise: Any, apply: Any = gradtx.apply_updates) -> Any:
    """The same of one call with a function."""

    def step(carry: Any, noise: Any) -> Any:
        params, state = carry
        grads = gradient(params, noise)
        updates, state = tx.update(grads, state, params, grad_fn=lambda p, i: gradient(p, noise))
        params = apply(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, tx.init(params)), noise)[1]


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def sam_oracle(
    params: Any, noise: Any, rate: float, rho: float, eta: float | None = None, momentum: float = 0.0
) -> np.ndarray:
    """Foret et al., 2021, and Kwon et al., 2021 (ASAM, with `eta`), around the heavy ball, on one long vector."""
    x, path = flat(params), []
    buffer = np.zeros_like(x)
    for t in range(STEPS):
        n = flat(jax.tree.map(lambda leaf, t=t: leaf[t], noise))
        g = CURVATURE * x + n
        size = np.ones_like(x) if eta is None else np.abs(x) + eta
        e = rho * size**2 * g / np.sqrt(np.sum((size * g) ** 2))
        buffer = momentum * buffer + CURVATURE * (x + e) + n
        x = x - rate * buffer
        path.append(x)
    return np.stack(path)


def as_rows(path: Any) -> np.ndarray:
    return np.concatenate([np.reshape(leaf, (STEPS, -1)) for leaf in jax.tree.leaves(path)], axis=1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_is_the_papers_in_two_calls_and_in_one(adaptive: bool) -> None:
    params, noise = problem(STEPS)
    adversary = gradtx.sam_perturbation(0.3, adaptive=adaptive, eta=0.02)
    tx = gradtx.sam(gradtx.sgd(0.05, 0.8), adversary)
    expected = sam_oracle(params, noise, 0.05, 0.3, 0.02 if adaptive else None, 0.8)
    path = jax.jit(two_calls)(tx, params, noise)
    assert_close(as_rows(path), expected, RTOL)
    assert_close(jax.jit(one_call)(tx.replace(opaque_mode=True), params, noise), path, 1e-14)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("period", "reset"), [(1, True), (2, True), (3, True), (3, False)])
def test_sam_equals_optax_in_both_modes(period: int, reset: bool, standard_promotion: None) -> None:
    params, noise = problem(STEPS)
    ours = gradtx.sam(
        gradtx.adam(0.05, eps=1e-3), gradtx.chain(gradtx.normalize(), gradtx.sgd(0.2, 0.7)), period, reset
    )
    pair = optax.adam(0.05, eps=1e-3), optax.chain(optax.contrib.normalize(), optax.sgd(0.2, 0.7))
    theirs = optax.contrib.sam(*pair, period, reset)
    opaque = optax.contrib.sam(*pair, period, reset, opaque_mode=True)
    path = jax.jit(lambda tx, p, n: two_calls(tx, p, n, period))(ours, params, noise)
    assert_close(path, jax.jit(lambda p, n: one_call(opaque, p, n, optax.apply_updates))(params, noise), RTOL)
    if period == 1:
        return  # where optax goes back to older parameters: see the next test

    def step(carry: Any, noise: Any) -> Any:
        params, state = carry
        for _ in range(period):
            updates, state = theirs.update(gradient(params, noise), state, params)
            params = optax.apply_updates(params, updates)
        return (params, state), params

    other = jax.jit(lambda p, n: jax.lax.scan(step, (p, theirs.init(p)), n)[1])(params, noise)
    assert_close(path, other, RTOL)


def test_a_period_of_one_is_the_optimizer_alone(standard_promotion: None) -> None:
    """optax steps from the parameters of one step ago there, without opaque mode."""
    both: Any = ((gradtx, gradtx.sam), (optax, optax.contrib.sam))
    for library, sam in both:
        tx, x = sam(library.sgd(0.1), library.sgd(0.1), 1), jnp.array([1.0])
        state = tx.init(x)
        for _ in range(2):
            updates, state = tx.update(jnp.ones(1), state, x)
            x = x + updates
        np.testing.assert_allclose(x, [0.8 if library is gradtx else 0.9], rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_the_first_call_of_sam_moves_nothing_and_says_where_the_loss_is_higher() -> None:
    tx, params = gradtx.sam(gradtx.adam(0.1), gradtx.sam_perturbation(0.25)), {"a": jnp.array([3.0, 0.0]), "b": -4.0}
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)
    chex.assert_trees_all_equal(tx.gradient_params(params, state), params)
    updates, state = tx.update(params, state, params)
    chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, params))
    point = tx.gradient_params(params, state)
    # Of length 0.25 along the gradient, whose norm is 5.
    chex.assert_trees_all_close(point, jax.tree.map(lambda p: p * (1 + 0.25 / 5), params), rtol=1e-15)
    updates, state = tx.update(point, state, params)
    assert float(updates["b"]) == pytest.approx(0.1)
    chex.assert_trees_all_equal(tx.gradient_params(params, state), params)


@pytest.mark.usefixtures("x64")
def test_adaptive_sam_does_not_depend_on_the_unit_of_a_parameter() -> None:
    """ASAM: parameters in another unit, gradients in its inverse, and the point is the same one."""
    tx = gradtx.sam_perturbation(0.5, adaptive=True, eta=0.0)
    rng = np.random.default_rng(0)
    params, grads, units = rng.normal(size=5), rng.normal(size=5), np.array([1.0, 1e3, 1e-2, 7.0, 0.1])
    step = tx.update(jnp.asarray(grads), tx.init(params), jnp.asarray(params))[0]
    scaled = tx.update(jnp.asarray(grads / units), tx.init(params), jnp.asarray(params * units))[0]
    np.testing.assert_allclose(scaled, step * units, rtol=1e-13)


def test_a_gradient_of_zero_is_no_direction() -> None:
    zero = jnp.zeros(3)
    for tx in (gradtx.normalize(), gradtx.sam_perturbation(), gradtx.sam_perturbation(adaptive=True)):
        np.testing.assert_array_equal(tx.update(zero, tx.init(zero), zero)[0], zero)
    theirs: Any = optax.contrib.normalize()
    assert np.all(np.isnan(theirs.update(zero, theirs.init(zero))[0]))


@pytest.mark.usefixtures("x64")
def test_a_sweep_over_rho_is_a_vmap() -> None:
    params, noise = problem(STEPS)
    tx = gradtx.sam(gradtx.sgd(0.05))
    rhos = jnp.array([0.0, 0.05, 0.5])
    paths = jax.jit(jax.vmap(lambda rho: two_calls(tx.replace({"rho": rho}), params, noise)))(rhos)
    for i, rho in enumerate(rhos):
        expected = sam_oracle(params, noise, 0.05, float(rho))
        assert_close(as_rows(jax.tree.map(lambda leaf, i=i: leaf[i], paths)), expected, RTOL)


@pytest.mark.usefixtures("x64")
def test_the_best_radius_has_a_hypergradient() -> None:
    params, noise = problem(5)

    def loss(rho: Any) -> Any:
        path = two_calls(gradtx.sam(gradtx.sgd(0.05), gradtx.sam_perturbation(rho)), params, noise)
        return sum(jnp.sum(leaf[-1] ** 2) for leaf in jax.tree.leaves(path))

    h = 1e-6
    slope = (loss(0.3 + h) - loss(0.3 - h)) / (2 * h)
    # A central difference has about 1e-10 of rounding over h, and h^2 of curvature.
    assert float(jax.grad(loss)(0.3)) == pytest.approx(float(slope), rel=1e-5)


def test_bfloat16_keeps_the_perturbation_in_float32() -> None:
    params = jnp.ones(3, jnp.bfloat16)
    tx = gradtx.sam(gradtx.sgd(0.5), gradtx.sam_perturbation(1e-3))
    updates, state = tx.update(params, tx.init(params), params)
    assert updates.dtype == jnp.bfloat16
    assert state.perturbation.dtype == jnp.float32
    np.testing.assert_allclose(state.perturbation, 1e-3 / np.sqrt(3), rtol=1e-6)


def test_a_parameter_without_a_gradient_is_left_out_in_one_call_too() -> None:
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    tx = gradtx.sam(gradtx.sgd(0.1), opaque_mode=True)
    grads = {"a": jnp.ones(2), "b": None}
    updates, _ = tx.update(grads, tx.init(params), params, grad_fn=lambda p, i: p)
    assert updates["b"] is None
    assert np.all(np.asarray(updates["a"]) < 0)


SAM = gradtx.sam(gradtx.sgd(0.1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: gradtx.chain(SAM, gradtx.extragradient(gradtx.sgd(0.1))),
            r"stages 0 \(sam\) and 1 \(extragradient\) both define gradient_params; only one can",
        ),
        (
            lambda: gradtx.named_chain(("a", gradtx.chain(gradtx.clip(1.0), gradtx.nag(0.1))), ("b", SAM)),
            r"stages a \(nag\) and b \(sam\) both define gradient_params",
        ),
        (lambda: gradtx.chain(SAM, gradtx.scale(0.5)), r"stage 0 \(sam\) defines gradient_params and must come last"),
        (lambda: gradtx.sam(gradtx.nag(0.1)), "sam and nag both define gradient_params"),
        (lambda: gradtx.sam(gradtx.sgd(0.1), gradtx.nag(0.1)), "sam and nag both define gradient_params"),
        (lambda: gradtx.sam(gradtx.chain(SAM)), "sam and sam both define gradient_params"),
        (lambda: gradtx.extragradient(SAM), "extragradient and sam both define gradient_params"),
        (lambda: gradtx.ema_nesterov(gradtx.nag(0.1)), "ema_nesterov and nag both define gradient_params"),
        (
            lambda: gradtx.ema_nesterov(gradtx.mechanize(gradtx.sgd(1.0))),
            r"Put mechanize outside: mechanize\(ema_nesterov\(\.\.\.\)\)",
        ),
        (
            lambda: gradtx.extragradient(gradtx.mechanize(gradtx.sgd(1.0)), carry=True),
            "extragradient changes the updates of mechanize",
        ),
        (
            lambda: gradtx.sam(gradtx.sgd(0.1), gradtx.mechanize(gradtx.sgd(1.0))),
            "sam changes the updates of mechanize",
        ),
        (lambda: gradtx.sam(gradtx.sgd(0.1), sync_period=0), "`sync_period` must be a whole number >= 1, got 0"),
        (lambda: gradtx.sam_perturbation(-0.1), "`rho` must be a finite number >= 0, got -0.1"),
        (lambda: UNTYPED.extragradient(gradtx.sgd(0.1), "twice"), "`form` must be 'two_calls' or 'past', got 'twice'"),
        (lambda: gradtx.ema_nesterov(gradtx.sgd(0.1), 1.0), r"`gamma` must be in \[0, 1\), got 1.0"),
        (lambda: gradtx.ema_nesterov(gradtx.sgd(0.1), beta=-1.0), "`beta` must be a finite number >= 0, got -1.0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_in_one_call_nothing_else_has_to_be_known_of_sam() -> None:
    """It can stand in any place of a chain, and where optax's are expected; the form of two calls cannot."""
    opaque = SAM.replace(opaque_mode=True)
    tx = gradtx.chain(opaque, gradtx.scale(0.5))
    params = jnp.array([3.0, 4.0])
    updates, _ = tx.update(params, tx.init(params), params, grad_fn=lambda p, i: p)
    np.testing.assert_allclose(updates, -0.5 * 0.1 * params * (1 + 0.05 / 5), rtol=1e-6)
    gradtx.interop.as_optax(opaque)
    with pytest.raises(ValueError, match=r"silently\. Use gradtx\.sam\(\.\.\., opaque_mode=True\)"):
        gradtx.interop.as_optax(SAM)
    with pytest.raises(ValueError, match=r"silently\. Use a loop of your own"):
        gradtx.interop.as_optax(gradtx.ema_nesterov(gradtx.sgd(0.1)))
    with pytest.raises(TypeError, match=r"needs the extra argument `grad_fn`: call tx\.update"):
        opaque.update(params, opaque.init(params), params)


def test_adaptive_sam_asks_for_params() -> None:
    tx = gradtx.sam_perturbation(adaptive=True)
    with pytest.raises(ValueError, match="sam_perturbation needs params where it is adaptive"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    with pytest.raises(ValueError, match="sam needs params"):
        UNTYPED.sam(gradtx.sgd(0.1)).update(jnp.ones(2), SAM.init(jnp.ones(2)))


def test_wrappers_that_keep_the_step_may_be_inside() -> None:
    """`sam` and `extragradient` return the inner step as it is, so that what keeps track of parameters stays right."""
    inner = gradtx.mechanize(gradtx.sgd(1.0), s_init=1e-2)
    both: Any = (gradtx.sam(inner), gradtx.extragradient(inner))
    for tx in both:
        params = jnp.array([1.0, -2.0])
        state = tx.init(params)
        for _ in range(6):
            updates, state = tx.update(tx.gradient_params(params, state), state, params)
            params = gradtx.apply_updates(params, updates)
        kept = state.optimizer_state if isinstance(state, gradtx.SAMState) else state.inner_state
        assert int(kept.count) == 3


def test_eval_params_of_the_optimizer_inside_come_through() -> None:
    tx, params = gradtx.sam(gradtx.sgd(0.1, 0.9, nesterov=True)), jnp.array([1.0, 2.0])
    state = tx.init(params)
    for _ in range(2):
        _, state = tx.update(params, state, params)
    np.testing.assert_allclose(tx.eval_params(params, state), params + 0.1 * 0.9 * params, rtol=1e-6)
