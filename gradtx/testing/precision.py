"""Half, double and complex precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._core.apply import apply_updates
from .._core.contract import GradientTransformation
from .._core.types import PyTree
from .case import (
    STEPS,
    Case,
    LawBroken,
    as_numbers,
    expect_close,
    expect_same_kind,
    is_float,
    law,
    ramp,
    sample_params,
    works,
)


@law("precision")
def precision(case: Case) -> None:
    """Accumulators and arithmetic in float32 for half precision; no NaN from zeros; 64 bits and complex work."""
    for dtype in (jnp.bfloat16, jnp.float16):
        _half(case, dtype)
    _dead_coordinate(case)
    for name in ("float64", "complex64", "complex128"):
        with jax.enable_x64(name.endswith(("64", "128")) and name != "complex64"):
            if name in case.refuses or (name.startswith("complex") and "complex" in case.refuses):
                _refused(case, np.dtype(name))
            else:
                _accepted(case, np.dtype(name))


def _half(case: Case, dtype: DTypeLike) -> None:
    name = np.dtype(dtype).name
    params = sample_params(dtype)
    with works(f"{name} parameters"):
        state = case.tx.init(params)
        for path, leaf in jax.tree.leaves_with_path(state):
            if is_float(leaf) and leaf.dtype.itemsize < 4:
                raise LawBroken(f"the state for {name} has {leaf.dtype} at {jax.tree_util.keystr(path)}")
        grads = case.gradients(0, params)
        step = jax.jit(case.step)
        updates, new, _ = step(case.tx, params, state, grads)
        expect_same_kind(f"the updates for {name}", updates, grads)
        expect_same_kind(f"the state for {name}", new, state)
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).astype(np.float32)), (params, grads))
        exact, _, _ = step(case.tx, wide[0], case.tx.init(wide[0]), wide[1])
        # One rounding of the exact result, and a half of one for a tie that falls the other way.
        rtol = 1.5 * float(jnp.finfo(jnp.dtype(dtype)).eps)
        expect_close(f"the update in {name}, against float32,", updates, exact, rtol=rtol, atol=2e-6)
        updates, new, moved = case.run(case.tx, params, step=step, zero=True)
        _finite(f"the updates after zero gradients in {name}", updates)
        _finite(f"the parameters after zero gradients in {name}", moved)
        # What is infinite at first (the error of a search that has not been) may stay so; NaN may not.
        _finite(f"the state after zero gradients in {name}", new, first=state)


def _dead_coordinate(case: Case) -> None:
    """Hypergradients stay finite though one coordinate never has a gradient."""
    leaves, structure = jax.tree.flatten(case.tx)
    numbers = [jnp.asarray(np.asarray(leaf, np.float32)) if is_float(leaf) else None for leaf in leaves]
    if not jax.tree.leaves(numbers):
        return
    params = {"dead": jnp.zeros((2,), np.float32), "w": ramp((3,), np.float32)}

    def loss(numbers: list[jax.Array | None]) -> jax.Array:
        # What is no number (an integer, a random key) has no derivative.
        both = zip(numbers, leaves, strict=True)
        tx: GradientTransformation = structure.unflatten(own if own is not None else fixed for own, fixed in both)
        state, now = tx.init(params), params
        for step in range(STEPS):
            grads = {"dead": jnp.zeros((2,), np.float32), "w": case.gradients(step, now["w"])}
            updates, state = case.update(tx, grads, state, now)
            now = apply_updates(now, updates)
        return sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(now)), start=jnp.zeros([], np.float32))

    with works("a hypergradient"):
        slopes = jax.jit(jax.grad(loss))(numbers)
        slopes = structure.unflatten(slope if slope is not None else jnp.zeros([]) for slope in slopes)
        _finite("the hypergradient with a coordinate whose gradient is always zero", slopes)


def _accepted(case: Case, dtype: np.dtype) -> None:
    params = sample_params(dtype)
    with works(f"{dtype} parameters (if they are refused on purpose, say so with `refuses`)"):
        grads = case.gradients(0, params)
        state = case.tx.init(params)
        updates, new, _ = jax.jit(case.step)(case.tx, params, state, grads)
        expect_same_kind(f"the updates for {dtype}", updates, grads)
        expect_same_kind(f"the state for {dtype}", new, state)
        _finite(f"the updates for {dtype}", updates)


def _refused(case: Case, dtype: np.dtype) -> None:
    params = sample_params(dtype)
    try:
        case.kinds(params, case.gradients(0, params))
    except (TypeError, ValueError) as error:
        if dtype.kind == "c" and "complex" not in str(error):
            raise LawBroken(f"{dtype} is refused, but not by name: {error}") from error
        return
    raise LawBroken(f"{dtype} should be refused and is not")


def _finite(what: str, tree: PyTree, first: PyTree = None) -> None:
    starts = jax.tree.leaves(tree if first is None else first)
    for (path, leaf), start in zip(jax.tree.leaves_with_path(tree), starts, strict=True):
        value, stays = as_numbers(leaf), first is not None and np.isinf(as_numbers(start))
        if not np.all(np.isfinite(value) | (np.isinf(value) & stays)):
            raise LawBroken(f"{what}: not finite at {jax.tree_util.keystr(path)}")
