"""Composition: order, names, foreign pairs, extra arguments, and the points to differentiate and evaluate at."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

import gradtx
from gradtx import EmptyState, Scalar, Transform, transformation

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.1, -0.2])}
GRADS = {"w": jnp.array([[0.3, 0.2], [-1.0, 2.0]]), "b": jnp.array([4.0, -0.5])}


@transformation
def needs_value(factor: Scalar = 1.0) -> Transform:
    def update(updates: Any, state: Any, params: Any = None, *, value: Any, weight: Any = 1.0) -> Any:
        return jax.tree.map(lambda g: g * value * weight, updates), state

    return Transform(lambda params: EmptyState(), update)


@transformation
def evaluates_at(shift: Scalar) -> Transform:
    pair = gradtx.identity().transform()
    return Transform(pair.init, pair.update, eval_params=lambda p, state: jax.tree.map(lambda x: x + shift, p))


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
    tx = gradtx.named_chain(("z", gradtx.scale(2.0)), ("a", gradtx.clip(1.0)), ("m", gradtx.momentum(0.9)))
    state = tx.init(PARAMS)
    assert list(state) == ["z", "a", "m"]
    updates, state = jax.jit(lambda tx, s: tx.update(GRADS, s))(tx, state)
    chex.assert_trees_all_close(updates, jax.tree.map(lambda g: jnp.clip(2 * g, -1, 1), GRADS))
    updates, state = tx.update(GRADS, state)
    assert tx.transforms["a"].max_delta == 1.0


def test_declared_extra_arguments_reach_just_those_that_declare_them() -> None:
    tx = gradtx.chain(gradtx.scale(1.0), gradtx.chain(needs_value()), gradtx.adam(1e-3))
    assert tx.transform().declared.required == {"value"}
    assert tx.transform().declared.optional == {"weight"}
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
    with pytest.raises(ValueError, match="chain: stages 0 and 1 both define eval_params; only one can"):
        gradtx.chain(evaluates_at(1.0), evaluates_at(2.0))
    with pytest.raises(ValueError, match="stages a and b both define gradient_params"):
        gradtx.named_chain(("a", gradtx.nag(0.1)), ("b", gradtx.nag(0.1)))
    with pytest.raises(ValueError, match="stage 0 defines gradient_params and must come last"):
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
    assert found == pytest.approx({"one.learning_rate": 0.1, "two.learning_rate": 0.2, "step_size": 0.5})


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
    chex.assert_trees_all_equal(Transform(Doubling().init, Doubling().update).declared.params, False)


def test_a_missing_gradient_under_a_mask() -> None:
    tx = gradtx.adamw(0.1, mask={"w": True, "b": False})
    updates, _ = tx.update({"w": None, "b": GRADS["b"]}, tx.init(PARAMS), PARAMS)
    assert updates["w"] is None
