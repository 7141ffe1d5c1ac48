"""Composition: order, names, foreign pairs, extra arguments, and the points to differentiate and evaluate at."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

import gradtx
from gradtx import (
    Decay,
    EmptyState,
    GradientTransformation,
    GradientTransformationExtraArgs,
    OptState,
    Params,
    Scalar,
    Stateless,
    Updates,
)

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.1, -0.2])}
GRADS = {"w": jnp.array([[0.3, 0.2], [-1.0, 2.0]]), "b": jnp.array([4.0, -0.5])}


class needs_value(Stateless):
    """One extra argument that it needs, and one that it takes."""

    factor: Scalar = 1.0

    def update(
        self, updates: Updates, state: EmptyState, params: Params | None = None, *, value: Any, weight: Any = 1.0
    ) -> tuple[Updates, EmptyState]:
        return jax.tree.map(lambda g: g * value * weight, updates), state


class evaluates_at(Stateless):
    """An `eval_params` of its own."""

    shift: Scalar

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        return updates, state

    def eval_params(self, params: Params, state: OptState) -> Params:
        return jax.tree.map(lambda x: x + self.shift, params)


class WrapperState(NamedTuple):
    """State of `wrapper`."""

    calls: jax.Array
    inner_state: OptState


class wrapper(GradientTransformation):
    """A wrapper as a user writes it: nothing but its own two methods."""

    inner: GradientTransformation
    gain: Decay = 0.5

    def init(self, params: Params) -> WrapperState:
        return WrapperState(jnp.zeros([], jnp.int32), self.inner.init(params))

    def update(
        self, updates: Updates, state: WrapperState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, WrapperState]:
        updates, inner = self.inner.update(updates, state.inner_state, params, **extra)
        return updates, WrapperState(state.calls + 1, inner)


class transparent(GradientTransformation):
    """A wrapper whose state is its inner transformation's."""

    inner: GradientTransformation

    def init(self, params: Params) -> OptState:
        return self.inner.init(params)

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, OptState]:
        return self.inner.update(updates, state, params, **extra)


def test_unpacks_as_a_pair() -> None:
    init, update = gradtx.adam(1e-3)
    updates, state = update(GRADS, init(PARAMS), PARAMS)
    chex.assert_trees_all_equal(updates, gradtx.adam(1e-3).update(GRADS, init(PARAMS))[0])
    assert state[0].count == 1


def test_stages_apply_in_order() -> None:
    tx = gradtx.chain(gradtx.scale(2.0), gradtx.clip(1.0))
    updates, _ = tx.update(GRADS, tx.init(PARAMS))
    chex.assert_trees_all_close(updates, jax.tree.map(lambda g: jnp.clip(2 * g, -1, 1), GRADS))


def test_the_empty_chain_is_the_identity() -> None:
    tx = gradtx.chain()
    updates, state = tx.update(GRADS, tx.init(PARAMS))
    chex.assert_trees_all_equal(updates, GRADS)
    assert state == ()


def test_foreign_pairs_in_every_form() -> None:
    pair = optax.scale(2.0)
    forms: list[Any] = [pair, (pair.init, pair.update), optax.with_extra_args_support(pair)]
    for foreign in forms:
        tx = gradtx.chain(foreign, gradtx.scale(0.5))
        chex.assert_trees_all_equal(tx.update(GRADS, tx.init(PARAMS))[0], GRADS)


def test_named_chain_keeps_the_order_through_jit() -> None:
    tx = gradtx.named_chain(("z", gradtx.scale(2.0)), ("a", gradtx.clip(1.0)), ("m", gradtx.trace(0.9)))
    state = tx.init(PARAMS)
    assert list(state) == ["z", "a", "m"]
    updates, state = jax.jit(lambda tx, s: tx.update(GRADS, s))(tx, state)
    chex.assert_trees_all_close(updates, jax.tree.map(lambda g: jnp.clip(2 * g, -1, 1), GRADS))
    updates, state = tx.update(GRADS, state)
    assert tx.a == gradtx.clip(1.0)
    with pytest.raises(AttributeError, match="named_chain has no stage or attribute 'b'; it has z, a, m"):
        _ = tx.b


def test_declared_extra_arguments_reach_just_those_that_declare_them() -> None:
    tx = gradtx.chain(gradtx.scale(1.0), gradtx.chain(needs_value()), gradtx.adam(1e-3))
    state = tx.init(PARAMS)
    tx.update(GRADS, state, PARAMS, value=2.0, undeclared=3)
    with pytest.raises(
        TypeError, match=r"needs_value needs the extra argument `value`: call tx.update\(.*value=\.\.\.\)"
    ):
        tx.update(GRADS, state, PARAMS)


def test_an_undeclared_extra_argument_is_ignored_by_everything() -> None:
    tx = gradtx.adam(1e-3)
    chex.assert_trees_all_equal(
        tx.update(GRADS, tx.init(PARAMS), PARAMS, value=1.0), tx.update(GRADS, tx.init(PARAMS), PARAMS)
    )


def test_optax_transformations_get_extra_arguments(standard_promotion: None) -> None:
    tx = gradtx.chain(optax.scale_by_polyak(), gradtx.scale(1.0))
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, value=2.0)
    assert jnp.all(jnp.isfinite(updates["w"]))


def test_only_one_stage_defines_a_point() -> None:
    assert gradtx.chain(evaluates_at(1.0), gradtx.scale(1.0)).eval_params(PARAMS, (EmptyState(), EmptyState()))["b"][
        0
    ] == pytest.approx(1.1)
    with pytest.raises(
        ValueError,
        match=(r"chain: stages 0 \(evaluates_at\) and 1 \(evaluates_at\) both define eval_params; only one can"),
    ):
        gradtx.chain(evaluates_at(1.0), evaluates_at(2.0))
    with pytest.raises(ValueError, match=r"stages a \(nag\) and b \(nag\) both define gradient_params"):
        gradtx.named_chain(("a", gradtx.nag(0.1)), ("b", gradtx.nag(0.1)))
    with pytest.raises(ValueError, match=r"stage 0 \(nag\) defines gradient_params and must come last"):
        gradtx.chain(gradtx.nag(0.1), gradtx.scale(1.0))


def test_gradient_params_come_through_a_chain() -> None:
    tx = gradtx.chain(gradtx.clip(10.0), gradtx.nag(0.1, 0.9))
    state = tx.init(PARAMS)
    _, state = tx.update(GRADS, state, PARAMS)
    expected = jax.tree.map(lambda p, g: p - 0.9 * 0.1 * g, PARAMS, GRADS)
    chex.assert_trees_all_close(tx.gradient_params(PARAMS, state), expected)
    chex.assert_trees_all_equal(tx.eval_params(PARAMS, state), PARAMS)


def test_current_reads_the_rate_of_the_next_step() -> None:
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.adam(gradtx.linear_schedule(1.0, 0.0, 10)))
    state = tx.init(PARAMS)
    assert gradtx.current(tx, state) == {"learning_rate": 1.0}
    _, state = tx.update(GRADS, state)
    assert gradtx.current(tx, state)["learning_rate"] == pytest.approx(0.9)
    assert gradtx.current(gradtx.clip(1.0), EmptyState()) == {}
    constant = gradtx.sgd(0.25)
    assert gradtx.current(constant, constant.init(PARAMS))["learning_rate"] == 0.25


def test_current_tells_two_rates_apart() -> None:
    tx = gradtx.named_chain(
        ("one", gradtx.sgd(0.1)), ("two", gradtx.sgd(0.2)), ("decay", gradtx.scale_by_schedule(0.5))
    )
    found = {name: float(value) for name, value in gradtx.current(tx, tx.init(PARAMS)).items()}
    assert found == pytest.approx({"one.learning_rate": 0.1, "two.learning_rate": 0.2, "step_size_fn": 0.5})


def test_apply_updates_keeps_the_dtype_of_params() -> None:
    params = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2), "none": None, "still": jnp.ones(1)}
    updates = {"half": jnp.full(2, 0.5), "single": jnp.full(2, 0.5, jnp.bfloat16), "none": None, "still": None}
    new = gradtx.apply_updates(params, updates)
    assert (new["half"].dtype, new["single"].dtype) == (jnp.bfloat16, jnp.float32)
    assert new["none"] is None
    chex.assert_trees_all_equal(new["still"], params["still"])


def test_a_missing_gradient_leaves_parameter_and_state() -> None:
    tx = gradtx.adam(0.1)
    _, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    updates, new = tx.update({"w": GRADS["w"], "b": None}, state, PARAMS)
    assert updates["b"] is None
    chex.assert_trees_all_equal(new[0].mu["b"], state[0].mu["b"])
    chex.assert_trees_all_equal(gradtx.apply_updates(PARAMS, updates)["b"], PARAMS["b"])


def test_half_precision_is_widened_once() -> None:
    # 300 and 0.01 in float16: their product with 300 overflows unless the stages between compute in float32.
    tx = gradtx.chain(gradtx.scale(300.0), gradtx.scale(1 / 300.0))
    grads = {"w": jnp.asarray([300.0, 0.01], jnp.float16)}
    updates, _ = tx.update(grads, tx.init(grads))
    assert updates["w"].dtype == jnp.float16
    chex.assert_trees_all_close(updates["w"], grads["w"], rtol=1e-3)


def test_the_count_stays_at_its_largest() -> None:
    tx = gradtx.sgd(0.1)
    state = (EmptyState(), type(tx.init(PARAMS)[1])(jnp.asarray(2**31 - 1, jnp.int32)))
    assert tx.update(GRADS, state)[1][1].count == 2**31 - 1


class Doubling:
    """A pair as an object with methods."""

    def init(self, params: Any) -> EmptyState:
        return EmptyState()

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        return jax.tree.map(lambda g: 2 * g, updates), state


def test_pairs_of_bound_methods() -> None:
    pairs: list[Any] = [Doubling(), tuple(gradtx.scale(2.0)), (Doubling().init, Doubling().update)]
    for pair in pairs:
        tx = gradtx.chain(pair)
        chex.assert_trees_all_equal(tx.update(GRADS, tx.init(PARAMS))[0], jax.tree.map(lambda g: 2 * g, GRADS))


def test_a_missing_gradient_under_a_mask() -> None:
    tx = gradtx.adamw(0.1, mask={"w": True, "b": False})
    updates, _ = tx.update({"w": None, "b": GRADS["b"]}, tx.init(PARAMS), PARAMS)
    assert updates["w"] is None


@pytest.mark.parametrize("wrap", [wrapper, transparent, lambda tx: wrapper(transparent(wrapper(tx)))])
def test_a_wrapper_hands_on_what_its_author_did_not_write(wrap: Any) -> None:
    inner = gradtx.chain(needs_value(), gradtx.nag(gradtx.linear_schedule(1.0, 0.0, 10), 0.9))
    tx, state = wrap(inner), wrap(inner).init(PARAMS)
    assert gradtx.current(tx, state)["learning_rate"] == 1.0
    _, state = tx.update(GRADS, state, PARAMS, value=2.0, undeclared=3.0)
    _, bare = inner.update(GRADS, inner.init(PARAMS), PARAMS, value=2.0)
    assert gradtx.current(tx, state)["learning_rate"] == pytest.approx(0.9)
    chex.assert_trees_all_equal(tx.gradient_params(PARAMS, state), inner.gradient_params(PARAMS, bare))
    with pytest.raises(TypeError, match="needs_value needs the extra argument `value`"):
        tx.update(GRADS, state, PARAMS)
    shifted = wrap(evaluates_at(1.0))
    assert shifted.eval_params(PARAMS, shifted.init(PARAMS))["b"][0] == pytest.approx(1.1)
    with pytest.raises(ValueError, match="both define gradient_params"):
        gradtx.chain(tx, gradtx.nag(0.1))


def test_current_keeps_every_value_whatever_the_nesting() -> None:
    two = gradtx.chain(gradtx.sgd(0.1), gradtx.sgd(0.2))
    tx = gradtx.chain(two, wrapper(gradtx.chain(gradtx.sgd(0.3), gradtx.adamw(0.4, weight_decay=0.5))))
    found = {name: float(value) for name, value in gradtx.current(tx, tx.init(PARAMS)).items()}
    rates = {"0.0": 0.1, "0.1": 0.2, "1.inner.0": 0.3, "1.inner.1": 0.4}
    assert found == pytest.approx({f"{at}.learning_rate": r for at, r in rates.items()} | {"weight_decay": 0.5})
    # The names are those that `replace` takes.
    assert tx.replace({"1.inner.1.learning_rate": 9.0})[1].inner[1].learning_rate == 9.0  # pyright: ignore


class GroupsState(NamedTuple):
    """State of `groups`."""

    inner_states: dict[str, Any]


class groups(GradientTransformation):
    """Transformations by name, each on the leaf of its name."""

    transforms: dict[str, GradientTransformation]

    def init(self, params: Params) -> GroupsState:
        return GroupsState({name: tx.init(params[name]) for name, tx in self.transforms.items()})

    def update(
        self, updates: Updates, state: GroupsState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, GroupsState]:
        params = params or dict.fromkeys(updates)
        assert params is not None
        done = {n: tx.update(updates[n], state.inner_states[n], params[n]) for n, tx in self.transforms.items()}
        return {n: u for n, (u, _) in done.items()}, GroupsState({n: s for n, (_, s) in done.items()})


def test_current_looks_into_groups() -> None:
    tx = gradtx.chain(groups({"w": gradtx.sgd(0.1), "b": gradtx.adam(gradtx.linear_schedule(1.0, 0.0, 10))}))
    _, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    found = {name: float(value) for name, value in gradtx.current(tx, state).items()}
    assert found == pytest.approx({"0.transforms.w.learning_rate": 0.1, "0.transforms.b.learning_rate": 0.9})


def test_two_functions_make_a_pair() -> None:
    """Code written for optax ports by its import."""

    def init_fn(params: Any) -> Any:
        return gradtx.EmptyState()

    def update_fn(updates: Any, state: Any, params: Any = None) -> Any:
        return jax.tree.map(lambda g: 2 * g, updates), state

    def update_with_value(updates: Any, state: Any, params: Any = None, *, value: Any, **rest: Any) -> Any:
        return jax.tree.map(lambda g: value * g, updates), state

    assert GradientTransformationExtraArgs is GradientTransformation
    for tx in (GradientTransformation(init_fn, update_fn), GradientTransformation(init=init_fn, update=update_fn)):
        assert isinstance(tx, GradientTransformation)
        assert jax.tree.leaves(tx) == []
        assert tx == GradientTransformation(init_fn, update_fn)
        chained = gradtx.chain(tx, optax.scale(0.5))
        updates, state = chained.update(GRADS, chained.init(PARAMS), PARAMS, value=1.0)
        chex.assert_trees_all_equal(updates, GRADS)
        assert isinstance(state[0], EmptyState)
    tx = gradtx.chain(GradientTransformationExtraArgs(init_fn, update_with_value))
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, value=3.0, more=1)
    chex.assert_trees_all_equal(updates, jax.tree.map(lambda g: 3 * g, GRADS))
    with pytest.raises(TypeError, match="takes two functions, got 3"):
        GradientTransformation(3, update_fn)  # pyright: ignore[reportArgumentType]


def test_an_update_without_params_is_refused_at_its_definition() -> None:
    with pytest.raises(TypeError, match=r"wrong: write the method as update\(self, updates, state, params=None\)"):

        class wrong(Stateless):
            def update(self, updates: Any, state: Any) -> Any:
                return updates, state


class keeps(GradientTransformation):
    """A wrapper that would keep extra arguments from its inner transformation."""

    inner: GradientTransformation

    def init(self, params: Params) -> OptState:
        return self.inner.init(params)

    def update(self, updates: Updates, state: OptState, params: Params | None = None) -> tuple[Updates, OptState]:
        return self.inner.update(updates, state, params)


def test_a_wrapper_that_keeps_extra_arguments_is_refused() -> None:
    with pytest.raises(TypeError, match=r"keeps: .* takes \*\*extra in `update` and hands it on"):
        keeps(gradtx.scale(1.0))


def test_a_missing_method_is_named() -> None:
    class nothing(GradientTransformation):
        pass

    with pytest.raises(NotImplementedError, match="nothing has no method `init"):
        nothing().init(PARAMS)


class two(GradientTransformation):
    """Two transformations whose states are in a plain tuple."""

    a: GradientTransformation
    b: GradientTransformation

    def init(self, params: Params) -> OptState:
        return self.a.init(params), self.b.init(params)

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, OptState]:
        return updates, state


def test_states_that_cannot_be_told_apart_are_named() -> None:
    tx = two(gradtx.adam(0.1), gradtx.adam(0.2))
    with pytest.raises(TypeError, match="the state of `a` cannot be told from a tuple: put it into a field `a`"):
        gradtx.current(tx, tx.init(PARAMS))
