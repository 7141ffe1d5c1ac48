"""State that is sharded over the data axis: equal numbers, an eighth of the bytes."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradtx

from .row import paraboloid
from .test_sharded_state import KINDS, by_path, mesh_of_two, padded, values


def mesh_of_one(kind: AxisType = AxisType.Auto) -> Any:
    return jax.make_mesh((8,), ("data",), axis_types=(kind,))


LAYERS = {"kernel": (32, 64), "bias": (64,), "odd": (7, 9), "stack": (3, 16, 8), "scale": ()}


def loss(params: Any, x: Any) -> Any:
    hidden = jnp.tanh(x @ params["kernel"] + params["bias"][None])
    return jnp.mean(hidden**2) + sum(jnp.sum((leaf - 1) ** 2) for leaf in jax.tree.leaves(params))


def run(
    tx: Any, mesh: Any = None, *, steps: int = 5, context: bool = True, specs: Any = None, jit_init: bool = False
) -> Any:
    """Parameters and state after some steps, and the state before; on the mesh the batch is sharded."""
    params, x = values(1, LAYERS), values(2, {"x": (16, 32)})["x"]
    if mesh is not None:
        place = lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec))  # noqa: E731
        params = {name: place(leaf, (specs or {}).get(name, P())) for name, leaf in params.items()}
        x = place(x, P("data"))

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        point = tx.gradient_params(params, state)
        value_fn = lambda p: loss(p, x)  # noqa: E731
        value, grads = jax.value_and_grad(value_fn)(point)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=value_fn)
        return gradtx.apply_updates(params, updates), state

    with jax.set_mesh(mesh) if mesh is not None and context else contextlib.nullcontext():
        start = state = (jax.jit(tx.init) if jit_init else tx.init)(params)
        for _ in range(steps):
            params, state = step(params, state)
        evaluated = tx.eval_params(params, state)
    return params, state, start, evaluated


INNER = {
    "adamw": lambda: gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(0.1)),
    "lbfgs": lambda: gradtx.lbfgs(memory_size=3),
    "nag": lambda: gradtx.nag(0.01),
    "nesterov": lambda: gradtx.sgd(0.01, 0.9, nesterov=True),
    "factored": lambda: gradtx.chain(optax.scale_by_factored_rms(min_dim_size_to_factor=8), gradtx.scale(-0.1)),
}


@pytest.fixture(params=list(KINDS))
def mesh(request: Any) -> Any:
    return mesh_of_one(KINDS[request.param])


def assert_near(got: Any, expected: Any, atol: float = 2e-6) -> None:
    """Five steps in float32: sums over eight parts are rounded otherwise, by 1e-7 a step of 0.1."""
    for path, leaf in by_path(expected).items():
        np.testing.assert_allclose(np.asarray(by_path(got)[path]), np.asarray(leaf), atol=atol, rtol=0, err_msg=path)


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("name", INNER)
def test_numbers_are_those_of_one_device(name: str, mesh: Any) -> None:
    tx = INNER[name]()
    params, state, start, evaluated = run(gradtx.zero(tx, min_size=16), mesh)
    alone, _, _, expected = run(tx)
    assert_near(params, alone)
    assert_near(evaluated, expected)
    for tree in (params, evaluated):
        assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(tree))
    cut = [leaf for leaf in jax.tree.leaves(state) if not leaf.sharding.is_fully_replicated]
    assert cut
    assert all(leaf.addressable_shards[0].data.size * 8 == leaf.size for leaf in cut)
    for before, after in zip(jax.tree.leaves(start), jax.tree.leaves(state), strict=True):
        assert before.sharding.is_equivalent_to(after.sharding, before.ndim)
    with jax.set_mesh(mesh):
        specs = gradtx.state_specs(gradtx.zero(tx, min_size=16), params)
    for leaf, spec in zip(jax.tree.leaves(state), jax.tree.leaves(specs), strict=True):
        assert leaf.sharding.is_equivalent_to(NamedSharding(mesh, spec), leaf.ndim)


def test_where_leaves_are_cut(mesh: Any) -> None:
    """The longest axis that eight devices divide; what is small, or has none, stays whole."""
    _, state, _, _ = run(gradtx.zero(gradtx.adam(0.1), min_size=100), mesh)
    found = {name: padded(leaf.sharding.spec, leaf.ndim) for name, leaf in state[0].mu.items()}
    assert found == {
        "kernel": (None, "data"),
        "bias": (None,),
        "odd": (None, None),
        "stack": (None, "data", None),
        "scale": (),
    }


# Without a mesh in context JAX compiles no zeros that are sharded by their type.
@pytest.mark.parametrize(("kind", "jit_init"), [("automatic", False), ("automatic", True), ("explicit", False)])
def test_the_mesh_of_the_arrays_will_do(kind: str, jit_init: bool) -> None:
    tx, mesh = gradtx.adamw(0.1), mesh_of_one(KINDS[kind])
    params, state, _, _ = run(gradtx.zero(tx, min_size=16), mesh, context=False, jit_init=jit_init)
    assert_near(params, run(tx)[0])
    assert padded(state[0].mu["kernel"].sharding.spec, 2) == (None, "data")
    assert params["kernel"].sharding.is_fully_replicated


def test_without_a_mesh_it_is_the_inner_one() -> None:
    tx = gradtx.adamw(0.1)
    for got, expected in zip(run(gradtx.zero(tx)), run(tx), strict=True):
        jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_beside_a_model_axis(kind: str) -> None:
    """What is sharded over the model stays so, and is cut over the data along another axis, or further."""
    mesh, specs = mesh_of_two(KINDS[kind]), {"kernel": P(None, "model"), "bias": P("model"), "stack": P()}
    given = None if kind == "explicit" else {name: specs.get(name, P()) for name in LAYERS}
    tx = gradtx.adamw(0.1)
    params, state, _, _ = run(gradtx.zero(tx, min_size=16, specs=given), mesh, specs=specs)
    assert_near(params, run(tx)[0])
    found = {name: padded(leaf.sharding.spec, leaf.ndim) for name, leaf in state[0].nu.items()}
    assert found["kernel"] == ("data", "model")
    assert found["bias"] == (("model", "data"),)
    assert {name: padded(params[name].sharding.spec, params[name].ndim) for name in specs} == {
        "kernel": (None, "model"), "bias": ("model",), "stack": (None, None, None),
    }  # fmt: skip
    assert state[0].nu["kernel"].addressable_shards[0].data.size == 32 * 64 // 8


def test_specs_that_a_compiled_update_cannot_see_are_asked_for() -> None:
    tx = gradtx.zero(gradtx.adam(0.1), min_size=16)
    with pytest.raises(ValueError, match=r"parameters may be sharded over model, .*Say how they lie"):
        run(tx, mesh_of_two())
    with pytest.raises(ValueError, match=r"\['kernel'\] has the spec .*'data'.*Say how they lie"):
        run(tx, mesh_of_one(), specs={"kernel": P("data")})
    # Said, they stay as they are.
    params, _, _, _ = run(tx.replace(specs=P()), mesh_of_two())
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(params))


def test_a_manual_axis_is_refused() -> None:
    tx, mesh = gradtx.zero(gradtx.adam(0.1)), mesh_of_one()
    with pytest.raises(ValueError, match="the axis 'data' is manual here"):
        jax.shard_map(tx.init, mesh=mesh, in_specs=P(), out_specs=P())(values(1, LAYERS))


def test_gradients_that_are_none(mesh: Any) -> None:
    tx = gradtx.zero(gradtx.adam(0.1), min_size=16)
    params = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, P())), values(1, LAYERS))
    with jax.set_mesh(mesh):
        state = tx.init(params)
        for given in (params, None):
            updates, new = jax.jit(tx.update)(params | {"stack": None}, state, given)
            assert updates["stack"] is None
            np.testing.assert_array_equal(new[0].mu["stack"], np.zeros(LAYERS["stack"]))
            for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
                assert before.sharding.is_equivalent_to(after.sharding, before.ndim)


def test_inside_a_chain_only_its_part_is_cut(mesh: Any) -> None:
    tx = gradtx.chain(gradtx.zero(gradtx.trace(0.9), min_size=16), gradtx.ema(0.9), gradtx.scale(-0.1))
    params, state, _, _ = run(tx, mesh)
    assert padded(state[0].trace["kernel"].sharding.spec, 2) == (None, "data")
    assert state[1].ema["kernel"].sharding.is_fully_replicated
    with jax.set_mesh(mesh):
        found = by_path(gradtx.state_specs(tx, params))
    assert padded(found["0/trace/kernel"], 2) == (None, "data")
    assert padded(found["1/ema/kernel"], 2) == (None, None)


def test_bytes_a_device(mesh: Any) -> None:
    """From the compiled programs: Adam's two moments take an eighth, and the update no more of the rest than before."""
    params = {"w": jax.ShapeDtypeStruct((1024, 512), np.float32, sharding=NamedSharding(mesh, P()))}
    size = 4 * 1024 * 512

    def compiled(tx: Any) -> Any:
        state = gradtx.state_structs(tx, params)
        step = jax.jit(lambda g, s, p: tx.update(g, s, p), donate_argnums=(1,))
        with jax.set_mesh(mesh):
            return step.lower(params, state, params).compile()

    plain, cut = (compiled(tx).memory_analysis() for tx in (gradtx.adamw(0.1), gradtx.zero(gradtx.adamw(0.1))))
    # Gradients and parameters are arguments, too: four copies, or two and two eighths.
    assert plain.argument_size_in_bytes == pytest.approx(4 * size, rel=1e-3)
    assert cut.argument_size_in_bytes == pytest.approx(2.25 * size, rel=1e-3)
    assert cut.output_size_in_bytes == pytest.approx(1.25 * size, rel=1e-3)


def test_a_checkpoint_is_restored_onto_other_devices(tmp_path: Any) -> None:
    import orbax.checkpoint as ocp

    tx = gradtx.zero(gradtx.adamw(0.1), min_size=16)
    params, state, _, _ = run(tx, mesh_of_one())
    four = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    target = gradtx.state_structs(tx, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params), mesh=four)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "state", target)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    kernel = restored[0].mu["kernel"]
    assert len(kernel.sharding.device_set) == 4
    assert kernel.addressable_shards[0].data.size * 4 == kernel.size
    # One program more, for the other devices; it goes on as it would have.
    on_four = jax.tree.map(lambda x: jax.device_put(np.asarray(x), NamedSharding(four, P())), params)
    updates, _ = jax.jit(tx.update)(on_four, restored, on_four)
    expected, _ = jax.jit(tx.update)(params, state, params)
    assert_near(updates, expected, 1e-7)


@pytest.mark.slow
def test_an_objective_sees_whole_parameters() -> None:
    """On explicit axes a matrix product of a cut kernel would be refused."""
    mesh = mesh_of_one(AxisType.Explicit)
    tx = gradtx.zero(gradtx.lbfgs(memory_size=2), min_size=16)
    params = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, P())), values(1, LAYERS))
    seen = []

    def value_fn(p: Any) -> Any:
        seen.append({name: jax.typeof(leaf).sharding.spec for name, leaf in p.items()})
        return loss(p, jnp.ones((4, 32)))

    with jax.set_mesh(mesh):
        value, grads = jax.value_and_grad(value_fn)(params)
        tx.update(grads, tx.init(params), params, value=value, grad=grads, value_fn=value_fn)
    assert len(seen) > 1
    assert all(not any(spec) for found in seen for spec in found.values())


@pytest.mark.slow
def test_extra_arguments_are_handed_on() -> None:
    tx, params = gradtx.lbfgs(memory_size=2), values()
    extra = paraboloid(params, params)
    expected, _ = tx.update(params, tx.init(params), params, **extra)
    got, _ = gradtx.zero(tx).update(params, tx.init(params), params, **extra)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


WRAPPED = {
    "guard and accumulate": lambda: gradtx.guard(gradtx.accumulate(gradtx.adam(0.1), 2)),
    "average": lambda: gradtx.average(gradtx.adam(0.1), 0.9),
    "groups": lambda: gradtx.partition({"kernel": gradtx.adam(0.1), "*": gradtx.sgd(0.1, 0.9)}),
    "schedule_free": lambda: gradtx.schedule_free(gradtx.sgd(0.1), 0.1),
    "float8": lambda: gradtx.quantize_state(gradtx.adam(0.1), "float8_e4m3fn", min_size=1024),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_around_and_inside_of_wrappers(name: str, mesh: Any) -> None:
    tx = WRAPPED[name]()
    params, state, start, evaluated = run(gradtx.zero(tx, min_size=16), mesh)
    alone, _, _, expected = run(tx)
    # A number that is rounded otherwise may have another code.
    assert_near(params, alone, 0.1 if name == "float8" else 5e-6)
    assert_near(evaluated, expected, 0.1 if name == "float8" else 5e-6)
    with jax.set_mesh(mesh):
        specs = gradtx.state_specs(gradtx.zero(tx, min_size=16), params)
    for before, after, spec in zip(*map(jax.tree.leaves, (start, state, specs)), strict=True):
        assert after.sharding.is_equivalent_to(NamedSharding(mesh, spec), after.ndim)
        assert before.ndim == 0 or before.sharding.is_equivalent_to(after.sharding, after.ndim)
    assert any("data" in str(spec) for spec in jax.tree.leaves(specs))


def test_inside_of_a_codec() -> None:
    tx = gradtx.quantize_state(gradtx.zero(gradtx.trace(0.9), min_size=16), min_size=16)
    params = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh_of_one(), P())), values(1, LAYERS))
    found, state = by_path(gradtx.state_specs(tx, params)), by_path(tx.init(params))
    assert found["inner_state/trace/kernel/codes"] == P(None, "data")
    for path, leaf in state.items():
        assert leaf.ndim == 0 or leaf.sharding.is_equivalent_to(NamedSharding(mesh_of_one(), found[path]), leaf.ndim)


REFUSED = {
    "an axis that the mesh has not": (
        lambda: run(gradtx.zero(gradtx.adam(1e-3), "batch"), mesh_of_one()),
        ValueError,
        "the mesh has no axis 'batch' to shard the state over; it has data",
    ),
    "two": (
        lambda: gradtx.zero(gradtx.guard(gradtx.zero(gradtx.adam(1e-3)))),
        ValueError,
        "zero: guard has a zero inside, which shards its state",
    ),
    "specs of zero": (
        lambda: gradtx.zero(gradtx.adam(1e-3), specs={"w": "data"}),
        TypeError,
        r"`specs`: \['w'\] must be a PartitionSpec, got 'data'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_came(case: str) -> None:
    call, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        call()
