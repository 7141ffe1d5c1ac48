"""Which way an update points."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import current
from .._types import PyTree
from .case import STEPS, Case, law, works
from .compare import LawBroken, as_numbers, is_float
from .samples import ramp, scaled


@law("sign")
def sign(case: Case) -> None:
    """Updates point along the gradient; against it if there is a learning rate. `case.sign` says which."""
    if case.sign == "any":
        case.note("not looked at, as sign='any' says")
        return
    # Zeros, so that no weight decay or projection has a part in it; the state is of the same parameters.
    like = case.params if case.given else {"w": ramp((4, 3), np.float32)}
    grads = case.gradients(0, like) if case.given else like
    upwards = jax.tree.map(lambda g: jnp.asarray(np.abs(np.asarray(g)).astype(g.dtype)), grads)
    with works("an update at parameters of zero"):
        ways = [_way(case, one) for one in (grads, upwards, scaled(upwards, -1.0))]
    if not ways[0]:
        case.note("holds vacuously: the updates are zero")
    elif not (ways[1] and ways[2]):
        raise LawBroken(
            f"gradients all {'positive' if ways[2] else 'negative'} make no update, and their opposites one"
        )


def _way(case: Case, grads: PyTree) -> float:
    """How far updates go along the gradient. Raises LawBroken where an update goes the wrong way."""
    params = scaled(grads, 0.0)
    state, farthest = case.tx.init(params), 0.0
    names = [path.rpartition(".")[2] for path in current(case.tx, state)]
    flips = case.sign == "flips" or (case.sign == "auto" and "learning_rate" in names)
    for step in range(STEPS):
        updates, state = case.jitted_update(case.tx, grads, state, params)
        along = _along(updates, grads)
        if along * (-1 if flips else 1) < 0:
            way = "along the gradient though it has a learning rate" if flips else "against the gradient"
            when = "the first update" if step == 0 else f"update {step + 1} with the same gradient"
            raise LawBroken(f"{when} points {way}; only scale_by_learning_rate flips the sign")
        farthest = max(farthest, abs(along))
    return farthest


def _along(a: PyTree, b: PyTree) -> float:
    """The real inner product."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(sum(np.real(np.vdot(as_numbers(y), as_numbers(x))) for x, y in pairs if is_float(x)))
