"""Micro-batches: the same steps as of large batches, as optax makes them, and where optax's go wrong."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

from .problem import assert_close, iterate, problem
from .row import falling
from .steps import W, gradients, run

STEPS = 50
# A mean of four, and 50 steps of Adam that feed it back: a few hundred roundings of 2^-53.
RTOL = 1e-12


def optax_path(tx: Any, params: Any, noise: Any) -> Any:
    with jax.numpy_dtype_promotion("standard"):
        return jax.jit(lambda p, n: iterate(tx, p, n, optax.apply_updates))(params, noise)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mean", [True, False])
def test_fifty_steps_of_adam_equal_optax_s(mean: bool) -> None:
    params, noise = problem(STEPS)
    ours = gradtx.MultiSteps(gradtx.adam(gradtx.cosine_decay_schedule(0.05, 10)), 4, mean)
    theirs = optax.MultiSteps(optax.adam(optax.cosine_decay_schedule(0.05, 10)), 4, mean, accumulator_dtype=jnp.float64)
    path, state = jax.jit(lambda p, n: iterate(ours, p, n))(params, noise)
    expected, other = optax_path(theirs, params, noise)
    assert_close(path, expected, RTOL)
    for name in ("mini_step", "gradient_step", "acc_grads"):
        assert_close(getattr(state, name), getattr(other, name), RTOL)
    assert_close(state.inner_opt_state[0].mu, other.inner_opt_state[0].mu, RTOL)
    assert (int(state.mini_step), int(state.gradient_step)) == (2, 12)


@pytest.mark.usefixtures("x64")
def test_a_schedule_of_every_equals_optax_s() -> None:
    """It is a function of the steps, 1, 2, 3, and then always 4; a plain function or a schedule of ours."""
    params, noise = problem(STEPS)
    theirs = optax.MultiSteps(optax.adam(0.05), lambda step: jnp.minimum(step + 1, 4), accumulator_dtype=jnp.float64)
    expected, _ = optax_path(theirs, params, noise)
    for every in (lambda step: jnp.minimum(step + 1, 4), gradtx.linear_schedule(1.0, 4.0, 3)):
        tx = gradtx.accumulate(gradtx.adam(0.05), every)
        path, state = jax.jit(lambda p, n, tx=tx: iterate(tx, p, n))(params, noise)
        assert_close(path, expected, RTOL)
        assert int(gradtx.current(tx, state)["every"]) == 4


def test_schedules_inside_count_steps() -> None:
    tx = gradtx.accumulate(gradtx.sgd(falling), 3)
    path, state = run(tx, gradients(*[1.0] * 9))
    rates = [-float(u["w"][0]) for u in path]
    np.testing.assert_allclose(rates, [0, 0, 0.1, 0, 0, 0.1 / 1.25, 0, 0, 0.1 / 1.5], rtol=1e-6)
    np.testing.assert_allclose(gradtx.current(tx, state)["learning_rate"], falling(3), rtol=1e-6)


def least_squares(params: Any, x: Any, y: Any) -> jax.Array:
    return jnp.mean((x @ params["w"] - y) ** 2)


def test_micro_batches_are_the_large_batch() -> None:
    """Also where they are of unequal sizes, by their weights, and the last step has fewer of them, by a flush."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)).astype(np.float32), rng.normal(size=12).astype(np.float32)
    inner = gradtx.adam(0.1)
    whole, _ = run(inner, [jax.grad(least_squares)(W, x, y)])
    for cuts, every in (([3, 6, 9], 4), ([1, 6, 10], 4), ([5, 7], 9)):
        tx = gradtx.accumulate(inner, every)
        state, updates = tx.init(W), None
        parts = list(zip(np.split(x, cuts), np.split(y, cuts), strict=True))
        for i, (a, b) in enumerate(parts):
            grads = jax.grad(least_squares)(W, a, b)
            updates, state = tx.update(grads, state, W, weight=len(b), flush=i == len(parts) - 1)
            assert bool(tx.has_updated(state)) == (i == len(parts) - 1)
        chex.assert_trees_all_close(updates, whole[0], rtol=1e-5)
        # Without a flush the last one would be a third of a step, nine micro-batches later.
        assert int(state.gradient_step) == 1
        assert float(state.total_weight) == 0.0


def test_a_flush_may_be_traced_and_reaches_what_is_inside() -> None:
    tx = gradtx.accumulate(gradtx.accumulate(gradtx.sgd(1.0), 2), 2)
    step = jax.jit(lambda s, flush, weight: tx.update(W, s, W, flush=flush, weight=weight))
    updates, state = step(tx.init(W), False, 2.0)
    chex.assert_trees_all_equal(updates, {"w": jnp.zeros(3)})
    updates, state = step(state, True, 2.0)
    chex.assert_trees_all_close(updates, {"w": -W["w"]})
    assert int(state.inner_opt_state.gradient_step) == 1


def test_a_sum_adds_up() -> None:
    path, _ = run(gradtx.accumulate(gradtx.scale(1.0), 2, use_grad_mean=False), gradients(1.0, 2.0), weight=3.0)
    chex.assert_trees_all_close(path[1]["w"], jnp.full(3, 9.0))


class Call(NamedTuple):
    """A library's own way to say it."""

    multi_steps: Any
    memory: Any


OURS = Call(gradtx.MultiSteps, gradtx.trace(0.0))
OPTAX = Call(optax.MultiSteps, optax.trace(0.0))


def test_bfloat16_keeps_the_digits_that_optax_loses() -> None:
    """The mean of 1 and 1 + 2^-7 is 1 + 2^-8, which bfloat16 has not: it is rounded before the inner update there."""
    params = jnp.zeros(2, jnp.bfloat16)
    grads = [jnp.full(2, value, jnp.bfloat16) for value in (1.0, 1 + 2**-7)]

    def seen(lib: Call) -> float:
        with jax.numpy_dtype_promotion("standard"):
            updates, state = run(lib.multi_steps(lib.memory, 2), grads, params)
        assert updates[-1].dtype == jnp.bfloat16
        return float(state.inner_opt_state.trace[0])

    assert seen(OURS) == 1 + 2**-8
    assert seen(OPTAX) == 1.0


@pytest.mark.usefixtures("x64")
def test_float64_is_gathered_in_float64() -> None:
    grads = [jnp.full(2, value) for value in (1.0, 1 + 2**-40)]

    def seen(lib: Call) -> float:
        with jax.numpy_dtype_promotion("standard"):
            return float(run(lib.multi_steps(lib.memory, 2), grads, jnp.zeros(2))[0][-1][0])

    assert seen(OURS) == 1 + 2**-41
    assert seen(OPTAX) == 1.0


def test_many_bfloat16_gradients_add_up() -> None:
    """A bfloat16 sum of ones stops at 256; so does one in an accumulator that is asked for in it."""
    grads = [jnp.ones(2, jnp.bfloat16)] * 512
    stacked = jnp.stack(grads)

    def total(**arguments: Any) -> float:
        tx = gradtx.accumulate(gradtx.identity(), 512, use_grad_mean=False, **arguments)
        params = jnp.zeros(2, jnp.bfloat16)

        def step(state: Any, grads: Any) -> Any:
            updates, state = tx.update(grads, state, params)
            return state, updates

        return float(jax.lax.scan(step, tx.init(params), stacked)[1][-1][0])

    assert total() == 512.0
    assert total(accumulator_dtype="bfloat16") <= 257.0


def test_a_nan_is_gone_after_its_step() -> None:
    def after(lib: Any) -> list[bool]:
        with jax.numpy_dtype_promotion("standard"):
            path, _ = run(lib.MultiSteps(lib.scale(1.0), 2), gradients(np.nan, 1.0, 1.0, 1.0, 1.0, 1.0))
        return [bool(jnp.all(jnp.isfinite(u["w"]))) for u in path[1::2]]

    assert after(gradtx) == [False, True, True]
    assert after(optax) == [False, False, False]


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("rule", ["skip_not_finite", "skip_large_updates"])
def test_skipped_micro_batches_are_as_if_they_had_not_been(rule: str) -> None:
    grads = gradients(1.0, np.inf, 2.0, 5.0, np.nan, 7.0)
    of_step = {"skip_large_updates": {"max_squared_norm": 100.0}}.get(rule, {})

    def made(lib: Any, inner: Any) -> Any:
        skip = functools.partial(getattr(lib, rule), **of_step)
        return run(lib.MultiSteps(inner, 2, should_skip_update_fn=skip), grads)

    path, state = made(gradtx, gradtx.scale(1.0))
    expected, other = made(optax, optax.scale(1.0))
    chex.assert_trees_all_close(path, expected)
    for name in ("mini_step", "gradient_step", "acc_grads", "skip_state"):
        chex.assert_trees_all_close(getattr(state, name), getattr(other, name))
    kept = [u["w"][0] for u in path if jnp.any(u["w"])]
    assert list(map(float, kept)) == ([1.5, 6.0] if rule == "skip_not_finite" else [1.5])


def test_has_updated_is_of_the_last_call() -> None:
    """optax's says so still where the next micro-batch was skipped."""
    grads = gradients(1.0, 1.0, np.nan)

    def said(lib: Any, inner: Any) -> list[bool]:
        tx = lib.MultiSteps(inner, 2, should_skip_update_fn=lib.skip_not_finite)
        state, answers = tx.init(W), []
        for g in grads:
            _, state = tx.gradient_transformation().update(g, state, W)
            answers.append(bool(tx.has_updated(state)))
        return answers

    assert said(gradtx, gradtx.scale(1.0)) == [False, True, False]
    with jax.numpy_dtype_promotion("standard"):
        assert said(optax, optax.scale(1.0)) == [False, True, True]


def test_an_infinite_sum_ends_with_its_period() -> None:
    path, _ = run(gradtx.apply_every(2), gradients(np.inf, 1.0, 2.0, 3.0))
    assert [float(u["w"][0]) for u in path] == [0.0, np.inf, 0.0, 5.0]
    with jax.numpy_dtype_promotion("standard"):
        theirs, _ = run(optax.apply_every(2), gradients(np.inf, 1.0, 2.0, 3.0))
    assert np.isnan(float(theirs[3]["w"][0]))


def test_a_checkpoint_of_optax_s_goes_on() -> None:
    """In the middle of a step: what optax's state lacks can be told from what it has."""
    grads = gradients(1.0, 2.0, -1.0, 0.5, 3.0, 1.0)
    ours, theirs = gradtx.MultiSteps(gradtx.adam(0.1), 3), optax.MultiSteps(optax.adam(0.1), 3)
    expected, _ = run(ours, grads)
    with jax.numpy_dtype_promotion("standard"):
        _, restored = run(theirs, grads[:5])
    state = gradtx.interop.from_optax(ours, restored, W, count=1)
    assert float(state.total_weight) == 2.0
    assert not state.updated
    updates, state = ours.update(grads[5], state, W)
    chex.assert_trees_all_close(updates, expected[5], rtol=1e-5)
