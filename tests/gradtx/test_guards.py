"""Steps that are left out change nothing, to the bit."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import gradtx
from gradtx import map_leaves
from gradtx._trees.gate import gated

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
