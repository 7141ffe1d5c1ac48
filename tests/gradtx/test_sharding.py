"""On 8 virtual devices the state lies where its parameter lies, before and after jitted updates."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradtx

from . import table
from .problem import assert_close
from .table import each_varied_optimizer

SPECS = {"matrix": P("data", "model"), "vector": P("model"), "replicated": P(), "scalar": P()}
SHAPES = {"matrix": (8, 4), "vector": (6,), "replicated": (3,), "scalar": ()}


@pytest.fixture(params=["automatic", "explicit"])
def mesh(request):
    """4 x 2 devices; under the explicit mesh shardings are part of the types."""
    kind = AxisType.Auto if request.param == "automatic" else AxisType.Explicit
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
    with jax.set_mesh(mesh) if kind is AxisType.Explicit else contextlib.nullcontext():
        yield mesh


def values(seed):
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in SHAPES.items()}


def placed(mesh, tree):
    return {name: jax.device_put(leaf, NamedSharding(mesh, SPECS[name])) for name, leaf in tree.items()}


def of_parameter(path):
    """The parameter that a leaf of the state belongs to; None for a count."""
    keys = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
    return keys[-1] if keys else None


def assert_placed(mesh, tree):
    """Each leaf that belongs to a parameter is laid out as it. Returns how many there were."""
    found = 0
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = of_parameter(path)
        if name is None:
            assert leaf.shape == ()
            continue
        found += 1
        expected = NamedSharding(mesh, SPECS[name])
        assert leaf.sharding.is_equivalent_to(expected, leaf.ndim), f"{path}: {leaf.sharding}, expected {expected}"
        if AxisType.Explicit in mesh.axis_types:
            assert jax.typeof(leaf).sharding.spec == jax.typeof(placed(mesh, values(0))[name]).sharding.spec
    return found


def step(tx, grads, state, params):
    updates, state = tx.update(grads, state, params)
    return updates, state, gradtx.apply_updates(params, updates), tx.gradient_params(params, state)


@each_varied_optimizer
def test_a_step_on_a_mesh_of_two_axes(row, mesh):
    """Updates, state and parameters lie as the parameters did, and are what one device computes."""
    tx = row.make()
    params, plain = placed(mesh, values(1)), values(1)
    state = tx.init(params)
    copies = len(jax.tree.leaves(state)) // len(SHAPES)
    assert assert_placed(mesh, state) == copies * len(SHAPES)
    jitted = jax.jit(step)
    for seed in (2, 3):
        updates, state, params, ahead = jitted(tx, placed(mesh, values(seed)), state, params)
        for tree in (updates, state, params, ahead):
            assert_placed(mesh, tree)
    alone = tx.init(plain)
    for seed in (2, 3):
        moved, alone, plain, _ = step(tx, values(seed), alone, plain)
    # Elementwise, in float32: only fusion may differ.
    assert_close(jax.tree.map(np.asarray, updates), moved, 1e-6)


@pytest.mark.parametrize("mesh", ["explicit"], indirect=True)
def test_types_of_the_state_are_known_without_arrays(mesh):
    """Shardings are in the types, so `eval_shape` knows them; an automatic mesh leaves them to the compiler."""
    params = placed(mesh, values(1))
    for row in table.OPTIMIZERS:
        for path, struct in jax.tree.leaves_with_path(jax.eval_shape(row.make().init, params)):
            name = of_parameter(path)
            if name is not None:
                assert _padded(struct) == _padded(params[name])


def _padded(leaf):
    """The axis of each dimension: P() and P(None) are the same."""
    spec = tuple(leaf.sharding.spec)
    return spec + (None,) * (len(leaf.shape) - len(spec))


def test_global_norm_over_devices(mesh):
    expected = np.sqrt(sum(np.sum(leaf.astype(np.float64) ** 2) for leaf in values(4).values()))
    np.testing.assert_allclose(jax.jit(gradtx.global_norm)(placed(mesh, values(4))), expected, rtol=1e-6)
    # Beyond the range of squares, where leaves of one type are summed together.
    far = [jax.tree.map(lambda leaf: np.float32(1e30) * leaf, values(seed)) for seed in (4, 4)]
    two = jax.jit(gradtx.global_norm)([placed(mesh, tree) for tree in far])
    np.testing.assert_allclose(two, np.sqrt(2) * 1e30 * expected, rtol=1e-6)


def test_vmap_over_sharded_sweep():
    """A batch of learning rates spread over the devices: each trains its own."""
    mesh = jax.make_mesh((8,), ("sweep",), axis_types=(AxisType.Auto,))
    spread = NamedSharding(mesh, P("sweep"))
    txs = gradtx.adam(jax.device_put(jnp.geomspace(1e-3, 1e-1, 8), spread))
    params = {"w": jnp.ones((3,))}

    @jax.jit
    def run(txs):
        def one(tx):
            updates, _ = tx.update(params, tx.init(params), params)
            return updates["w"]

        return jax.vmap(one, (gradtx.batch_axes(txs),))(txs)

    updates = run(txs)
    assert updates.sharding.is_equivalent_to(NamedSharding(mesh, P("sweep", None)), 2)
    np.testing.assert_allclose(updates[:, 0], -np.geomspace(1e-3, 1e-1, 8), rtol=1e-5)
