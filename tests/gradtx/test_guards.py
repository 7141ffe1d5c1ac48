"""Steps that are left out change nothing, to the bit; and the rules by which they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

import gradtx
from gradtx import map_leaves
from gradtx._trees.gate import gated
from gradtx._wrappers._rolling import empty_window, is_spike, rolled

from .problem import assert_close, iterate, problem

W = {"b": jnp.array(0.5), "w": jnp.array([1.0, -2.0, 0.5])}
GOOD = jax.tree.map(jnp.ones_like, W)


class JittersState(NamedTuple):
    """State of `jitters`: a typed key, a raw one, a count, and a bool."""

    key: Any
    raw: Any
    count: Any
    is_odd: Any
    inner_state: Any


class jitters(gradtx.GradientTransformation):
    """What states may hold, all of it changed by each update."""

    inner: gradtx.GradientTransformation

    def init(self, params: gradtx.Params) -> JittersState:
        keys = jax.random.key(0), jax.random.PRNGKey(1)
        return JittersState(*keys, jnp.zeros([], jnp.int32), jnp.zeros([], bool), self.inner.init(params))

    def update(
        self, updates: gradtx.Updates, state: JittersState, params: gradtx.Params | None = None, **extra: Any
    ) -> tuple[gradtx.Updates, JittersState]:
        key, own = jax.random.split(state.key)
        raw, _ = jax.random.split(state.raw)
        updates, inner = self.inner.update(updates, state.inner_state, params, **extra)
        updates = jax.tree.map(lambda u: u + 1e-3 * jax.random.normal(own, u.shape), updates)
        return updates, JittersState(key, raw, gradtx.safe_increment(state.count), ~state.is_odd, inner)


INNER = jitters(gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(0.1)))
GUARDS = {
    "guard": gradtx.guard(INNER),
    "guard-spikes": gradtx.guard(INNER, sigma=6.0, window=8),
    "apply_if_finite": gradtx.apply_if_finite(INNER, 5),
    # A scale that stays, since these gradients are not multiplied by it.
    "dynamic_loss_scale": gradtx.dynamic_loss_scale(INNER, init_scale=4.0, backoff_factor=1.0),
}
BAD = (np.nan, np.inf, -np.inf)
each_guard = pytest.mark.parametrize("name", GUARDS)


def bits(tree: Any) -> list[np.ndarray]:
    """The bytes of each leaf, of keys too."""
    leaves = jax.tree.leaves(tree)
    plain = [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in leaves]
    return [np.atleast_1d(np.asarray(leaf)).view(np.uint8) for leaf in plain]


def assert_same_bits(a: Any, b: Any) -> None:
    for x, y in zip(bits(a), bits(b), strict=True):
        np.testing.assert_array_equal(x, y)


def poisoned(value: float, entry: int = 1) -> Any:
    """Gradients of ones, but for one entry."""
    return {**GOOD, "w": GOOD["w"].at[entry].set(value)}


def stepped(tx: Any, params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
    updates, state = tx.update(grads, state, params)
    return gradtx.apply_updates(params, updates), state


@each_guard
def test_a_bad_step_changes_no_bit(name: str) -> None:
    tx = GUARDS[name]
    for step in (stepped, jax.jit(stepped)):
        params, state = step(tx, W, tx.init(W), GOOD)
        for value in BAD:
            after, new = step(tx, params, state, poisoned(value))
            assert_same_bits((after, new.inner_state), (params, state.inner_state))
            assert int(new.total_notfinite) == 1 + int(state.total_notfinite)
            state = new
        after, new = step(tx, params, state, GOOD)
        assert int(new.inner_state.count) == 2
        assert not jnp.array_equal(after["w"], params["w"])


@each_guard
def test_bad_steps_of_a_scan_are_as_if_they_had_not_been(name: str) -> None:
    tx = GUARDS[name]

    @jax.jit
    def path(grads: Any) -> Any:
        def step(carry: Any, g: Any) -> Any:
            params, state = carry
            return stepped(tx, params, state, g), None

        return jax.lax.scan(step, (W, tx.init(W)), grads)[0]

    def stacked(*grads: Any) -> Any:
        return jax.tree.map(lambda *g: jnp.stack(g), *grads)

    mixed = path(stacked(GOOD, poisoned(np.nan), GOOD, poisoned(np.inf, 0), poisoned(np.nan), GOOD))
    clean = path(stacked(GOOD, GOOD, GOOD))
    assert_same_bits((mixed[0], mixed[1].inner_state), (clean[0], clean[1].inner_state))


@each_guard
def test_a_bad_lane_does_not_disturb_others(name: str) -> None:
    tx = GUARDS[name]
    lanes = jax.tree.map(lambda *g: jnp.stack(g), GOOD, poisoned(np.nan), GOOD)
    states = jax.vmap(tx.init)(jax.tree.map(lambda x: jnp.stack([x] * 3), W))
    run = jax.jit(jax.vmap(lambda s, g: stepped(tx, W, s, g)))
    params, states = run(states, lanes)
    params, states = run(states, jax.tree.map(lambda g: jnp.stack([g] * 3), GOOD))
    first, bad, last = (jax.tree.map(lambda x, i=i: x[i], (params, states.inner_state)) for i in range(3))
    assert_same_bits(first, last)
    alone = jax.tree.map(lambda x: x[None], (W, GOOD))
    once, _ = run(jax.vmap(tx.init)(alone[0]), alone[1])
    assert_same_bits(bad[0], jax.tree.map(lambda x: x[0], once))
    assert list(map(int, states.total_notfinite)) == [0, 1, 0]


@each_guard
def test_inside_shard_map_each_device_guards_its_own(name: str) -> None:
    tx = GUARDS[name].replace(inner=gradtx.adam(0.1))
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    params, grads = jnp.arange(16.0), jnp.ones((3, 16)).at[1, 2].set(jnp.nan)

    def path(params: Any, grads: Any) -> Any:
        def step(carry: Any, g: Any) -> Any:
            params, state = carry
            return stepped(tx, params, state, g), None

        return jax.lax.scan(step, (params, tx.init(params)), grads)[0][0]

    specs = PartitionSpec("x"), PartitionSpec(None, "x")
    moved = jax.jit(jax.shard_map(path, mesh=mesh, in_specs=specs, out_specs=specs[0]))(params, grads) - params
    np.testing.assert_allclose(moved[jnp.array([2, 3])], -0.2, rtol=1e-5)
    np.testing.assert_allclose(jnp.delete(moved, jnp.array([2, 3])), -0.3, rtol=1e-5)


@each_guard
def test_the_state_is_written_in_place(name: str) -> None:
    """Compiled, with donated arrays: no copy of the state, as a selection behind the update makes one."""
    tx = GUARDS[name].replace(inner=gradtx.adam(0.1))
    params = [jnp.ones((64, 64)) for _ in range(9)]
    state, size = tx.init(params), 4 * 64 * 64
    program = jax.jit(lambda p, s, g: stepped(tx, p, s, g), donate_argnums=(0, 1)).lower(params, state, params)
    memory: Any = program.compile().memory_analysis()
    # The norm of `sigma` may have to look twice, and stacks small leaves for it.
    assert memory.temp_size_in_bytes < (10.5 if name == "guard-spikes" else 0.5) * size
    assert memory.alias_size_in_bytes > 27 * size


def kept_twice(updates: Any, mu: Any, nu: Any, same: Any) -> Any:
    """A state that is another's input, and one that stays as it is."""
    mu = mu + updates
    return mu, mu, mu * nu, same


NAMES = ("updates", "mu", "nu", "same")


def test_kernels_select_where_a_state_is_made() -> None:
    old = [jnp.full(2, value) for value in (1.0, 2.0, 3.0, 4.0)]

    def run(condition: Any, old: Any) -> Any:
        with gated(condition) as gate:
            new = map_leaves(kept_twice, dict(zip(NAMES, old, strict=True)))
        return new, [jnp.asarray(gate.has_done(*pair)) for pair in zip(new, old, strict=True)]

    for condition, expected in ((True, [3.0, 3.0, 9.0, 4.0]), (False, [2.0, 2.0, 3.0, 4.0])):
        new, done = jax.jit(run)(jnp.asarray(condition), old)
        assert [float(leaf[0]) for leaf in new] == expected
        assert list(map(bool, done)) == [False, True, True, True]
        # There is no program to mend without jit.
        new, done = run(jnp.asarray(condition), old)
        assert [float(leaf[0]) for leaf in new] == [3.0, 3.0, 9.0, 4.0]
        assert not any(map(bool, done))


def test_a_gate_is_not_for_other_programs() -> None:
    """In a branch, and in another function that is compiled, kernels are as they are: those may be used again."""

    @jax.jit
    def inner(old: Any) -> Any:
        return map_leaves(kept_twice, dict(zip(NAMES, old, strict=True)))

    def run(condition: Any, old: Any) -> Any:
        with gated(condition):
            return inner(old), jax.lax.cond(condition, lambda: tuple(old), lambda: inner(old))

    old = [jnp.ones(2)] * 4
    for condition in (True, False):
        out, branch = jax.jit(run)(jnp.asarray(condition), old)
        assert float(out[1][0]) == 2.0
        assert float(branch[1][0]) == (1.0 if condition else 2.0)
    assert float(inner(old)[1][0]) == 2.0


def test_a_loss_that_is_not_finite_makes_no_step() -> None:
    tx = gradtx.guard(gradtx.sgd(0.1))
    for value, moves in ((1.0, True), (np.inf, False), (jnp.nan, False), (None, True)):
        updates, state = tx.update(GOOD, tx.init(W), W, value=value)
        assert bool(jnp.any(updates["w"])) == moves
        assert int(state.total_notfinite) == (not moves)


def test_an_overflow_inside_is_seen_where_asked() -> None:
    """The square of a finite gradient overflows; so does, here, what a schedule makes of it."""
    grads = jax.tree.map(lambda g: 1e38 * g, GOOD)
    for checks in (False, True):
        tx = gradtx.guard(gradtx.chain(gradtx.scale(1e3)), check_updates=checks)
        updates, state = tx.update(grads, tx.init(W), W)
        assert int(state.total_notfinite) == checks
        assert bool(jnp.all(jnp.isfinite(updates["w"]))) == checks


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


def scaled_step(tx: Any, params: Any, state: Any, weight: Any) -> tuple[Any, Any]:
    """A step in float16: the loss is `weight` times the sum of the parameters, times the scale."""

    def loss(params: Any) -> jax.Array:
        total = weight * (jnp.sum(params["w"]) + params["b"])
        return gradtx.loss_scale(state).astype(jnp.float16) * total

    return stepped(tx, params, state, jax.grad(loss)(params))


def test_the_loss_scale_goes_up_and_down_as_specified() -> None:
    """In float16, where 2^15 times 2 is infinite."""
    tx = gradtx.dynamic_loss_scale(
        gradtx.sgd(1e-2), init_scale=2.0**13, growth_interval=3, growth_factor=4.0, backoff_factor=0.25, min_scale=512.0
    )
    params = jax.tree.map(lambda x: x.astype(jnp.float16), W)
    state, scales, moved = tx.init(params), [], []
    step = jax.jit(scaled_step)
    for weight in (1.0, 1.0, 1.0, 4.0, 1.0, 4.0, 4.0, 60000.0, 60000.0, 60000.0, 1.0, 1.0, 1.0):
        after, state = step(tx, params, state, jnp.float16(weight))
        moved.append(bool(after["w"][0] != params["w"][0]))
        scales.append(int(np.log2(float(state.scale))))
    assert scales == [13, 13, 15, 13, 13, 13, 15, 13, 11, 9, 9, 9, 11]
    assert moved == [True, True, True, False, True, True, True, False, False, False, True, True, True]
    assert int(state.total_notfinite) == 4
    assert int(gradtx.report(state)["loss_scale"]) == 2**11


def test_small_gradients_live_with_a_scale() -> None:
    """Of 1e-8 in float16 nothing is left without one; with one, steps are right to float16's digits."""
    params = jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float16), W)

    def first(tx: Any, scale: Any) -> float:
        state = tx.init(params)
        grads = jax.grad(lambda p: scale(state) * 1e-4 * 1e-4 * jnp.sum(p["w"].astype(jnp.float32)))(params)
        return float(tx.update(grads, state, params)[0]["w"][0])

    inner = gradtx.sgd(1e6)
    assert first(inner, lambda state: 1.0) == 0.0
    np.testing.assert_allclose(first(gradtx.dynamic_loss_scale(inner), gradtx.loss_scale), -1e-2, rtol=2e-3)


def test_the_scale_stays_finite() -> None:
    tx = gradtx.dynamic_loss_scale(gradtx.sgd(0.1), init_scale=2.0**126, growth_interval=1)
    state = tx.init(W)
    for _ in range(4):
        _, state = tx.update(GOOD, state, W)
    assert float(state.scale) == 2.0**127


def test_loss_scale_finds_the_one_in_a_state() -> None:
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.guard(gradtx.dynamic_loss_scale(gradtx.adam(0.1), 64.0)))
    assert float(gradtx.loss_scale(tx.init(W))) == 64.0
    with pytest.raises(ValueError, match="the state has no scales, expected that of one gradtx"):
        gradtx.loss_scale(gradtx.adam(0.1).init(W))
    with pytest.raises(ValueError, match="the state has 2 scales"):
        gradtx.loss_scale((tx.init(W), tx.init(W)))


def test_outside_of_accumulation_a_bad_micro_batch_is_left_out_inside_a_bad_step_is() -> None:
    grads = [GOOD, poisoned(np.nan), GOOD, GOOD]
    inner = gradtx.sgd(1.0)
    cases: list[tuple[Any, list[int]]] = [
        (gradtx.guard(gradtx.accumulate(inner, 2)), [0, 0, 1, 0]),
        (gradtx.accumulate(gradtx.guard(inner), 2), [0, 0, 0, 1]),
    ]
    for tx, steps in cases:
        state, moved = tx.init(W), []
        for g in grads:
            updates, state = tx.update(g, state, W)
            moved.append(-int(updates["w"][0]))
        assert moved == steps


def test_hypergradients_go_through() -> None:
    def after(rate: jax.Array, tx: Any) -> jax.Array:
        tx = tx.replace(inner=gradtx.adam(rate))
        params, state = W, tx.init(W)
        for value in (1.0, np.nan, 2.0):
            params, state = stepped(tx, params, state, poisoned(value))
        return jnp.sum(params["w"])

    # Adam's first steps with one sign are the rate, each.
    for tx in (gradtx.guard(gradtx.sgd(0.1)), gradtx.apply_if_finite(gradtx.sgd(0.1), 5)):
        slope = jax.grad(after)(jnp.float32(0.1), tx)
        assert -7.0 < float(slope) < -5.0


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
