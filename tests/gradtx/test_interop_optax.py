"""gradtx's transformations where optax's are expected, and optax's inside gradtx's."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx.interop import as_optax

pytestmark = pytest.mark.usefixtures("standard_promotion")

PARAMS: Any = {"w": jnp.array([1.0, -2.0, 3.0]), "b": None}
STEPS = 6


def path(tx: Any, params: Any = PARAMS, grads: Any = None, **extra: Any) -> tuple[Any, Any]:
    """The parameters after each step of a jitted loop, and the last state."""
    if grads is None:
        grads = jax.tree.map(lambda p: jnp.stack([jnp.sin(p * (t + 1.0)) for t in range(STEPS)]), params)

    @jax.jit
    def run(params: Any) -> Any:
        def step(carry: Any, grads: Any) -> Any:
            params, state = carry
            updates, state = tx.update(grads, state, params, **extra)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        (_, state), iterates = jax.lax.scan(step, (params, tx.init(params)), grads)
        return iterates, state

    return run(params)


def assert_same_path(ours: Any, theirs: Any, rtol: float = 1e-5, **inputs: Any) -> None:
    """Both train alike."""
    got, expected = path(ours, **inputs)[0], path(theirs, **inputs)[0]
    chex.assert_trees_all_close(got, expected, rtol=rtol)
    assert not np.allclose(expected["w"][0], expected["w"][-1])


# To a type checker it is not optax's class; `as_optax` is for that, too.
ADAM: Any = gradtx.adam(0.1, b2=0.95, eps=1e-3)
THEIR_ADAM = optax.adam(0.1, b2=0.95, eps=1e-3)


@pytest.mark.parametrize("adapt", [lambda tx: tx, as_optax], ids=["as it is", "as_optax"])
def test_in_an_optax_chain(adapt):
    clip = optax.clip_by_global_norm(0.5)
    assert_same_path(optax.chain(clip, adapt(ADAM)), optax.chain(clip, THEIR_ADAM))


@pytest.mark.parametrize("adapt", [lambda tx: tx, as_optax], ids=["as it is", "as_optax"])
def test_in_multi_steps(adapt):
    assert_same_path(optax.MultiSteps(adapt(ADAM), 2), optax.MultiSteps(THEIR_ADAM, 2))


@pytest.mark.parametrize("adapt", [lambda tx: tx, as_optax], ids=["as it is", "as_optax"])
def test_in_apply_if_finite(adapt):
    grads = {"w": jnp.ones((STEPS, 3)).at[2, 1].set(jnp.nan), "b": None}
    ours, theirs = optax.apply_if_finite(adapt(ADAM), 3), optax.apply_if_finite(THEIR_ADAM, 3)
    assert_same_path(ours, theirs, grads=grads)
    assert not np.any(np.isnan(path(ours, grads=grads)[0]["w"]))


def test_in_masked_and_partition():
    mask = {"w": True, "b": False}
    assert_same_path(optax.masked(ADAM, mask), optax.masked(THEIR_ADAM, mask))
    labels = {"w": "a", "b": "b"}
    still: Any = gradtx.set_to_zero()
    assert_same_path(
        optax.partition({"a": ADAM, "b": still}, labels),
        optax.partition({"a": THEIR_ADAM, "b": optax.set_to_zero()}, labels),
    )


LIKE: Any = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
OF_W, IN_GROUPS = {"w": True, "b": False}, {"w": "adam", "b": "still"}


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.masked(gradtx.scale_by_adam(), OF_W),
        gradtx.masked(gradtx.scale_by_adam(), lambda params: OF_W),
        gradtx.partition({"adam": gradtx.scale_by_adam(), "still": gradtx.freeze()}, IN_GROUPS),
        gradtx.partition({"adam": gradtx.scale_by_adam(), "still": gradtx.freeze()}, lambda params: IN_GROUPS),
        gradtx.partition({"w": gradtx.scale_by_adam(), "*": gradtx.freeze()}),
        gradtx.selective_transform(gradtx.scale_by_adam(), freeze_mask={"w": False, "b": True}),
    ],
    ids=["masked", "masked by a function", "labels", "labels by a function", "rules", "selective_transform"],
)
def test_optax_maps_over_leaves_of_state_like_parameters(tx: Any) -> None:
    mapped: Any = optax.tree_map_params(
        tx,
        lambda leaf, spec: leaf if leaf is None else spec,
        tx.init(LIKE),
        {"w": "spec of w", "b": "spec of b"},
        transform_non_params=lambda leaf: "other",
        is_leaf=lambda leaf: leaf is None,
    )
    (adam,) = jax.tree.leaves(mapped, is_leaf=lambda node: isinstance(node, gradtx.ScaleByAdamState))
    moment = {"w": "spec of w", "b": None}
    assert tuple(adam) == ("other", moment, moment)


def test_optax_maps_over_state_beside_masked_weight_decay() -> None:
    tx: Any = gradtx.adamw(0.1, mask=OF_W)
    mapped: Any = optax.tree_map_params(tx, lambda leaf: "like", tx.init(LIKE), transform_non_params=lambda _: "other")
    assert mapped[0].mu == {"w": "like", "b": "like"}
    assert mapped[0].count == "other"


class scale_by_value(gradtx.Stateless):
    """Wants an extra argument."""

    def update(self, updates: Any, state: Any, params: Any = None, *, value: Any) -> Any:
        return jax.tree.map(lambda u: u * value, updates), state


def test_extra_arguments_come_through_as_optax():
    tx: Any = gradtx.chain(scale_by_value(), gradtx.sgd(0.1))
    through: Any = optax.chain(optax.identity(), as_optax(tx))
    updates, _ = through.update(PARAMS, through.init(PARAMS), PARAMS, value=2.0, nobody="asked")
    np.testing.assert_allclose(updates["w"], -0.2 * PARAMS["w"], rtol=1e-6)
    dropped = optax.chain(optax.identity(), tx)
    with pytest.raises(TypeError, match="needs the extra argument `value`"):
        dropped.update(PARAMS, dropped.init(PARAMS), PARAMS, value=2.0)


def test_as_optax_is_of_optax_type_and_equal_where_tx_is():
    pair = as_optax(gradtx.adam(0.1))
    assert isinstance(pair, optax.GradientTransformationExtraArgs)
    assert pair == as_optax(gradtx.adam(0.1))
    assert hash(pair) == hash(as_optax(gradtx.adam(0.1)))
    assert pair != as_optax(gradtx.adam(0.2))
    traces = []

    def step(tx: Any, updates: Any, state: Any) -> Any:
        traces.append(tx)
        return tx.update(updates, state)

    jitted = jax.jit(step, static_argnums=0)
    for rate in (0.1, 0.1, 0.2):
        tx = as_optax(gradtx.adam(rate))
        jitted(tx, PARAMS, tx.init(PARAMS))
    assert len(traces) == 2


@pytest.mark.parametrize("tx", [gradtx.nag(0.1), gradtx.chain(gradtx.clip(1.0), gradtx.nag(0.1))], ids=repr)
def test_as_optax_refuses_what_looks_ahead(tx):
    with pytest.raises(ValueError, match=r"tx\.gradient_params.*sgd\(learning_rate, momentum, nesterov=True\)"):
        as_optax(tx)


SCHEDULES = {
    "cosine": optax.cosine_decay_schedule(0.3, 5, 0.1),
    "warmup": optax.warmup_cosine_decay_schedule(0.0, 0.3, 2, 6),
    "piecewise": optax.piecewise_constant_schedule(0.3, {2: 0.5, 4: 0.1}),
    "join": optax.join_schedules([optax.constant_schedule(0.1), optax.linear_schedule(0.3, 0.1, 3)], [2]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_optax_schedules_as_learning_rate(name):
    schedule = SCHEDULES[name]
    assert_same_path(gradtx.sgd(schedule, 0.9), optax.sgd(schedule, 0.9))
    tx = gradtx.sgd(schedule)
    _, state = path(tx)
    np.testing.assert_allclose(gradtx.current(tx, state)["learning_rate"], schedule(STEPS), rtol=1e-6)


def test_optax_schedule_inside_a_schedule():
    joined = gradtx.join_schedules([SCHEDULES["cosine"], 0.05], [3])
    assert_same_path(
        gradtx.sgd(joined), optax.sgd(optax.join_schedules([SCHEDULES["cosine"], optax.constant_schedule(0.05)], [3]))
    )


def test_optax_transformations_in_a_chain():
    ours = gradtx.chain(optax.clip(0.5), optax.scale_by_adam(b2=0.95, eps=1e-3), gradtx.scale_by_learning_rate(0.1))
    theirs = optax.chain(optax.clip(0.5), optax.adam(0.1, b2=0.95, eps=1e-3))
    assert_same_path(ours, theirs)
    named = gradtx.named_chain(("clip", optax.clip(0.5)), ("adam", optax.adam(0.1, b2=0.95, eps=1e-3)))
    assert_same_path(named, theirs)


def test_extra_arguments_reach_optax_transformations():
    ours = gradtx.chain(optax.scale_by_polyak(max_learning_rate=1.0), gradtx.scale_by_learning_rate(1.0))
    assert_same_path(ours, optax.polyak_sgd(1.0), value=2.0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=str)
@pytest.mark.parametrize(
    "theirs",
    [
        optax.scale_by_adam(),
        optax.trace(0.9),
        optax.scale_by_lion(),
        optax.scale_by_rms(),
        optax.masked(optax.ema(0.9), {"w": True, "b": False}),
    ],
    ids=["adam", "trace", "lion", "rms", "masked ema"],
)
def test_optax_in_a_chain_does_not_drift_in_half_precision(theirs, dtype):
    params = {"w": jnp.array([1.0, -2.0, 3.0], dtype), "b": jnp.array([1e-3], dtype)}
    tx = gradtx.chain(theirs, gradtx.scale_by_learning_rate(0.01))
    before = tx.init(params)
    updates, after = jax.jit(tx.update)(params, before, params)
    assert jax.tree.map(jax.typeof, before) == jax.tree.map(jax.typeof, after)
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} <= {np.dtype("float32"), np.dtype("int32")}
    assert jax.tree.map(jax.typeof, updates) == jax.tree.map(jax.typeof, params)
    path(tx, params=params)  # `scan` refuses a state that changes
