"""Laws 8 and 9: half, double and complex precision; shardings."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from .._core.apply import apply_updates
from .case import STEPS, Case, LawBroken, expect_close, expect_same_kind, ramp, sample_params
from .laws import works


def precision(case: Case, refuses: tuple[str, ...]) -> None:
    """8. Accumulators and arithmetic in float32 for half precision; no NaN from zeros; 64 bits and complex work."""
    for dtype in (jnp.bfloat16, jnp.float16):
        _half(case, dtype)
    _dead_coordinate(case)
    for name in ("float64", "complex64", "complex128"):
        with jax.enable_x64(name.endswith(("64", "128")) and name != "complex64"):
            if name in refuses or (name.startswith("complex") and "complex" in refuses):
                _refused(case, np.dtype(name))
            else:
                _accepted(case, np.dtype(name))


LAW = "precision"


def _half(case: Case, dtype: Any) -> None:
    name = np.dtype(dtype).name
    params = sample_params(dtype)
    with works(LAW, f"{name} parameters"):
        state = case.tx.init(params)
        for path, leaf in jax.tree.leaves_with_path(state):
            if jnp.issubdtype(leaf.dtype, jnp.inexact) and leaf.dtype.itemsize < 4:
                raise LawBroken(LAW, f"the state for {name} has {leaf.dtype} at {jax.tree_util.keystr(path)}")
        grads = case.gradients(0, params)
        step = jax.jit(case.step)
        updates, new, _ = step(case.tx, params, state, grads)
        expect_same_kind(LAW, f"the updates for {name}", updates, grads)
        expect_same_kind(LAW, f"the state for {name}", new, state)
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).astype(np.float32)), (params, grads))
        exact, _, _ = step(case.tx, wide[0], case.tx.init(wide[0]), wide[1])
        # One rounding of the exact result, and a half of one for a tie that falls the other way.
        expect_close(LAW, f"the update in {name}, against float32,", updates, exact, 1.5 * float(jnp.finfo(dtype).eps))
        for what, tree in zip(
            ("updates", "state", "parameters"), case.run(case.tx, params, step=step, zero=True), strict=True
        ):
            _finite(f"the {what} after zero gradients in {name}", tree)


def _dead_coordinate(case: Case) -> None:
    """Hypergradients stay finite though one coordinate never has a gradient."""
    if not jax.tree.leaves(case.tx):
        return
    params = {"dead": jnp.zeros((2,)), "w": ramp((3,), np.float32)}

    def loss(tx: Any) -> jax.Array:
        state, now = tx.init(params), params
        for step in range(STEPS):
            grads = {"dead": jnp.zeros((2,)), "w": case.gradients(step, now["w"])}
            updates, state = case.update(tx, grads, state, now)
            now = apply_updates(now, updates)
        return sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(now)), start=jnp.zeros([]))

    with works(LAW, "a hypergradient"):
        arrays = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float32)), case.tx)
        _finite("the hypergradient with a coordinate whose gradient is always zero", jax.jit(jax.grad(loss))(arrays))


def _accepted(case: Case, dtype: np.dtype) -> None:
    params = sample_params(dtype)
    with works(LAW, f"{dtype} parameters (if they are refused on purpose, say so with `refuses`)"):
        grads = case.gradients(0, params)
        state = case.tx.init(params)
        updates, new, _ = jax.jit(case.step)(case.tx, params, state, grads)
        expect_same_kind(LAW, f"the updates for {dtype}", updates, grads)
        expect_same_kind(LAW, f"the state for {dtype}", new, state)
        _finite(f"the updates for {dtype}", updates)


def _refused(case: Case, dtype: np.dtype) -> None:
    params = sample_params(dtype)
    try:
        case.kinds(params, case.gradients(0, params))
    except (TypeError, ValueError) as error:
        if dtype.kind == "c" and "complex" not in str(error):
            raise LawBroken(LAW, f"{dtype} is refused, but not by name: {error}") from error
        return
    raise LawBroken(LAW, f"{dtype} should be refused and is not")


def _finite(what: str, tree: Any) -> None:
    for path, leaf in jax.tree.leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.all(np.isfinite(np.asarray(leaf).astype(np.complex128))):
            raise LawBroken(LAW, f"{what} are not finite at {jax.tree_util.keystr(path)}")


def sharding(case: Case) -> None:
    """9. The state is sharded as its parameter, on meshes with automatic and with explicit axes, and stays so."""
    for kind in (AxisType.Auto, AxisType.Explicit):
        _sharded(case, kind)


def _sharded(case: Case, kind: AxisType) -> None:
    law = "sharding"
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("x",), axis_types=(kind,))
    # Shapes that nothing else has, so that a state leaf tells by its shape whose it is.
    specs = {
        (2 * devices, 5): PartitionSpec("x", None),
        (7, 3 * devices): PartitionSpec(None, "x"),
        (11,): PartitionSpec(),
    }
    params = {
        str(i): jax.device_put(ramp(shape, np.float32), NamedSharding(mesh, spec))
        for i, (shape, spec) in enumerate(specs.items())
    }

    def check(what: str, tree: Any) -> None:
        for path, leaf in jax.tree.leaves_with_path(tree):
            if leaf.shape in specs:
                wanted = NamedSharding(mesh, specs[leaf.shape])
                if not leaf.sharding.is_equivalent_to(wanted, leaf.ndim):
                    where = f"{what} at {jax.tree_util.keystr(path)}, on a mesh of {kind.name} axes,"
                    raise LawBroken(law, f"{where} is sharded {leaf.sharding}, expected {wanted.spec}")

    with works(law, f"a step on a mesh of {kind.name} axes"), jax.set_mesh(mesh):
        state = case.tx.init(params)
        check("the state", state)
        grads = jax.tree.map(lambda g, p: jax.device_put(g, p.sharding), case.gradients(0, params), params)
        _, new = case.update(case.tx, grads, state, params)
        check("the state after an update", new)
        _, new = jax.jit(case.update)(case.tx, grads, state, params)
        check("the state after jit(update)", new)
        if kind is AxisType.Explicit:
            check("the state of jit(init)", jax.jit(case.tx.init)(params))
