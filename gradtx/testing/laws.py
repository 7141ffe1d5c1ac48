"""What an update may do to values, structures and traces."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.apply import apply_updates
from .._core.contract import GradientTransformation
from .._core.types import OptState, Params, Updates
from .case import STEPS, Case, LawBroken, Step, expect_close, expect_same_kind, is_float, law, ramp, works


def varied(tx: GradientTransformation, share: float) -> GradientTransformation:
    """The same transformation with other hyperparameters: each number times `share`, so that decays stay decays.

    Integers and random keys, typed or raw, stay what they are.
    """
    return jax.tree.map(lambda leaf: leaf * share if is_float(leaf) else leaf, tx)


def _counted(case: Case) -> tuple[Step, list[int]]:
    """A jitted training step, and a list that grows with each trace."""
    traces: list[int] = []

    @jax.jit
    def step(*args: Any) -> tuple[Updates, OptState, Params]:
        traces.append(1)
        return case.step(*args)

    return step, traces


@law("pure")
def pure(case: Case) -> None:
    """The same call gives the same; jit equals eager, vmap over hyperparameters a loop, scan the steps."""
    with works("an update"):
        first, again = case.run(case.tx), case.run(case.tx)
        expect_close("a second identical run", again, first, rtol=0.0, atol=0.0)
    with works("jit(update)"):
        step, _ = _counted(case)
        case.expect_close("jit(update)", case.run(case.tx, step=step), first)
        case.expect_close("a second run of jit(update)", case.run(case.tx, step=step), first)
    with works("scan over update"):
        case.expect_close("scan over update", _scanned(case, case.tx), first[1:])
    if not jax.tree.leaves(case.tx):
        return
    with works("vmap over hyperparameters"):
        lanes = [case.tx, varied(case.tx, 0.75)]
        # Leaves of one kind: Python numbers become arrays, as vmap needs them.
        stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *lanes)
        batched = jax.jit(jax.vmap(lambda tx: _scanned(case, tx)))(stacked)
        for i, lane in enumerate(lanes):
            one = jax.tree.map(lambda leaf, i=i: leaf[i], batched)
            # jit(update), which was found to be the update: without jit each loop in it would be compiled anew.
            case.expect_close(f"lane {i} of vmap over hyperparameters", one, case.run(lane, step=step)[1:])


def _scanned(case: Case, tx: GradientTransformation) -> tuple[OptState, Params]:
    def body(carry: tuple[OptState, Params], grads: Updates) -> tuple[tuple[OptState, Params], None]:
        state, params = carry
        updates, state = case.update(tx, grads, state, params)
        return (state, apply_updates(params, updates)), None

    grads = jax.tree.map(lambda *steps: jnp.stack(steps), *map(case.gradients, range(STEPS)))
    return jax.lax.scan(body, (tx.init(case.params), case.params), grads)[0]


@law("abstract_init")
def abstract_init(case: Case) -> None:
    """`jax.eval_shape(init, structs)` works, tells the truth, and allocates nothing."""
    with works("eval_shape(init)"):
        structs = jax.tree.map(lambda p: jax.ShapeDtypeStruct(jnp.shape(p), jnp.result_type(p)), case.params)
        expect_same_kind("the state", case.tx.init(case.params), jax.eval_shape(case.tx.init, structs))
    with works("eval_shape(init) on an array of 4 TiB, which allocates"):
        # So large that whatever is really allocated for it cannot be.
        jax.eval_shape(case.tx.init, {"huge": jax.ShapeDtypeStruct((1 << 20, 1 << 20), np.float32)})


@law("stable_state")
def stable_state(case: Case) -> None:
    """`update` changes neither structure, shape, dtype nor weak type of the state."""
    with works("init"):
        state = case.tx.init(case.params)
    for leaf in jax.tree.leaves(state):
        if not isinstance(leaf, jax.Array):
            raise LawBroken(f"the state holds a {type(leaf).__name__}, expected arrays")
    with works("update"):
        _, new = case.update(case.tx, case.gradients(0), state, case.params)
        expect_same_kind("the state after an update", new, state)
        _, new, _ = case.kinds(case.params, case.gradients(0))
        expect_same_kind("the state after jit(update)", new, state)


@law("same_updates")
def same_updates(case: Case) -> None:
    """Updates come back with the structure, shapes and dtypes that went in."""
    for dtype in (None, jnp.bfloat16, jnp.float16):
        grads = case.gradients(0)
        if dtype is not None:
            grads = jax.tree.map(lambda g, to=dtype: g if jnp.iscomplexobj(g) else np.asarray(g).astype(to), grads)
        with works(f"an update with gradients of {dtype.__name__ if dtype else 'the parameters dtype'}"):
            updates, _, _ = case.kinds(case.params, grads)
            expect_same_kind("the updates", updates, grads)


@law("one_trace")
def one_trace(case: Case) -> None:
    """One trace serves all values of the hyperparameters, and all steps."""
    with works("a jitted step with hyperparameters as arguments (is a value asked in Python?)"):
        step, traces = _counted(case)
        for share in (1.0, 0.75, 0.5):
            case.run(varied(case.tx, share), step=step)
    if len(traces) != 1:
        raise LawBroken(f"{len(traces)} traces for 3 sets of hyperparameters and {STEPS} steps each, expected 1")


@law("any_tree")
def any_tree(case: Case) -> None:
    """`None` leaves pass through; empty trees, scalars and arrays of size 0 work."""
    trees = {
        "an empty tree": {},
        "a bare scalar": ramp((), np.float32),
        "an array of size 0": {"empty": jnp.zeros((0, 3))},
        "a None leaf": {"none": None, "w": ramp((2,), np.float32)},
    }
    for name, params in trees.items():
        with works(f"an update of {name}"):
            updates, new, state = case.kinds(params, case.gradients(0, params))
            expect_same_kind(f"the update of {name}", updates, params)
            expect_same_kind(f"the state for {name}", new, state)


@law("nothing_broadcast")
def nothing_broadcast(case: Case) -> None:
    """A wrong structure or shape is an error that names the path, or passes unchanged; nothing is broadcast."""
    params = {"left": ramp((3,), np.float32), "right": ramp((2, 3), np.float32, 0.5)}
    wrong = {
        "a leaf of a shape that would broadcast": {**params, "right": ramp((1, 3), np.float32)},
        "a leaf of another rank": {**params, "right": ramp((3,), np.float32)},
        "a leaf more": {**params, "surplus": ramp((3,), np.float32)},
        "a leaf less": {"left": params["left"]},
    }
    for name, grads in wrong.items():
        path = "surplus" if "surplus" in grads else "right"
        try:
            updates, new, state = case.kinds(params, grads)
        except (ValueError, TypeError) as error:
            if path not in str(error):
                raise LawBroken(f"updates with {name}: the error does not name the path ['{path}']: {error}") from error
            continue
        # What holds nothing to compare with has to hand on what came.
        expect_same_kind(f"the updates that came with {name}", updates, grads)
        expect_same_kind(f"the state after updates with {name}", new, state)
