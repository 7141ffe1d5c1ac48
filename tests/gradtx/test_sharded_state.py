"""Specs of a state from those of its parameters, read off what `init` does with other shapes."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradtx

SHAPES = {"square": (16, 16), "twin": (16, 16), "cube": (4, 8, 16), "vector": (16,), "scalar": ()}
SPECS = {
    "square": P("data", "model"),
    "twin": P(None, "model"),
    "cube": P(None, "data"),
    "vector": P("model"),
    "scalar": P(),
}
KINDS = {"automatic": AxisType.Auto, "explicit": AxisType.Explicit}


def values(seed: int = 0, shapes: Any = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in (shapes or SHAPES).items()}


def structs(dtype: Any = np.float32) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in SHAPES.items()}


def mesh_of_two(kind: AxisType = AxisType.Auto) -> Any:
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))


def by_path(tree: Any) -> dict[str, Any]:
    return {gradtx._rules.path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def padded(spec: Any, ndim: int) -> tuple[Any, ...]:
    return (*spec, *[None] * (ndim - len(spec)))


def test_moments_have_their_parameters_specs() -> None:
    found = by_path(gradtx.state_specs(gradtx.adamw(1e-3), structs(), SPECS))
    for moment in ("mu", "nu"):
        assert {name: found[f"0/{moment}/{name}"] for name in SHAPES} == SPECS
    assert found["0/count"] == P()


def test_a_memory_has_an_axis_in_front() -> None:
    found = by_path(gradtx.state_specs(gradtx.scale_by_lbfgs(3), structs(), SPECS))
    for name, spec in SPECS.items():
        if name != "scalar":
            assert padded(found[f"diff_params_memory/{name}"], 4) == padded((None, *spec), 4)
    assert found["weights_memory"] == P()


def test_a_factored_moment_has_what_is_left() -> None:
    """Both factors of a square have one shape: which axis each has lost is seen from `init` alone."""
    tx = optax.scale_by_factored_rms(min_dim_size_to_factor=8)
    found = by_path(gradtx.state_specs(tx, structs(), SPECS))
    assert found["v_row/square"] == P("data")
    assert found["v_col/square"] == P("model")
    assert found["v_row/twin"] == P()
    assert found["v_col/twin"] == P("model")
    assert found["v_row/cube"] == P(None, "data")
    assert found["v_col/cube"] == P()
    assert found["v/vector"] == P("model")
    assert found["v/square"] == P()  # of one entry


def test_the_factors_of_a_square_are_those_of_the_update() -> None:
    """Where the rows' mean changes with a row of the gradient, the leaf has the rows' axis."""
    tx: Any = optax.scale_by_factored_rms(min_dim_size_to_factor=8)
    params = {"square": jnp.ones((16, 16))}
    grads = {"square": jnp.ones((16, 16)).at[3].set(5.0)}
    _, state = tx.update(grads, tx.init(params), params)
    assert np.ptp(state.v_row["square"]) > 0
    assert np.ptp(state.v_col["square"]) == 0


def test_what_is_flattened_belongs_to_no_parameter() -> None:
    found = gradtx.state_specs(optax.flatten(optax.adam(1e-3)), structs(), SPECS)
    assert set(jax.tree.leaves(found)) == {P()}


def test_groups_and_masks() -> None:
    labels = {name: "a" if name in ("square", "vector") else "b" for name in SHAPES}
    grouped = optax.multi_transform({"a": gradtx.adam(1e-3), "b": optax.set_to_zero()}, labels)
    found = by_path(gradtx.state_specs(grouped, structs(), SPECS))
    assert {path: spec for path, spec in found.items() if "mu" in path} == {
        "inner_states/a/inner_state/0/mu/square": SPECS["square"],
        "inner_states/a/inner_state/0/mu/vector": SPECS["vector"],
    }
    params = structs() | {"twin": None}
    found = by_path(gradtx.state_specs(gradtx.adam(1e-3), params, SPECS))
    assert "0/mu/twin" not in found
    assert found["0/mu/square"] == SPECS["square"]


class BlocksState(NamedTuple):
    codes: Any
    scales: Any
    grams: Any


class in_blocks(gradtx.GradientTransformation):
    """Keeps each parameter as rows of 16, one number a row, and a matrix of its first axis squared."""

    least: int = 0

    def init(self, params: Any) -> BlocksState:
        def keep(leaf: Any) -> bool:
            return leaf.size >= self.least and leaf.ndim > 0

        def codes(leaf: Any) -> Any:
            return jnp.zeros((-(-leaf.size // 16), 16), jnp.int8) if keep(leaf) else jnp.zeros(leaf.shape)

        def scales(leaf: Any) -> Any:
            return jnp.zeros(-(-leaf.size // 16)) if keep(leaf) else jnp.zeros(())

        def grams(leaf: Any) -> Any:
            return jnp.zeros((leaf.shape[0], leaf.shape[0])) if leaf.ndim else jnp.zeros(())

        return BlocksState(*(jax.tree.map(one, params) for one in (codes, scales, grams)))

    def update(self, updates: Any, state: BlocksState, params: Any = None) -> Any:
        return updates, state


def test_blocks_get_the_mesh_axes_that_divide_them() -> None:
    found = by_path(gradtx.state_specs(in_blocks(), structs(), SPECS, mesh=mesh_of_two()))
    assert found["codes/square"] == P(("data", "model"))
    assert found["scales/square"] == P(("data", "model"))
    assert found["codes/twin"] == P("model")
    assert found["codes/vector"] == P()  # a single block
    # Without a mesh nothing is known to divide them.
    assert by_path(gradtx.state_specs(in_blocks(), structs(), SPECS))["codes/square"] == P()


def test_of_a_square_factor_one_axis_is_sharded() -> None:
    assert by_path(gradtx.state_specs(in_blocks(), structs(), SPECS))["grams/square"] == P("data")


@pytest.mark.parametrize("least", [16, 17, 256, 257, 512, 513])
def test_limits_on_sizes_are_not_crossed(least: int) -> None:
    """Whether a leaf is kept in blocks depends on its size: a probe that changes that is another one's answer."""
    found = by_path(gradtx.state_specs(in_blocks(least), structs(), SPECS, mesh=mesh_of_two()))
    assert found["codes/square"] == (P("data", "model") if least > 256 else P(("data", "model")))
    assert found["codes/vector"] == (P("model") if least > 16 else P())


def test_an_init_that_takes_one_size_alone_is_refused() -> None:
    def init(params: Any) -> Any:
        assert params["square"].shape == (16, 16)
        return jnp.zeros((16, 16))

    with pytest.raises(
        ValueError, match=r"init makes another state whenever the shape of params\['square'\], \(16, 16\)"
    ):
        gradtx.state_specs(gradtx.GradientTransformation(init, optax.identity().update), structs(), SPECS)


@pytest.mark.parametrize("kind", KINDS)
def test_specs_are_read_off_parameters_and_used_by_jit(kind: str) -> None:
    mesh = mesh_of_two(KINDS[kind])
    params = jax.tree.map(lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), values(), SPECS)
    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.lbfgs(memory_size=2))
    wanted = gradtx.state_structs(tx, params)
    state = jax.jit(tx.init, out_shardings=jax.tree.map(lambda s: s.sharding, wanted))(params)
    assert jax.tree.structure(state) == jax.tree.structure(wanted)
    for leaf, struct in zip(jax.tree.leaves(state), jax.tree.leaves(wanted), strict=True):
        assert leaf.sharding.is_equivalent_to(struct.sharding, leaf.ndim)
        assert (leaf.shape, leaf.dtype) == (struct.shape, struct.dtype)
    with jax.set_mesh(mesh):
        again = jax.jit(tx.init, out_shardings=gradtx.state_specs(tx, params))(params)
    assert jax.tree.map(lambda x: x.sharding.spec, again) == jax.tree.map(lambda x: x.sharding.spec, state)


WRAPPERS = {
    "partition": lambda tx: gradtx.partition({"square": tx, "*": gradtx.sgd(0.1)}),
    "accumulate": lambda tx: gradtx.accumulate(tx, 4),
    "guard": gradtx.guard,
    "average": gradtx.average,
    "master_weights": gradtx.master_weights,
    "observe": gradtx.observe,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_every_leaf_of_a_wrapped_state_that_is_like_a_parameter_lies_like_it(name: str) -> None:
    params = structs(jnp.bfloat16)
    tx = WRAPPERS[name](gradtx.adam(0.1))
    found, state = (by_path(tree) for tree in (gradtx.state_specs(tx, params, SPECS), jax.eval_shape(tx.init, params)))
    like = {path: path.rpartition("/")[2] for path in state if path.rpartition("/")[2] in SHAPES}
    assert len(like) >= 2
    assert all(state[path].shape == SHAPES[own] for path, own in like.items())
    assert {path: found[path] for path in like} == {path: SPECS[own] for path, own in like.items()}
    assert all(spec == P() for path, spec in found.items() if path not in like)


def test_codes_and_scales_of_quantized_leaves() -> None:
    """Codes lie as their leaf; scales as the blocks follow its axes, of which the last is within a block."""
    params = {
        "wide": jax.ShapeDtypeStruct((4096, 256), np.float32),
        "tall": jax.ShapeDtypeStruct((8192, 128), np.float32),
    }
    tx, mesh = gradtx.quantize_state(gradtx.trace(0.9)), mesh_of_two()
    found = by_path(gradtx.state_specs(tx, params, P("data", "model"), mesh=mesh))
    for name in params:
        assert found[f"inner_state/trace/{name}/codes"] == P("data", "model")
        assert found[f"inner_state/trace/{name}/scales"] == P("data")


def test_blocks_whose_last_is_not_full() -> None:
    """An entry more changes nothing then, twice and three times as many do."""
    params = {"long": jax.ShapeDtypeStruct((8190,), np.float32)}
    found = by_path(gradtx.state_specs(in_blocks(), params, P("data"), mesh=mesh_of_two()))
    assert found["codes/long"] == P("data")


REFUSED = {
    "no mesh": (lambda: gradtx.state_structs(gradtx.adam(1e-3), structs()), ValueError, "lie on no mesh, and none"),
    "no specs": (
        lambda: gradtx.state_specs(gradtx.adam(1e-3), structs(), dict.fromkeys(SHAPES, "data")),
        TypeError,
        "specs at cube must be a PartitionSpec, got 'data'",
    ),
    "another tree": (
        lambda: gradtx.state_specs(gradtx.adam(1e-3), structs(), {"other": P()}),
        ValueError,
        "specs must be PartitionSpecs like the parameters",
    ),
    "too long": (
        lambda: gradtx.state_specs(gradtx.adam(1e-3), structs(), P(None, "data")),
        ValueError,
        r"the spec at scalar is .*, longer than the parameter's shape, \(\)",
    ),
    "no transformation": (lambda: gradtx.state_specs(1.0, structs()), TypeError, "takes a transformation, got 1.0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_came(case: str) -> None:
    call, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        call()
