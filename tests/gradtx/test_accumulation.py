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
from jax.sharding import AxisType, PartitionSpec

import gradtx
from gradtx.testing import check_transformation

from .problem import assert_close, iterate, problem
from .row import falling, paraboloid

STEPS = 50
# A mean of four, and 50 steps of Adam that feed it back: a few hundred roundings of 2^-53.
RTOL = 1e-12
W = {"w": jnp.array([1.0, -2.0, 0.5])}


def gradients(*values: float) -> list[Any]:
    return [{"w": jnp.full(3, value)} for value in values]


def run(tx: Any, grads: list[Any], params: Any = W, **extra: Any) -> tuple[list[Any], Any]:
    """The updates of each call, and the last state."""
    state, path = tx.init(params), []
    for g in grads:
        updates, state = tx.update(g, state, params, **extra)
        path.append(updates)
    return path, state


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
        assert int(state.gradient_step) == 1 and float(state.total_weight) == 0.0


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
        out = jax.lax.scan(lambda s, g: tx.update(g, s, params)[::-1], tx.init(params), stacked)[1]
        return float(out[-1][0])

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


def primitives(jaxpr: Any) -> list[str]:
    """Of a program, and of the functions in it, but not of its branches."""
    names = []
    for equation in jaxpr.eqns:
        names.append(equation.primitive.name)
        inner = equation.params.get("jaxpr")
        names += primitives(getattr(inner, "jaxpr", inner)) if inner is not None else []
    return names


def test_what_is_inside_is_computed_at_steps_alone() -> None:
    tx = gradtx.accumulate(gradtx.adam(0.1), 4)
    jaxpr = jax.make_jaxpr(tx.update)(W, tx.init(W), W).jaxpr
    assert "cond" in primitives(jaxpr) and "sqrt" not in primitives(jaxpr)


def test_one_micro_batch_a_step_is_free() -> None:
    """The program is that of the bare optimizer, but for counts; the accumulator goes through as it is."""
    inner = gradtx.adam(0.1)
    tx = gradtx.accumulate(inner, 1)
    bare = jax.make_jaxpr(inner.update)(W, inner.init(W), W).jaxpr
    leaves, structure = jax.tree.flatten(tx.init(W))
    jaxpr = jax.make_jaxpr(lambda leaves: jax.tree.leaves(tx.update(W, structure.unflatten(leaves), W)))(leaves).jaxpr
    place = [leaf.shape for leaf in leaves].index((3,), 6)
    assert jaxpr.invars[place] in jaxpr.outvars
    assert "cond" not in primitives(jaxpr)
    assert len(primitives(jaxpr)) - len(primitives(bare)) < 15


def test_an_every_of_one_is_the_same_as_an_argument() -> None:
    inner = gradtx.adam(0.1)
    grads = gradients(1.0, -2.0, np.inf, 3.0)
    bare, _ = run(inner, grads)
    for every in (1, jnp.float32(1.0)):
        tx = gradtx.accumulate(inner, every)
        path, state = run(tx, grads)
        chex.assert_trees_all_equal(path, bare)
        assert int(state.gradient_step) == 4
    # What was gathered before is dropped, as the documentation says.
    begun = gradtx.accumulate(inner, 3)
    for tx in (begun.replace(every=1), begun.replace(every=jnp.float32(1.0))):
        _, state = run(begun, gradients(5.0))
        updates, state = tx.update(grads[0], state, W)
        chex.assert_trees_all_equal(updates, bare[0])
        assert float(state.acc_grads["w"][0]) == 5.0 and int(state.mini_step) == 0


def test_a_sweep_over_every_is_a_loop() -> None:
    periods = jnp.array([1.0, 2.0, 3.0, 7.0])
    grads = jax.tree.map(lambda *g: jnp.stack(g), *gradients(*map(float, range(1, 13))))

    @jax.jit
    def moved(tx: Any) -> Any:
        def step(carry: Any, g: Any) -> Any:
            params, state = carry
            updates, state = tx.update(g, state, params)
            return (gradtx.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (W, tx.init(W)), grads)[0]

    grid = gradtx.accumulate(gradtx.adam(0.1), periods)
    params, states = jax.vmap(moved, in_axes=(gradtx.batch_axes(grid),))(grid)
    assert list(map(int, states.gradient_step)) == [12, 6, 4, 1]
    for i, every in enumerate((1, 2, 3, 7)):
        expected, _ = moved(gradtx.accumulate(gradtx.adam(0.1), jnp.float32(every)))
        chex.assert_trees_all_close(jax.tree.map(lambda x, i=i: x[i], params), expected, rtol=1e-6)


def test_hypergradients_go_through() -> None:
    """That of the rate, through eight micro-batches, is that through the two steps that they make."""
    xs = jax.random.normal(jax.random.key(0), (8, 3))

    def after(rate: jax.Array, every: int) -> jax.Array:
        tx = gradtx.accumulate(gradtx.sgd(rate, momentum=0.5), every)
        params = W
        state = tx.init(params)
        for x in xs.reshape(-1, 4 // every, 3):
            grads = jax.grad(lambda p, x=x: jnp.mean((p["w"][None] - x) ** 2))(params)
            updates, state = tx.update(grads, state, params)
            params = gradtx.apply_updates(params, updates)
        return jnp.sum(params["w"] ** 2)

    slopes = [jax.grad(after)(jnp.float32(0.1), every) for every in (4, 1)]
    np.testing.assert_allclose(*slopes, rtol=1e-5)


class FollowsState(NamedTuple):
    """State of `follows`."""

    copy: Any
    inner_state: Any


class follows(gradtx.GradientTransformation):
    """Owns the step: a copy of the parameters that its updates lead to."""

    _owns_step = True
    inner: gradtx.GradientTransformation

    def init(self, params: gradtx.Params) -> FollowsState:
        return FollowsState(jax.tree.map(jnp.copy, params), self.inner.init(params))

    def update(
        self, updates: gradtx.Updates, state: FollowsState, params: gradtx.Params | None = None, **extra: Any
    ) -> tuple[gradtx.Updates, FollowsState]:
        updates, inner = self.inner.update(updates, state.inner_state, params, **extra)
        return updates, FollowsState(gradtx.apply_updates(params, updates), inner)

    def eval_params(self, params: gradtx.Params, state: FollowsState) -> gradtx.Params:
        return state.copy


def test_what_follows_the_parameters_may_be_inside() -> None:
    tx = gradtx.guard(gradtx.accumulate(follows(gradtx.adam(0.1)), 3))
    params, state = W, tx.init(W)
    for g in gradients(1.0, np.nan, 2.0, 3.0, -1.0, np.inf, 2.0, 4.0, 1.0):
        updates, state = tx.update(g, state, params)
        params = gradtx.apply_updates(params, updates)
        chex.assert_trees_all_equal(tx.eval_params(params, state), params)
    assert int(state.inner_state.gradient_step) == 2
    assert not jnp.array_equal(params["w"], W["w"])


def test_a_line_search_inside_searches_the_objective_that_it_is_given() -> None:
    """One objective for all micro-batches: the steps are those of the bare search."""
    tx = gradtx.lbfgs(memory_size=2)
    calls = []
    for every in (1, 2):
        gathered = gradtx.accumulate(tx, every)
        params, state = W, gathered.init(W)
        for _ in range(4 * every):
            grads = jax.tree.map(lambda x: 3 * x, params)
            updates, state = gathered.update(grads, state, params, **paraboloid(params, grads))
            params = gradtx.apply_updates(params, updates)
        calls.append(params)
    chex.assert_trees_all_close(*calls, rtol=1e-6)


def test_gradients_of_none() -> None:
    params = {"frozen": None, "still": jnp.ones(2), "w": jnp.ones(3)}
    tx = gradtx.accumulate(gradtx.adam(0.1), 2)
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update({"frozen": None, "still": None, "w": jnp.ones(3)}, state, params)
    assert updates["still"] is None and updates["frozen"] is None
    np.testing.assert_allclose(updates["w"], -0.1 * jnp.ones(3), rtol=1e-5)
    assert not jnp.any(state.acc_grads["still"])


@pytest.mark.parametrize("every", [1, 2])
def test_inside_shard_map(every: int) -> None:
    """Each device skips what is not finite there; all other things are the same as outside."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    tx = gradtx.accumulate(gradtx.adam(0.1), every, should_skip_update_fn=gradtx.skip_not_finite)
    params = jnp.arange(16.0)
    grads = jnp.ones((4, 16)).at[0, 3].set(jnp.nan)

    def path(params: Any, grads: Any) -> Any:
        def step(carry: Any, g: Any) -> Any:
            updates, state = tx.update(g, carry[1], carry[0])
            return (gradtx.apply_updates(carry[0], updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), grads)
        return params

    specs = (PartitionSpec("x"), PartitionSpec(None, "x"))
    sharded = jax.jit(jax.shard_map(path, mesh=mesh, in_specs=specs, out_specs=specs[0]))(params, grads)
    lanes = [path(params[2 * i : 2 * i + 2], grads[:, 2 * i : 2 * i + 2]) for i in (0, 1)]
    np.testing.assert_allclose(sharded[:4], jnp.concatenate(lanes), rtol=1e-6)


def test_an_infinite_sum_ends_with_its_period() -> None:
    path, _ = run(gradtx.apply_every(2), gradients(np.inf, 1.0, 2.0, 3.0))
    assert [float(u["w"][0]) for u in path] == [0.0, np.inf, 0.0, 5.0]
    with jax.numpy_dtype_promotion("standard"):
        theirs, _ = run(optax.apply_every(2), gradients(np.inf, 1.0, 2.0, 3.0))
    assert np.isnan(float(theirs[3]["w"][0]))


def test_report() -> None:
    _, state = run(gradtx.accumulate(gradtx.adam(0.1), 2), gradients(1.0, 1.0, 1.0))
    report = gradtx.report(state)
    assert {name: int(value) for name, value in report.items()} == {"mini_step": 1, "gradient_step": 1, "updated": 0}


def not_a_pair(updates: Any, step: Any, params: Any) -> Any:
    return jnp.array(True)


def not_a_bool(updates: Any, step: Any, params: Any) -> Any:
    return jnp.ones(2), ()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: gradtx.accumulate(gradtx.adam(0.1), 0), ValueError, "`every` must be a finite number >= 1, got 0.0"),
        (lambda: gradtx.MultiSteps(gradtx.adam(0.1), 0.5), ValueError, "`every_k_schedule` must be a finite number >= 1"),
        (lambda: gradtx.apply_every(0), ValueError, "`k` must be a finite number >= 1"),
        (lambda: gradtx.accumulate(0.1, 2), TypeError, "`inner` must be a gradient transformation"),
        (
            lambda: gradtx.accumulate(gradtx.adam(0.1), 2, should_skip_update_fn=not_a_pair).init(W),
            TypeError,
            r"must return \(should_skip, skip_state\)",
        ),
        (
            lambda: gradtx.accumulate(gradtx.adam(0.1), 2, should_skip_update_fn=not_a_bool).init(W),
            TypeError,
            r"must return one bool, True or False or a boolean array of rank 0, got float32\[2\]",
        ),
    ],
)  # fmt: skip
def test_errors_say_what_came(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_a_rate_that_is_learned_obeys_the_laws_inside() -> None:
    check_transformation(
        gradtx.accumulate(gradtx.chain(gradtx.clip(1.0), gradtx.trace(0.9)), 2),
        laws=["stable_state", "same_updates", "any_tree"],
        sign="keeps",
        refuses=["complex"],
    )
