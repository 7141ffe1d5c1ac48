"""Which steps are left out: spikes by OLMo's rule, what is not finite, and conditions on the step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx._wrappers._rolling import empty_window, is_spike, rolled

from .problem import assert_close, iterate, problem

W = {"b": jnp.array(0.5), "w": jnp.array([1.0, -2.0, 0.5])}
GOOD = jax.tree.map(jnp.ones_like, W)


def poisoned(value: float, entry: int = 1) -> Any:
    """Gradients of ones, but for one entry."""
    return {**GOOD, "w": GOOD["w"].at[entry].set(value)}


def olmo(values: np.ndarray, window: int, sigma: float) -> list[bool]:
    """Which values spike, as OLMo-core's optimizer has it: of the last ones, with torch's unbiased deviation."""
    found = []
    for i, latest in enumerate(values):
        history = values[max(0, i - window) : i]
        enough = len(history) >= 2 and len(history) + 1 >= max(2, window // 2)
        found.append(bool(enough and latest > history.mean() + sigma * history.std(ddof=1)))
    return found


def test_spikes_are_olmo_s() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(2.0, 0.1, size=400)
    values[[20, 70, 71, 200, 390]] += 3.0
    for window, sigma in ((128, 6.0), (16, 3.0), (5, 1.0)):
        expected = olmo(values, window, sigma)

        def step(known: Any, latest: Any, sigma: float = sigma) -> Any:
            return rolled(known, latest), is_spike(known, latest, sigma)

        with jax.enable_x64(True):
            found = jax.lax.scan(step, empty_window(window, np.float64), jnp.asarray(values))[1]
        assert list(map(bool, found)) == expected
        assert sum(expected) >= 3
        assert window < 128 or not expected[20]


def spiking(tx: Any, losses: Any, sizes: Any = None) -> tuple[list[bool], Any]:
    """Whether each step was taken, and the last state."""
    sizes = sizes or [1.0] * len(losses)
    state, taken = tx.init(W), []
    for loss, size in zip(losses, sizes, strict=True):
        updates, state = tx.update(jax.tree.map(lambda g, s=size: s * g, GOOD), state, W, value=loss)
        taken.append(bool(jnp.any(updates["w"])))
    return taken, state


def test_spikes_of_loss_and_of_gradient_are_left_out() -> None:
    tx = gradtx.guard(gradtx.sgd(0.1), sigma=6.0, window=8)
    calm = [1.0, 1.1, 0.9, 1.0, 1.1, 0.9]
    taken, state = spiking(tx, [*calm, 9.0, 1.0, 1.0], [*calm, 1.0, 1.0, 9.0])
    assert taken == [True] * 6 + [False, True, False]
    assert (int(state.total_spikes), int(state.total_notfinite), int(state.skipped_in_a_row)) == (2, 0, 1)
    # Without a loss the gradient alone is looked at.
    taken, _ = spiking(tx, [None] * 7, [*calm, 9.0])
    assert taken == [True] * 6 + [False]


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_spikes_are_the_same_in_any_unit(unit: float) -> None:
    tx = gradtx.guard(gradtx.sgd(0.1), sigma=6.0, window=8)
    losses = [1.0, 1.1, 0.9, 1.0, 1.1, 0.9, 9.0, 1.0]
    assert spiking(tx, [unit * loss for loss in losses])[0] == [True] * 6 + [False, True]


def test_a_fall_and_a_constant_are_no_spikes() -> None:
    """The mean of equal numbers is another one by a rounding: 0.1 would be above it."""
    tx = gradtx.guard(gradtx.sgd(0.1), sigma=6.0, window=16)
    assert all(spiking(tx, [0.1] * 20)[0])
    assert all(spiking(tx, [1.0, 1.1, 0.9] * 5 + [-50.0])[0])


def test_a_new_level_becomes_the_usual_one() -> None:
    """What spikes goes into the window; what is not finite does not, and so costs one step only."""
    tx = gradtx.guard(gradtx.sgd(0.1), sigma=3.0, window=8)
    taken, _ = spiking(tx, [1.0, 1.1, 0.9, 1.0, 1.1, 0.9, *[5.0, 5.1, 4.9] * 4])
    assert taken[6] is False
    assert all(taken[9:])
    taken, state = spiking(tx, [1.0, 1.1, 0.9, 1.0, np.nan, 1.1, 0.9, 1.0])
    assert taken == [True] * 4 + [False] + [True] * 3
    assert bool(jnp.all(jnp.isfinite(state.losses[-7:])))


def test_a_limit_lets_finite_steps_through_and_says_so() -> None:
    tx = gradtx.guard(gradtx.sgd(0.1), sigma=6.0, window=64, max_consecutive=2)
    rising = [1.0, 1.1] * 20 + [1e3, 1e6, 1e9, 1.0]
    taken, _ = spiking(tx, rising)
    assert taken[-4:] == [False, False, True, True]
    assert not spiking(tx.replace(max_consecutive=None), rising)[0][-2]
    bad = gradtx.guard(gradtx.sgd(0.1), max_consecutive=3)
    state, stuck = bad.init(W), []
    for value in (np.nan, np.nan, np.nan, np.nan, 1.0):
        _, state = bad.update(poisoned(value), state, W)
        stuck.append(bool(gradtx.report(state)["is_stuck"]))
    assert stuck == [False, False, True, True, False]
    assert {name: int(value) for name, value in gradtx.report(state).items()} == {
        "skipped_in_a_row": 0, "total_notfinite": 4, "total_spikes": 0, "is_stuck": 0,
    }  # fmt: skip


def test_a_sweep_over_sigma() -> None:
    grid = gradtx.guard(gradtx.sgd(0.1), sigma=jnp.array([1.0, 100.0]), window=8)
    losses = jnp.array([1.0, 1.1, 0.9, 1.0, 1.1, 0.9, 9.0])

    def skipped(tx: Any) -> Any:
        return jax.lax.scan(lambda s, v: (tx.update(GOOD, s, W, value=v)[1], None), tx.init(W), losses)[0].total_spikes

    found = jax.vmap(skipped, in_axes=(gradtx.batch_axes(grid),))(grid)
    assert int(found[0]) >= 1
    assert int(found[1]) == 0


def test_the_counter_of_apply_if_finite_begins_anew() -> None:
    """optax counts on once it has given up, so that all that follow are let through (its #1746)."""

    def let_through(lib: Any) -> tuple[list[bool], list[int]]:
        tx = lib.apply_if_finite(lib.scale(1.0), 2)
        state, through, counts = tx.init(W), [], []
        for _ in range(6):
            updates, state = tx.update(poisoned(np.nan), state, W)
            through.append(bool(jnp.isnan(updates["w"][1])))
            counts.append(int(state.notfinite_count))
        return through, counts

    assert let_through(gradtx) == ([False, False, True] * 2, [1, 2, 0] * 2)
    with jax.numpy_dtype_promotion("standard"):
        assert let_through(optax) == ([False, False, True, True, True, True], [1, 2, 3, 4, 5, 6])


@pytest.mark.usefixtures("x64")
def test_apply_if_finite_equals_optax_until_it_gives_up() -> None:
    params, noise = problem(50)
    noise["scalar"][[3, 4, 11, 30]] = np.nan
    path, state = jax.jit(lambda p, n: iterate(gradtx.apply_if_finite(gradtx.adam(0.05), 3), p, n))(params, noise)
    with jax.numpy_dtype_promotion("standard"):
        theirs = optax.apply_if_finite(optax.adam(0.05), 3)
        expected, other = jax.jit(lambda p, n: iterate(theirs, p, n, optax.apply_updates))(params, noise)
    assert_close(path, expected, 1e-12)
    for name in ("notfinite_count", "last_finite", "total_notfinite"):
        assert int(getattr(state, name)) == int(getattr(other, name))


def first_half(step: Any, value: Any = 0.0) -> Any:
    return (step < 20) & (value < 1.0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["conditionally_transform", "conditionally_mask"])
def test_conditions_equal_optax_s(name: str) -> None:
    params, noise = problem(50)
    ours = getattr(gradtx, name)(gradtx.adam(0.05), first_half)
    path, state = jax.jit(lambda p, n: iterate(ours, p, n))(params, noise)
    with jax.numpy_dtype_promotion("standard"):
        theirs = getattr(optax, name)(optax.adam(0.05), first_half)
        expected, other = jax.jit(lambda p, n: iterate(theirs, p, n, optax.apply_updates))(params, noise)
    assert_close(path, expected, 1e-12)
    assert int(state.step) == int(other.step) == 50
    assert int(state.inner_state[0].count) == 20


@pytest.mark.parametrize("name", ["conditionally_transform", "conditionally_mask"])
def test_conditions_get_extra_arguments_where_asked(name: str) -> None:
    for forward in (False, True):
        tx = getattr(gradtx, name)(gradtx.scale(2.0), first_half, forward_extra_args=forward)
        updates, _ = tx.update(GOOD, tx.init(W), W, value=5.0)
        untouched = 1.0 if name == "conditionally_transform" else 0.0
        assert float(updates["b"]) == (untouched if forward else 2.0)


class owns(gradtx.Stateless):
    """Says that it follows the parameters."""

    _owns_step = True

    def update(
        self, updates: gradtx.Updates, state: gradtx.EmptyState, params: gradtx.Params | None = None
    ) -> tuple[gradtx.Updates, gradtx.EmptyState]:
        return updates, state


def two_bools(step: Any) -> Any:
    return jnp.array([True, False])


def a_float(step: Any) -> Any:
    return 1.0


def update(tx: Any, **extra: Any) -> Any:
    return tx.update(GOOD, tx.init(W), W, **extra)


SGD = gradtx.sgd(0.1)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: gradtx.guard(SGD, sigma=0.0), ValueError, "guard: `sigma` must be a finite number > 0"),
        (lambda: gradtx.guard(SGD, window=1), ValueError, "`window` must be a whole number >= 2, got 1"),
        (lambda: gradtx.guard(SGD, max_consecutive=0), ValueError, "`max_consecutive` must be a finite number >= 1"),
        (lambda: update(gradtx.guard(SGD), value=jnp.ones(2)), TypeError, "guard: `value` must be one real number"),
        (lambda: gradtx.apply_if_finite(SGD, -1), ValueError, "`max_consecutive_errors` must be a finite number >= 0"),
        (lambda: gradtx.dynamic_loss_scale(SGD, 0.0), ValueError, "`init_scale` must be a finite number > 0"),
        (lambda: gradtx.dynamic_loss_scale(SGD, backoff_factor=2.0), ValueError, r"must be in \(0, 1\], got 2.0"),
        (lambda: gradtx.dynamic_loss_scale(SGD, growth_factor=0.5), ValueError, "`growth_factor` must be a finite"),
        (
            lambda: gradtx.conditionally_transform(owns(), first_half),
            ValueError,
            "conditionally_transform changes the updates of owns, which keeps track of the parameters",
        ),
        (
            lambda: update(gradtx.conditionally_mask(SGD, two_bools)),
            TypeError,
            r"`should_transform_fn` must return one bool, .* got bool\[2\]",
        ),
        (lambda: update(gradtx.conditionally_transform(SGD, a_float)), TypeError, "one bool, .* got 1.0"),
    ],
)  # fmt: skip
def test_errors_say_what_came(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_a_wrong_shape_is_named() -> None:
    tx = gradtx.guard(gradtx.adam(0.1))
    with pytest.raises(ValueError, match=r"updates\['w'\] has shape \(2,\)"):
        tx.update({**GOOD, "w": jnp.ones(2)}, tx.init(W), W)
