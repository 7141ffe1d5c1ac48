"""Where the state lives on a mesh of devices."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from .._states.specs import state_specs, zeros_inside
from .._types import Params, PyTree
from .case import Case, law, works
from .compare import LawBroken
from .samples import ramp

EXPLICIT = "explicit mesh"
"""What `refuses` calls a mesh of explicit axes, whose matrices JAX does not multiply without a word."""


@law("sharding")
def sharding(case: Case) -> None:
    """The state is sharded as its parameter, on meshes with automatic and with explicit axes, and stays so."""
    if jax.device_count() == 1:
        case.note("says little with one device; JAX_NUM_CPU_DEVICES=8 in the environment makes eight of a CPU")
    _sharded(case, AxisType.Auto)
    if EXPLICIT not in case.refuses:
        _sharded(case, AxisType.Explicit)
        return
    try:
        _sharded(case, AxisType.Explicit)
    except LawBroken as broken:
        case.note(f"refuses an explicit mesh: {broken}")
        return
    raise LawBroken("an explicit mesh should be refused and is not")


def _axis(case: Case) -> str | None:
    """The mesh axis over which a `zero` shards the state, where the parameters are replicated."""
    return next((zero.axis for zero, _ in zeros_inside(case.tx, None)), None)


def _placed(case: Case, mesh: jax.sharding.Mesh) -> tuple[Params, dict[tuple[int, ...], PartitionSpec]]:
    """Parameters on the mesh, and how each shape is sharded, by which a leaf of the state tells whose it is."""
    devices, name = mesh.size, "x"
    if _axis(case):
        params = case.params if case.given else {"0": ramp((4, devices), np.float32), "1": ramp((11,), np.float32)}
        specs = {np.shape(leaf): PartitionSpec() for leaf in jax.tree.leaves(params)}
    elif not case.given:
        specs = {
            (devices, 5): PartitionSpec(name, None),
            (7, devices): PartitionSpec(None, name),
            (11,): PartitionSpec(),
        }
        params = {str(i): ramp(shape, np.float32) for i, shape in enumerate(specs)}
    else:
        params, specs = case.params, {}
        for shape in map(np.shape, jax.tree.leaves(params)):
            axes = [i for i, size in enumerate(shape) if size and size % devices == 0][:1]
            specs[shape] = PartitionSpec(*(name if i in axes else None for i in range(len(shape))))
        if not any(name in spec for spec in specs.values()):
            case.note(f"the parameters given were replicated: no axis can be divided among {devices} devices")
    return jax.tree.map(lambda p: jax.device_put(p, NamedSharding(mesh, specs[np.shape(p)])), params), specs


def _sharded(case: Case, kind: AxisType) -> None:
    mesh = jax.make_mesh((jax.device_count(),), (_axis(case) or "x",), axis_types=(kind,))
    params, specs = _placed(case, mesh)

    def check(what: str, tree: PyTree) -> None:
        paths = jax.tree.leaves_with_path(tree)
        named = jax.tree.leaves(state_specs(case.tx, params)) if _axis(case) else [None] * len(paths)
        for (path, leaf), spec in zip(paths, named, strict=True):
            # A scalar is of no parameter.
            if (leaf.shape in specs or spec is not None) and leaf.ndim:
                expected = NamedSharding(mesh, specs[leaf.shape] if spec is None else spec)
                if not leaf.sharding.is_equivalent_to(expected, leaf.ndim):
                    where = f"{what} at {jax.tree_util.keystr(path)}, on a mesh of {kind.name} axes,"
                    raise LawBroken(f"{where} is sharded {leaf.sharding}, expected {expected.spec}")

    with works(f"a step on a mesh of {kind.name} axes"), jax.set_mesh(mesh):
        state = case.tx.init(params)
        check("the state", state)
        grads = jax.tree.map(lambda g, p: jax.device_put(g, p.sharding), case.gradients(0, params), params)
        _, new = case.jitted_update(case.tx, grads, state, params)
        check("the state after jit(update)", new)
        if kind is AxisType.Explicit:
            check("the state of jit(init)", case.start(case.tx, params))
