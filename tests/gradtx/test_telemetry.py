"""What is logged: norms and counts against NumPy, under scan and vmap, and measurements against optax's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import gradtx

PARAMS = {"head": {"w": jnp.full((2, 3), 2.0)}, "body": jnp.ones(4)}


def gradients(step: int) -> Any:
    return jax.tree.map(lambda p: p * (step + 1) * jnp.linspace(-1, 1, p.size).reshape(p.shape), PARAMS)


def times(factor: float) -> Any:
    return jax.tree.map(lambda p: factor * p, PARAMS)


def norm(tree: Any) -> float:
    return float(np.sqrt(sum(np.sum(np.square(np.asarray(leaf, np.float64))) for leaf in jax.tree.leaves(tree))))


def test_norms_are_those_of_what_comes_in_and_goes_out() -> None:
    schedule = gradtx.linear_schedule(0.1, 0.0, 10)
    tx = gradtx.observe(gradtx.adam(schedule), groups={"head": "head/*", "rest": "*"})
    bare, params = gradtx.adam(schedule), PARAMS
    state, bare_state = tx.init(params), bare.init(params)
    for step in range(4):
        grads = gradients(step)
        updates, state = tx.update(grads, state, params)
        expected, bare_state = bare.update(grads, bare_state, params)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, updates, expected))
        log = gradtx.report(state)
        for prefix, part in {"": lambda t: t, "head.": lambda t: t["head"], "rest.": lambda t: t["body"]}.items():
            sizes = [norm(part(tree)) for tree in (grads, updates, params)]
            named = [log[f"{prefix}{name}_norm"] for name in ("grad", "update", "param")]
            np.testing.assert_allclose(named, sizes, rtol=1e-6)
            np.testing.assert_allclose(log[f"{prefix}update_ratio"], sizes[1] / sizes[2], rtol=1e-6)
            np.testing.assert_allclose(log[f"{prefix}effective_rate"], sizes[1] / sizes[0], rtol=1e-6)
        assert float(log["learning_rate"]) == pytest.approx(0.1 - 0.01 * step)
        params = gradtx.apply_updates(params, updates)


def test_a_report_of_a_chain_says_which_stage() -> None:
    tx = gradtx.chain(gradtx.observe(gradtx.clip_by_global_norm(1.0)), gradtx.observe(gradtx.sgd(0.5)))
    state = tx.init(PARAMS)
    for size in (10.0, 0.01, 10.0, 10.0):
        _, state = tx.update(times(size), state, PARAMS)
    log = gradtx.report(state)
    assert float(log["clip_fraction"]) == 0.75
    assert float(log["0.update_norm"]) == pytest.approx(1.0)
    assert float(log["1.effective_rate"]) == pytest.approx(0.5)
    assert "learning_rate" in log


def test_skipped_steps_are_counted() -> None:
    tx = gradtx.observe(gradtx.chain(gradtx.set_to_zero()))
    state = tx.init(PARAMS)
    for factor in (1.0, 0.0, jnp.nan, 1.0):
        _, state = tx.update(times(factor), state)
    log = gradtx.report(state)
    assert float(log["skip_fraction"]) == 0.75
    assert np.isnan(log["param_norm"])


def test_norms_are_taken_every_few_steps() -> None:
    tx = gradtx.observe(gradtx.sgd(1.0), every=3)
    state, seen = tx.init(PARAMS), []
    for step in range(7):
        _, state = tx.update(gradients(step), state, PARAMS)
        seen.append(float(gradtx.report(state)["grad_norm"]) / norm(gradients(0)))
    np.testing.assert_allclose(seen, [1, 1, 1, 4, 4, 4, 7], rtol=1e-6)


def test_reports_stack_under_scan_and_vmap() -> None:
    @jax.jit
    def train(rate: Any) -> Any:
        tx = gradtx.observe(gradtx.sgd(rate))

        def step(carry: Any, grads: Any) -> Any:
            params, state = carry
            updates, state = tx.update(grads, state, params)
            return (gradtx.apply_updates(params, updates), state), gradtx.report(state)

        grads = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(gradients, range(5)))
        return jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), grads)[1]

    rates = jnp.array([0.1, 0.2])
    log = jax.vmap(train)(rates)
    assert {leaf.shape for leaf in log.values()} == {(2, 5)}
    expected = np.outer(rates, [norm(gradients(i)) for i in range(5)])
    np.testing.assert_allclose(log["update_norm"], expected, rtol=1e-6)


def test_observe_refuses_groups_without_names() -> None:
    with pytest.raises(TypeError, match=r"groups are names with rules, \{'head': 'head/\*'\}; got \['head'\]"):
        gradtx.observe(gradtx.sgd(1.0), groups=["head"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a rule is a pattern like"):
        gradtx.observe(gradtx.sgd(1.0), groups={"head": 3})  # type: ignore[dict-item]


def long(updates: Any) -> Any:
    return optax.tree.norm(updates) > 5.0


def test_monitor_measures_what_optax_s_does(x64: None) -> None:
    def measures(library: Any) -> Any:
        return {"norm": optax.tree.norm, "long": library.measure_with_ema(long, 0.8), "scaled": library.scale(2.0)}

    ours, theirs = (library.monitor(measures(library)) for library in (gradtx, optax))
    params = jax.tree.map(lambda p: p.astype(np.float64), PARAMS)
    state, other = ours.init(params), theirs.init(params)
    with jax.numpy_dtype_promotion("standard"):
        for step in range(50):
            grads = jax.tree.map(lambda p: p.astype(np.float64), gradients(step % 7))
            _, state = ours.update(grads, state, params)
            _, other = theirs.update(grads, other, params)
            assert state.measurements.keys() == other.measurements.keys()
            for name in state.measurements:
                jax.tree.map(
                    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
                    state.measurements[name],
                    other.measurements[name],
                )


def test_monitor_keeps_its_structure_where_optax_s_changes() -> None:
    def scanned(library: Any) -> Any:
        tx = library.monitor({"norm": optax.tree.norm})

        def step(state: Any, _: Any) -> Any:
            return tx.update(PARAMS, state)[1], None

        return jax.lax.scan(step, tx.init(PARAMS), length=3)[0]

    assert float(gradtx.report(scanned(gradtx))["norm"]) == pytest.approx(norm(PARAMS))
    with pytest.raises(TypeError, match="scan"):
        scanned(optax)


def test_a_measurement_of_another_shape_is_refused() -> None:
    tx = gradtx.snapshot("first", lambda updates: updates["body"][: int(updates["head"]["w"][0, 0])])
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match=r"snapshot: the measurement `first` is \(\(3,\).*was \(\(2,\)"):
        tx.update(jax.tree.map(lambda p: p + 1, PARAMS), state)


def test_a_snapshot_is_the_state_s_own() -> None:
    tx = gradtx.snapshot("updates", lambda updates: updates)
    updates, state = tx.update(PARAMS, tx.init(PARAMS))
    assert updates["body"] is not state.measurement["updates"]["body"]
    _, state = tx.update({**PARAMS, "body": None}, state)
    np.testing.assert_array_equal(state.measurement["updates"]["body"], PARAMS["body"])
    assert gradtx.report(state) == {}


def test_report_finds_nothing_where_there_is_nothing() -> None:
    assert gradtx.report(gradtx.adam(0.1).init(PARAMS)) == {}
    assert gradtx.report(gradtx.GuardState) == {}


def test_a_report_keeps_scalars_of_equal_names_apart() -> None:
    tx = gradtx.apply_if_finite(gradtx.guard(gradtx.sgd(0.1)), 0)
    state = tx.init(PARAMS)
    for _ in range(3):
        _, state = tx.update(times(np.nan), state, PARAMS)
    _, state = tx.update(PARAMS, state._replace(total_notfinite=jnp.int32(7)), PARAMS)
    log = gradtx.report(state)
    assert (int(log["total_notfinite"]), int(log["inner_state.total_notfinite"])) == (7, 3)
    twice = gradtx.report(gradtx.observe(gradtx.observe(gradtx.sgd(0.1))).init(PARAMS))
    assert {"grad_norm", "inner_state.grad_norm"} <= set(twice)


def test_what_measures_prints_as_it_is_written() -> None:
    for tx in (
        gradtx.observe(gradtx.sgd(0.1)),
        gradtx.observe(gradtx.sgd(0.1), 3, groups={"head": "head/*", "rest": gradtx.by_rank(1)}),
        gradtx.monitor({"norm": gradtx.global_norm, "steps": gradtx.sgd(0.1)}),
    ):
        assert eval(repr(tx), {**vars(gradtx)}) == tx


def test_a_batch_of_periods_is_refused_by_name() -> None:
    tx = gradtx.observe(gradtx.sgd(0.1), jnp.array([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"`every` has shape \(2,\), expected one number"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)


@pytest.mark.usefixtures("standard_promotion")
def test_reports_and_scales_see_through_flax_s_variables() -> None:
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    measures = {"norm": gradtx.global_norm, "updates": lambda updates: updates}
    tx = gradtx.chain(gradtx.monitor(measures), gradtx.dynamic_loss_scale(gradtx.sgd(0.1), 64.0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    log = gradtx.report(optimizer.opt_state)
    assert set(log) == {"norm", "loss_scale", "total_notfinite"}
    np.testing.assert_allclose(log["norm"], np.sqrt(8), rtol=1e-6)
    assert isinstance(gradtx.loss_scale(optimizer.opt_state), jax.Array)
