"""Double precision and complex numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .._types import OptState, Params, PyTree, Updates
from .case import Case, names_dtype, works
from .compare import LawBroken, as_numbers, expect_close, expect_finite, expect_same_kind, is_float
from .program import Counted
from .samples import jittered, scaled

LOOKED_AT = 3
"""Steps in a run of this file."""


def wide(case: Case) -> None:
    """float64 and complex numbers work or are refused by name, with all their digits and their phase."""
    resolves(case, np.dtype(np.float32), case.sample(np.float32), case.jitted)
    for name in ("float64", "complex64", "complex128"):
        dtype = np.dtype(name)
        with jax.enable_x64(name != "complex64"):
            params = case.sample(dtype)
            if name in case.refuses or (dtype.kind == "c" and "complex" in case.refuses):
                _refused(case, dtype, params)
                continue
            with case.may_refuse(f"{name} parameters", names_dtype(dtype)):
                grads = case.gradients(0, params)
                updates, new, state = case.kinds(params, grads)
                expect_same_kind(f"the updates for {name}", updates, grads)
                expect_same_kind(f"the state for {name}", new, state)
                if dtype.itemsize == 8 and dtype.kind == "c":
                    continue  # its numbers are those of complex128
                step = Counted(case.step)
                updates, state = _run(case, params, step)
                expect_finite(f"the updates for {name}", updates)
                _has_double_state(case, params, state)
                resolves(case, dtype, params, step)
                if dtype.kind == "c":
                    _turns(case, params, step)


def _run(
    case: Case, params: Params, step: Counted, jitter: float = 0.0, turn: float | complex = 1.0
) -> tuple[Updates, OptState]:
    """Updates of a few steps, with gradients that are a little different, or everything turned."""
    params = scaled(params, turn) if turn != 1 else params
    state, updates = case.start(case.tx, params), []
    for i in range(LOOKED_AT):
        grads = case.gradients(i, params)
        grads = scaled(grads, turn) if turn != 1 else grads
        update, state, params = step(case.tx, params, state, jittered(grads, jitter) if jitter else grads)
        updates.append(update)
    return updates[-1], state


def resolves(case: Case, dtype: np.dtype, params: Params, step: Counted) -> None:
    """Updates and state are as precise as their dtype: they answer to a change of a few of its roundings.

    What has been rounded to fewer digits on the way does not, though it answers to a large change, and smoothly.
    """
    fine, coarse = 32 * float(jnp.finfo(dtype).eps), 0.1
    with works(f"an update in {dtype}"):
        base, little, one, two = (_run(case, params, step, share) for share in (0.0, fine, coarse, 2 * coarse))
        kinds = [("the update", 0, fine, 0.0, little), ("the state", 1, fine, 0.0, little)]
        if case.tx._step_owner():
            # A step to a point that the state knows is a difference of numbers of the parameters' size, and answers to
            # a change of a few roundings of theirs; so do its entries down to a sixteenth of the largest.
            longest = _largest(base[0])
            wider = fine * max(1.0, 10 * _largest(params) / longest) if longest else coarse
            kinds[0] = ("the update", 0, wider, longest / 16, _run(case, params, step, wider))
            kinds = kinds if wider < 0.1 * coarse else kinds[1:]
    for what, i, change, floor, changed in kinds:
        columns = zip(
            jax.tree.leaves_with_path(base[i]), *(jax.tree.leaves(run[i]) for run in (changed, one, two)), strict=True
        )
        for (path, leaf), *others in columns:
            if not is_float(leaf) or leaf.ndim == 0 or leaf.size < 2:
                continue
            if jnp.finfo(leaf.dtype).eps > jnp.finfo(dtype).eps:
                continue
            x, *moved = map(as_numbers, (leaf, *others))
            with np.errstate(invalid="ignore"):  # of entries that are infinite in all: places that wait for a number
                small, large, larger = (np.abs(other - x) for other in moved)
            # Entries that depend smoothly on the gradient: neither a sign, nor what a search or a limit has cut off,
            # nor a difference of which only roundings are left.
            size, noise = np.abs(x), max(floor, 16 * jnp.finfo(dtype).eps)
            smooth = (large > 0.1 * coarse * size) & (large < 10 * coarse * size) & (size > noise)
            smooth &= (larger > 1.5 * large) & (larger < 2.7 * large)
            if np.any(smooth) and not np.any(small[smooth]):
                text = (
                    f"{what} for {dtype} at {jax.tree_util.keystr(path) or 'its root'} has fewer digits than that: "
                    f"it is the same when gradients change by {change:.0e} of their size. Something is rounded on the "
                    "way"
                )
                # A narrow accumulator that was asked for rounds what is made of it.
                if all(jnp.finfo(chosen).eps <= jnp.finfo(dtype).eps for chosen in case.chosen_dtypes):
                    raise LawBroken(text)
                case.note(text)


def _largest(tree: Params) -> float:
    """The size of the largest entry."""
    return max([0.0, *(float(np.max(np.abs(as_numbers(leaf)), initial=0.0)) for leaf in jax.tree.leaves(tree))])


def _has_double_state(case: Case, params: Params, state: OptState) -> None:
    """No leaf of the state that is shaped like a parameter is narrower, unless an argument says so."""
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(params)}
    for path, leaf in jax.tree.leaves_with_path(state):
        narrow = is_float(leaf) and leaf.ndim and leaf.shape in shapes and jnp.finfo(leaf.dtype).bits < 64
        if narrow and leaf.dtype not in case.chosen_dtypes:
            text = f"the state for 64-bit parameters has {leaf.dtype} at {jax.tree_util.keystr(path)}"
            if not case.adapted:
                raise LawBroken(f"{text}: use gradtx.zeros_like, or take the dtype as an argument")
            case.note(f"{text}; what an adapted transformation was asked for cannot be seen")


def _turns(case: Case, params: Params, step: Counted) -> None:
    """Updates of i * gradients at i * params are i * updates.

    So it is for all that treats a complex number as one, by its absolute value, and for all that treats its parts
    alike, each as a real one. It is not for g * g in place of g * conj(g), nor where the imaginary part is lost.
    """
    if case.asks_for_functions:
        case.note("that updates turn with complex gradients was not tried: the functions given need not")
        return
    if case.flow.draws:
        case.note("that updates turn with complex gradients was not tried: they have random numbers in them")
        return
    straight, turned = (_run(case, params, step, turn=turn)[0] for turn in (1.0, 1j))
    # Roundings of the largest entry, as in `Case.expect_close`.
    eps = float(jnp.finfo(np.float64).eps)
    expected: PyTree = scaled(straight, 1j)
    what = "the update of i times the gradients at i times the parameters, against i times the update,"
    try:
        expect_close(what, turned, expected, rtol=170 * eps, atol=17 * eps, of_largest=True)
    except LawBroken as broken:
        raise LawBroken(f"{broken}: is there g * g for g * conj(g), or is an imaginary part lost?") from None


def _refused(case: Case, dtype: np.dtype, params: Params) -> None:
    try:
        case.kinds(params, case.gradients(0, params))
    except Exception as error:
        if not isinstance(error, (TypeError, ValueError)) or not names_dtype(dtype)(error):
            raise LawBroken(f"{dtype} is refused, but not by name: {type(error).__name__}: {error}") from error
        return
    raise LawBroken(f"{dtype} should be refused and is not")
