"""Half precision, and what stays finite."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._core.contract import GradientTransformation
from .._trees.apply import apply_updates
from .._types import OptState, Params, Updates
from .case import STEPS, Case, law, works
from .compare import LawBroken, describe, expect_close, expect_finite, expect_same_kind, is_float
from .program import Counted
from .samples import cast, ramp, scaled
from .wide import wide

LARGE, SMALL = 1e5, 1e-5
"""Times an ordinary gradient: sizes that occur, and whose sixth power is a float32."""


@law("precision")
def precision(case: Case) -> None:
    """Accumulators and arithmetic in float32 for half precision; no NaN from zeros; 64 bits and complex work."""
    _stays_finite(case)
    for dtype in (jnp.bfloat16, jnp.float16):
        _half(case, dtype)
    _dead_coordinate(case)
    wide(case)


def _stays_finite(case: Case) -> None:
    with works("an update"):
        updates, state, params = case.first_run
        first = case.start(case.tx, case.params)
        expect_finite(f"the updates after {STEPS} steps", updates)
        expect_finite(f"the parameters after {STEPS} steps", params)
        expect_finite(f"the state after {STEPS} steps", state, first=first)
        for size in (LARGE, SMALL):
            state = first
            for step in range(2):
                updates, state, _ = case.jitted(case.tx, case.params, state, scaled(case.gradients(step), size))
            expect_finite(f"the updates for gradients of size {size}", updates)


def _half(case: Case, dtype: DTypeLike) -> None:
    name = np.dtype(dtype).name
    params = case.sample(dtype)
    with works(f"{name} parameters"):
        state = case.start(case.tx, params)
        _is_wide(case, name, state)
        grads = case.gradients(0, params)
        step = Counted(case.step)
        updates, new, _ = step(case.tx, params, state, grads)
        expect_same_kind(f"the updates for {name}", updates, grads)
        expect_same_kind(f"the state for {name}", new, state)
        # One rounding of the exact result, and a half of one for a tie that falls the other way.
        rtol = 1.5 * float(jnp.finfo(jnp.dtype(dtype)).eps)
        # The same parameters at each step, and the same state but for its own roundings: steps add none to another.
        full = cast(params, np.float32)
        exact_state = case.start(case.tx, full)
        for i in range(3):
            grads = case.gradients(i, params)
            exact_grads = cast(grads, np.float32)
            exact, exact_state, exact_moved = case.jitted(case.tx, full, exact_state, exact_grads)
            updates, state, moved = step(case.tx, params, state, grads)
            if _rounds_step(case.tx):
                # Rounded points, and at random up to a whole place away: the update says how far it is between them.
                expect_close(f"step {i + 1} in {name}, against float32,", moved, exact_moved, rtol=rtol, atol=2e-6)
                params, full = moved, exact_moved
                if jax.tree.structure(state) == jax.tree.structure(exact_state):
                    # What was rounded may be enlarged by the next step, which so starts at the same point in both.
                    # A state that has parameters of its own in float32 goes on from those.
                    full, exact_state = cast(moved, np.float32), jax.tree.map(_in_dtype_of, exact_state, state)
                continue
            expect_close(f"the update in {name}, against float32,", updates, exact, rtol=rtol, atol=2e-6)
        params = case.sample(dtype)
        start = case.start(case.tx, params)
        updates, new, moved = case.run(case.tx, params, step=step, zero=True)
        expect_finite(f"the updates after zero gradients in {name}", updates)
        expect_finite(f"the parameters after zero gradients in {name}", moved)
        # What is infinite at first (the error of a search that has not been) may stay so; NaN may not.
        expect_finite(f"the state after zero gradients in {name}", new, first=start)


def _in_dtype_of(known: jax.Array, leaf: jax.Array) -> jax.Array:
    return leaf.astype(known.dtype) if is_float(known) else leaf


def _rounds_step(tx: GradientTransformation) -> bool:
    """Whether it or something inside makes steps between rounded points."""
    return tx._rounds_step or any(_rounds_step(part) for _, part, _ in tx._inside(None))


def _is_wide(case: Case, name: str, state: OptState) -> None:
    """Accumulators are float32, unless an argument asked for less."""
    for path, leaf in jax.tree.leaves_with_path(state):
        if is_float(leaf) and leaf.dtype.itemsize < 4 and leaf.dtype not in case.chosen_dtypes:
            where = jax.tree_util.keystr(path)
            if not case.adapted:
                raise LawBroken(
                    f"the state for {name} has {leaf.dtype} at {where}, expected float32: use gradtx.zeros_like, or "
                    "take the dtype as an argument"
                )
            case.note(f"the adapted transformation keeps {leaf.dtype} at {where}")
    for foreign in case.adapted:
        params = case.params if foreign is case.tx else {"w": ramp((4, 3), np.float32)}
        try:
            own = jax.eval_shape(foreign.init_fn, cast(params, name))
        except Exception as error:
            case.note(
                f"{foreign!r} by itself does not take {name} ({type(error).__name__}); the adapter makes it float32"
            )
            continue
        for path, leaf in jax.tree.leaves_with_path(own):
            if is_float(leaf) and leaf.dtype.itemsize < 4:
                case.note(
                    f"{foreign!r} by itself has {describe(leaf)} at {jax.tree_util.keystr(path)} for {name} params; "
                    "the adapter widens them, so that the law is about the adapted pair"
                )
                break


def _dead_coordinate(case: Case) -> None:
    """Hypergradients stay finite though one coordinate never has a gradient."""
    leaves, structure = jax.tree.flatten(case.tx)
    numbers = [jax.device_put(np.asarray(leaf, np.float32)) if is_float(leaf) else None for leaf in leaves]
    if not jax.tree.leaves(numbers):
        case.note("that hypergradients are finite holds vacuously: no hyperparameter is a number among the leaves")
        return
    params = (
        case.sample(np.float32)
        if case.given
        else {"dead": jnp.zeros((2, 2), np.float32), "w": ramp((3, 2), np.float32)}
    )
    alive = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)][1:]

    def gradients(step: int) -> Updates:
        """None for the first leaf, whose parameters are zero, too; and none for the first entry of each other one."""
        return jax.tree.map_with_path(
            lambda path, g: g if jax.tree_util.keystr(path) in alive else jnp.zeros_like(g),
            case.gradients(step, params),
        )

    stacked = jax.tree.map(lambda *steps: np.stack(steps), *map(gradients, range(3)))

    def loss(numbers: list[jax.Array | None]) -> jax.Array:
        # What is no number (an integer, a random key) has no derivative.
        both = zip(numbers, leaves, strict=True)
        tx: GradientTransformation = structure.unflatten(own if own is not None else fixed for own, fixed in both)

        def step(carry: tuple[Params, OptState], grads: Updates) -> tuple[tuple[Params, OptState], None]:
            params, state = carry
            updates, state = case.update(tx, grads, state, params)
            return (apply_updates(params, updates), state), None

        (now, _), _ = jax.lax.scan(step, (params, tx.init(params)), stacked, length=3)
        return sum(
            (jnp.sum(jnp.square(jnp.abs(leaf))) for leaf in jax.tree.leaves(now)), start=jnp.zeros([], np.float32)
        )

    with works("a hypergradient"):
        slopes = Counted(jax.grad(loss))(numbers)
        slopes = structure.unflatten(slope if slope is not None else jnp.zeros([]) for slope in slopes)
        expect_finite("the hypergradient with a coordinate whose gradient is always zero", slopes)
