"""Laws 1 to 7 and the sign: what an update may do to values, structures and traces."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.apply import apply_updates
from .._core.transformation import current
from .case import STEPS, Case, LawBroken, expect_close, expect_same_kind, ramp


@contextlib.contextmanager
def works(law: str, doing: str) -> Iterator[None]:
    """An exception in here breaks the law."""
    try:
        yield
    except LawBroken:
        raise
    except Exception as error:
        raise LawBroken(law, f"{doing} raised {type(error).__name__}: {error}") from error


def varied(tx: Any, share: float) -> Any:
    """The same transformation with other hyperparameters: each number times `share`, so that decays stay decays."""
    return jax.tree.map(lambda leaf: leaf * share, tx)


def _counted(case: Case) -> tuple[Callable[..., Any], list[int]]:
    """A jitted training step, and a list that grows with each trace."""
    traces: list[int] = []

    @jax.jit
    def step(*args: Any) -> tuple[Any, Any, Any]:
        traces.append(1)
        return case.step(*args)

    return step, traces


def pure(case: Case) -> None:
    """1. jit equals eager, vmap over hyperparameters a loop, scan the steps; and the same call gives the same."""
    law = "pure"
    with works(law, "an update"):
        first, again = case.run(case.tx), case.run(case.tx)
        expect_close(law, "a second identical run", again, first, rtol=0.0, atol=0.0)
    with works(law, "jit(update)"):
        step, _ = _counted(case)
        expect_close(law, "jit(update)", case.run(case.tx, step=step), first)
        expect_close(law, "a second run of jit(update)", case.run(case.tx, step=step), first)
    with works(law, "scan over update"):
        expect_close(law, "scan over update", _scanned(case, case.tx), first[1:])
    if not jax.tree.leaves(case.tx):
        return
    with works(law, "vmap over hyperparameters"):
        lanes = [case.tx, varied(case.tx, 0.75)]
        # Leaves of one kind: Python numbers become arrays, as vmap needs them.
        stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *lanes)
        batched = jax.device_get(jax.jit(jax.vmap(lambda tx: _scanned(case, tx)))(stacked))
        for i, lane in enumerate(lanes):
            one = jax.tree.map(lambda leaf, i=i: leaf[i], batched)
            # jit(update), which was found to be the update: without jit each loop in it would be compiled anew.
            expect_close(law, f"lane {i} of vmap over hyperparameters", one, case.run(lane, step=step)[1:])


def _scanned(case: Case, tx: Any) -> tuple[Any, Any]:
    def body(carry: Any, grads: Any) -> tuple[Any, None]:
        state, params = carry
        updates, state = case.update(tx, grads, state, params)
        return (state, apply_updates(params, updates)), None

    grads = jax.tree.map(lambda *steps: jnp.stack(steps), *map(case.gradients, range(STEPS)))
    return jax.lax.scan(body, (tx.init(case.params), case.params), grads)[0]


def abstract_init(case: Case) -> None:
    """2. `jax.eval_shape(init, structs)` works, tells the truth, and allocates nothing."""
    law = "abstract_init"
    with works(law, "eval_shape(init)"):
        structs = jax.tree.map(lambda p: jax.ShapeDtypeStruct(jnp.shape(p), jnp.result_type(p)), case.params)
        expect_same_kind(law, "the state", case.tx.init(case.params), jax.eval_shape(case.tx.init, structs))
    with works(law, "eval_shape(init) on an array of 4 TiB, which allocates"):
        # So large that whatever is really allocated for it cannot be.
        jax.eval_shape(case.tx.init, {"huge": jax.ShapeDtypeStruct((1 << 20, 1 << 20), np.float32)})


def stable_state(case: Case) -> None:
    """3. `update` changes neither structure, shape, dtype nor weak type of the state."""
    law = "stable_state"
    with works(law, "init"):
        state = case.tx.init(case.params)
    for leaf in jax.tree.leaves(state):
        if not isinstance(leaf, jax.Array):
            raise LawBroken(law, f"the state holds a {type(leaf).__name__}, expected arrays")
    with works(law, "update"):
        _, new = case.update(case.tx, case.gradients(0), state, case.params)
        expect_same_kind(law, "the state after an update", new, state)
        _, new, _ = case.kinds(case.params, case.gradients(0))
        expect_same_kind(law, "the state after jit(update)", new, state)


def same_updates(case: Case) -> None:
    """4. Updates come back with the structure, shapes and dtypes that went in."""
    law = "same_updates"
    for dtype in (None, jnp.bfloat16, jnp.float16):
        grads = case.gradients(0)
        if dtype is not None:
            grads = jax.tree.map(lambda g, to=dtype: g if jnp.iscomplexobj(g) else np.asarray(g).astype(to), grads)
        with works(law, f"an update with gradients of {dtype.__name__ if dtype else 'the parameters dtype'}"):
            updates, _, _ = case.kinds(case.params, grads)
            expect_same_kind(law, "the updates", updates, grads)


def one_trace(case: Case) -> None:
    """5. One trace serves all values of the hyperparameters, and all steps."""
    law = "one_trace"
    with works(law, "a jitted step with hyperparameters as arguments (is a value asked in Python?)"):
        step, traces = _counted(case)
        for share in (1.0, 0.75, 0.5):
            case.run(varied(case.tx, share), step=step)
    if len(traces) != 1:
        raise LawBroken(law, f"{len(traces)} traces for 3 sets of hyperparameters and {STEPS} steps each, expected 1")


def any_tree(case: Case) -> None:
    """6. `None` leaves pass through; empty trees, scalars and arrays of size 0 work."""
    law = "any_tree"
    trees = {
        "an empty tree": {},
        "a bare scalar": ramp((), np.float32),
        "an array of size 0": {"empty": jnp.zeros((0, 3))},
        "a None leaf": {"none": None, "w": ramp((2,), np.float32)},
    }
    for name, params in trees.items():
        with works(law, f"an update of {name}"):
            updates, new, state = case.kinds(params, case.gradients(0, params))
            expect_same_kind(law, f"the update of {name}", updates, params)
            expect_same_kind(law, f"the state for {name}", new, state)


def nothing_broadcast(case: Case) -> None:
    """7. A wrong structure or shape is an error that names the path, or passes unchanged; nothing is broadcast."""
    law = "nothing_broadcast"
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
                raise LawBroken(
                    law, f"updates with {name}: the error does not name the path ['{path}']: {error}"
                ) from error
            continue
        # What holds nothing to compare with has to hand on what came.
        expect_same_kind(law, f"the updates that came with {name}", updates, grads)
        expect_same_kind(law, f"the state after updates with {name}", new, state)


def keeps_sign(case: Case, sign: str) -> None:
    """The update points along the gradient; against it if there is a learning rate. `sign` says which, or 'auto'."""
    law = "sign"
    if sign == "any":
        return
    params = {"w": ramp((4, 3), np.float32)}
    state = case.tx.init(params)
    flips = sign == "flips" or (sign == "auto" and "learning_rate" in current(case.tx, state))
    grads = case.gradients(0, params)
    updates, _ = case.update(case.tx, grads, state, jax.tree.map(jnp.zeros_like, params))
    along = float(jnp.sum(updates["w"] * grads["w"]))
    if along * (-1 if flips else 1) < 0:
        way = "along the gradient though it has a learning rate" if flips else "against the gradient"
        raise LawBroken(law, f"the first update points {way}; only scale_by_learning_rate flips the sign")
