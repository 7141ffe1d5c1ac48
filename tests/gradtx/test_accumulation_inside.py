"""What is inside an accumulation: when it is computed, what it sees, and what goes through to it."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import gradtx

from .row import paraboloid
from .steps import W, gradients, run


def primitives(jaxpr: Any) -> list[str]:
    """The primitives of a program and of the functions in it, but not of its branches."""
    names = []
    for equation in jaxpr.eqns:
        names.append(equation.primitive.name)
        inner = equation.params.get("jaxpr")
        names += primitives(getattr(inner, "jaxpr", inner)) if inner is not None else []
    return names


def test_what_is_inside_is_computed_at_steps_alone() -> None:
    tx = gradtx.accumulate(gradtx.adam(0.1), 4)
    jaxpr = jax.make_jaxpr(tx.update)(W, tx.init(W), W).jaxpr
    assert "cond" in primitives(jaxpr)
    assert "sqrt" not in primitives(jaxpr)


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
        assert float(state.acc_grads["w"][0]) == 5.0
        assert int(state.mini_step) == 0


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


@pytest.mark.slow
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
    grads = {"frozen": None, "still": None, "w": jnp.ones(3)}
    _, state = tx.update(grads, tx.init(params), params)
    updates, state = tx.update(grads, state, params)
    assert updates["still"] is None
    assert updates["frozen"] is None
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
        (lambda: gradtx.MultiSteps(gradtx.adam(0.1), 0.5), ValueError, "`every_k_schedule` must be a finite number"),
        (lambda: gradtx.apply_every(0), ValueError, "`k` must be a finite number >= 1"),
        (lambda: gradtx.accumulate(cast(Any, 0.1), 2), TypeError, "`inner` must be a gradient transformation"),
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


@pytest.mark.parametrize("every", [1.0, 3.0])
@pytest.mark.parametrize(
    ("extra", "error", "words"),
    [
        ({"flush": 1}, TypeError, "accumulate: `flush` must be one bool, True or False .* got 1"),
        ({"flush": jnp.ones(2, bool)}, TypeError, r"accumulate: `flush` must be one bool, .* got bool\[2\]"),
        ({"weight": jnp.ones(2)}, ValueError, r"`weight` has shape \(2,\), expected one number"),
        ({"weight": jnp.ones([], bool)}, TypeError, "accumulate: `weight` must be a real number"),
        ({"weight": 1j}, TypeError, "accumulate: `weight` must be a real number, got 1j"),
        ({"weight": -1}, ValueError, "accumulate: `weight` must be a number >= 0, got -1"),
        ({"weight": float("nan")}, ValueError, "accumulate: `weight` must be a number >= 0, got nan"),
    ],
)
def test_what_is_given_with_a_micro_batch_is_checked(every: float, extra: Any, error: Any, words: str) -> None:
    tx = gradtx.accumulate(gradtx.sgd(0.1), every)
    with pytest.raises(error, match=words):
        tx.update(W, tx.init(W), W, **extra)


def test_what_is_kept_of_skips_has_one_structure() -> None:
    def parameters(updates: Any, step: Any, params: Any) -> tuple[bool, Any]:
        return False, params

    tx = gradtx.accumulate(gradtx.sgd(0.1), 2, should_skip_update_fn=parameters)
    with pytest.raises(ValueError, match=r"must return a skip_state of the structure that it had at init, .*'w'"):
        tx.update(W, tx.init(W))


@pytest.mark.parametrize("wrapper", ["conditionally_transform", "conditionally_mask"])
def test_a_condition_is_a_function(wrapper: str) -> None:
    condition: Any = 3
    with pytest.raises(TypeError, match=f"{wrapper}: `should_transform_fn` must be a function, got 3"):
        getattr(gradtx, wrapper)(gradtx.sgd(0.1), condition)
    with pytest.raises(TypeError, match="accumulate: `should_skip_update_fn` must be a function, got 3"):
        gradtx.accumulate(gradtx.sgd(0.1), 2, should_skip_update_fn=condition)
