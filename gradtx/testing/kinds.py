"""What `init` and `update` return: structures, shapes, dtypes, buffers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import GradientTransformation
from .._core.data import layout
from .._core.paths import children, walk
from .._core.schedule import Schedule
from .._types import OptState
from .case import Case, law, names_path, works
from .compare import LawBroken, expect_same_kind, is_float
from .program import buffer_of
from .samples import huge, scaled


@law("abstract_init")
def abstract_init(case: Case) -> None:
    """`jax.eval_shape(init, structs)` works, tells the truth, and allocates nothing."""
    with works("eval_shape(init)"):
        structs = jax.tree.map(lambda p: jax.ShapeDtypeStruct(jnp.shape(p), jnp.result_type(p)), case.params)
        expect_same_kind("the state", case.tx.init(case.params), jax.eval_shape(case.tx.init, structs))
    large = huge(case.params if case.given else None)
    if large is None:
        case.note("that init allocates nothing was not tried: the parameters given are scalars")
        return
    with case.may_refuse("eval_shape(init) on arrays of 4 TiB, where something is allocated,", names_path(large)):
        jax.eval_shape(case.tx.init, large)


@law("stable_state")
def stable_state(case: Case) -> None:
    """`update` changes neither structure, shape, dtype nor weak type of the state, which is nobody else's."""
    with works("init"):
        state = case.tx.init(case.params)
    for leaf in jax.tree.leaves(state):
        if not isinstance(leaf, jax.Array):
            raise LawBroken(f"the state holds a {type(leaf).__name__}, expected arrays")
    _has_buffers_of_its_own(case, state, "init")
    with works("update"):
        _, new = case.update(case.tx, case.gradients(0), state, case.params)
        expect_same_kind("the state after an update", new, state)
        _has_buffers_of_its_own(case, new, "an update")
        _, new, _ = case.kinds(case.params, case.gradients(0))
        expect_same_kind("the state after jit(update)", new, state)
        _is_same_for_all_values(case, state)
        _counts_stay(case, state)
    if not jax.tree.leaves(state):
        case.note("holds vacuously: the state has no leaves")


def _has_buffers_of_its_own(case: Case, state: OptState, maker: str) -> None:
    """No array is in two places, since `donate_argnums` gives each buffer away once."""
    places: dict[int, str] = {}
    if maker == "init":
        for path, leaf in jax.tree.leaves_with_path(case.params):
            if isinstance(leaf, jax.Array) and (buffer := buffer_of(leaf)) is not None:
                places[buffer] = f"params{jax.tree_util.keystr(path)}"
    for path, leaf in jax.tree.leaves_with_path(state):
        where, buffer = f"the state at {jax.tree_util.keystr(path) or 'its root'}", buffer_of(leaf)
        if buffer is not None and buffer in places:
            raise LawBroken(
                f"{where} of {maker} is the very array of {places[buffer]}, so that the two cannot be donated "
                "(jax.jit with donate_argnums): make a copy, with jnp.copy"
            )
        if buffer is not None:
            places[buffer] = where


def _is_same_for_all_values(case: Case, state: OptState) -> None:
    """The state's kind depends neither on a number, 0 included, nor on whether it is a schedule."""
    others = {
        f"hyperparameters times {share}": jax.tree.map(lambda x, s=share: x * s if is_float(x) else x, case.tx)
        for share in (0.0, 0.5)
    }
    for path, tx in _with_schedules(case.tx):
        others[f"a schedule for {path}"] = tx
    for name, tx in others.items():
        expect_same_kind(f"the state with {name}", jax.eval_shape(tx.init, case.params), state)


def _with_schedules(tx: GradientTransformation) -> list[tuple[str, GradientTransformation]]:
    """The transformation with a constant schedule in place of each number that may be one."""
    from .._schedules.basic import constant_schedule

    found = []
    for path, value in [((), tx), *walk(tx)]:
        if isinstance(value, GradientTransformation):
            for field in layout(type(value)).fields:
                number = children(value).get(field.name)
                if (
                    Schedule in field.spec.nodes
                    and isinstance(number, (int, float, np.ndarray, jax.Array))
                    and np.ndim(number) == 0
                ):
                    name = ".".join((*path, field.name))
                    found.append((name, tx.replace(**{name: constant_schedule(number)})))
    return found


def _counts_stay(case: Case, state: OptState) -> None:
    """A count of updates is at least 32 bits wide, and stays at its largest value."""
    leaves, structure = jax.tree.flatten(state)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(state)]

    def after(values: dict[int, int], size: float = 1.0) -> list[jax.Array]:
        changed = [jnp.asarray(values[i], leaf.dtype) if i in values else leaf for i, leaf in enumerate(leaves)]
        grads = scaled(case.gradients(0), size)
        return jax.tree.leaves(case.jitted(case.tx, case.params, structure.unflatten(changed), grads)[1])

    # What counts something else, such as the evaluations of a search, does not grow by one without a gradient.
    grown = zip(leaves, after({}), after({}, 0.0), strict=True)
    counts = [i for i, (old, *new) in enumerate(grown) if _is_count(old) and all(int(n) - int(old) == 1 for n in new)]
    if not counts:
        return
    largest = {i: int(jnp.iinfo(leaves[i].dtype).max) for i in counts}
    before, at = after({i: value - 1 for i, value in largest.items()}), after(largest)
    for i in counts:
        # What goes round on purpose (the place in a ring buffer) never comes to the largest value.
        if int(before[i]) != largest[i]:
            continue
        if int(at[i]) != largest[i]:
            raise LawBroken(
                f"the count at {paths[i]} wraps: after {largest[i]} comes {int(at[i])}; use gradtx.safe_increment"
            )
        if leaves[i].dtype.itemsize < 4:
            raise LawBroken(f"the count at {paths[i]} is {leaves[i].dtype} and stops at {largest[i]}; use int32")


def _is_count(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.ndim == 0


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
