"""Where the state lives on a mesh of devices."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from .._core.types import PyTree
from .case import Case, LawBroken, law, ramp, works


@law("sharding")
def sharding(case: Case) -> None:
    """The state is sharded as its parameter, on meshes with automatic and with explicit axes, and stays so."""
    for kind in (AxisType.Auto, AxisType.Explicit):
        _sharded(case, kind)


def _sharded(case: Case, kind: AxisType) -> None:
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("x",), axis_types=(kind,))
    # Shapes that nothing else has, so that a state leaf tells by its shape whose it is.
    specs = {
        (devices, 5): PartitionSpec("x", None),
        (7, devices): PartitionSpec(None, "x"),
        (11,): PartitionSpec(),
    }
    params = {
        str(i): jax.device_put(ramp(shape, np.float32), NamedSharding(mesh, spec))
        for i, (shape, spec) in enumerate(specs.items())
    }

    def check(what: str, tree: PyTree) -> None:
        for path, leaf in jax.tree.leaves_with_path(tree):
            if leaf.shape in specs:
                expected = NamedSharding(mesh, specs[leaf.shape])
                if not leaf.sharding.is_equivalent_to(expected, leaf.ndim):
                    where = f"{what} at {jax.tree_util.keystr(path)}, on a mesh of {kind.name} axes,"
                    raise LawBroken(f"{where} is sharded {leaf.sharding}, expected {expected.spec}")

    with works(f"a step on a mesh of {kind.name} axes"), jax.set_mesh(mesh):
        state = case.tx.init(params)
        check("the state", state)
        grads = jax.tree.map(lambda g, p: jax.device_put(g, p.sharding), case.gradients(0, params), params)
        _, new = case.update(case.tx, grads, state, params)
        check("the state after an update", new)
        _, new = jax.jit(case.update)(case.tx, grads, state, params)
        check("the state after jit(update)", new)
        if kind is AxisType.Explicit:
            check("the state of jit(init)", jax.jit(case.tx.init)(params))
