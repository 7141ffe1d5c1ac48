"""The same call gives the same, whenever and however it is made."""

from __future__ import annotations

import contextlib
import functools
import random
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._core.contract import GradientTransformation
from .._trees.apply import apply_updates
from .._types import OptState, Params, Updates
from .case import Case, law, works
from .compare import LawBroken, expect_close, is_float, is_key
from .program import Counted, compilations

LATER = ((500 * 24 + 7) * 60 + 17) * 60 + 29.0
"""Seconds: the second, minute, hour, weekday, month and year are others, whether or not there is a carry."""
CALLS_BETWEEN = 101
"""What counts its calls and does something at one of the first hundred is seen; a prime, for what has a period."""
SCANNED = 3
"""Steps of a scan: roundings grow from step to step in methods that search, and loops round otherwise."""
CLOCKS = ("time", "monotonic", "perf_counter", "process_time")


@contextlib.contextmanager
def elsewhen() -> Iterator[None]:
    """Another time, and another state of the global random generators; both are put back."""

    def later(clock: Callable[[], float], per_second: float) -> Callable[[], float]:
        return lambda: clock() + type(clock())(LATER * per_second)

    clocks = {name + end: getattr(time, name + end) for name in CLOCKS for end in ("", "_ns")}
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global generator is what is meant
    try:
        for name, clock in clocks.items():
            setattr(time, name, later(clock, 1e9 if name.endswith("_ns") else 1.0))
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        yield
    finally:
        for name, clock in clocks.items():
            setattr(time, name, clock)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def varied(tx: GradientTransformation, share: float) -> GradientTransformation:
    """The same transformation with other hyperparameters: each number times `share`, so that decays stay decays.

    Integers and random keys, typed or raw, stay what they are.
    """
    return jax.tree.map(lambda leaf: leaf * share if is_float(leaf) else leaf, tx)


def extreme(tx: GradientTransformation) -> GradientTransformation:
    """The same with numbers near the end of their range: decays near 1, and four times what is larger."""

    def one(leaf: ArrayLike) -> ArrayLike:
        if not is_float(leaf) or jnp.iscomplexobj(leaf):
            return leaf
        number = np.asarray(leaf)
        inside = (number > 0) & (number < 1)
        value = np.where(inside, 1 - 0.01 * (1 - number), 4 * number)
        return type(leaf)(value) if isinstance(leaf, float) else jax.device_put(value.astype(number.dtype))

    return jax.tree.map(one, tx)


@law("pure")
def pure(case: Case) -> None:
    """The same call gives the same; jit equals eager, vmap over hyperparameters a loop, scan the steps."""
    first = _same_again(case)
    with works("jit(update)"):
        case.expect_close("jit(update)", case.first_run, first)
        case.expect_close("a second run of jit(update)", case.run(case.tx, step=case.jitted), first)
        _draws_anew(case)
    scanned = _loop(case)
    with works("scan over update"):
        if not jax.tree.leaves(case.tx):
            expected = case.run(case.tx, step=case.jitted, steps=SCANNED)[1:]
            case.expect_close("scan over update", Counted(scanned)(case.tx), expected)
            case.note("vmap over hyperparameters holds vacuously: no hyperparameter is a leaf of the transformation")
            return
        jax.eval_shape(scanned, case.tx)
    with works("vmap over hyperparameters, of scan over update"):
        lanes = [case.tx, varied(case.tx, 0.75)]
        # Leaves of one kind: Python numbers become arrays, as vmap needs them.
        stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *lanes)
        batched = Counted(jax.vmap(scanned))(stacked)
        for i, lane in enumerate(lanes):
            one = jax.tree.map(lambda leaf, i=i: (leaf if is_key(leaf) else np.asarray(leaf))[i], batched)
            # jit(update), which was found to be the update: without jit each loop in it would be compiled anew.
            expected = case.run(lane, step=case.jitted, steps=SCANNED)[1:]
            case.expect_close(f"lane {i} of vmap over hyperparameters", one, expected)


def _same_again(case: Case) -> tuple[Updates, OptState, Params]:
    """The run without jit, the same at another time, and with other hyperparameters the same as with jit."""
    with works("an update"):
        first = case.run(case.tx)
        state, grads = case.tx.init(case.params), case.gradients(0)
        with compilations() as count:
            early = case.update(case.tx, grads, state, case.params)
        if count[0]:
            # Each call costs as much as many: what differs far from the start is not looked for.
            case.note("calls that are far apart were not compared, since each call without jit compiles")
            with elsewhen():
                later = case.update(case.tx, grads, state, case.params)
            expect_close("the same update at another time", later, early, rtol=0.0, atol=0.0)
            return first
        with elsewhen():
            again = case.run(case.tx)
        expect_close("a second identical run, at another time,", again, first, rtol=0.0, atol=0.0)
        late = early
        for _ in range(CALLS_BETWEEN):
            late = case.update(case.tx, grads, state, case.params)
        expect_close(f"the same update, {CALLS_BETWEEN} calls later,", late, early, rtol=0.0, atol=0.0)
        if jax.tree.leaves(case.tx):
            with works("jit(update)"):
                for how, tx in (("small", varied(case.tx, 0.01)), ("large", extreme(case.tx))):
                    eager, jitted = (case.run(tx, step=step, steps=2) for step in (None, case.jitted))
                    case.expect_close(f"jit(update) with {how} hyperparameters, against no jit,", jitted, eager)
    return first


def _draws_anew(case: Case) -> None:
    """Random numbers depend on something that changes from step to step; there are no side effects."""
    flow, number = case.flow, len(jax.tree.leaves(jax.eval_shape(case.tx.init, case.params)))
    if flow.side_effects:
        raise LawBroken(
            f"an update has side effects: {', '.join(flow.side_effects)}. Return what it has to say in the state"
        )
    # A key that the state only hands on is the same at all steps.
    same = sum(1 << i for i in range(number) if flow.forwarded[i] == i)
    if any(not reaching & ~same for reaching in flow.draws):
        raise LawBroken(
            "the random numbers of an update are the same at each step: their key depends on nothing that changes. "
            "Keep the key in the state, split it at each update, and return the new one"
        )


def _loop(case: Case) -> Callable[[GradientTransformation], tuple[OptState, Params]]:
    """The run of a transformation as a scan."""
    grads = jax.tree.map(lambda *steps: np.stack(steps), *map(case.gradients, range(SCANNED)))

    def body(
        tx: GradientTransformation, carry: tuple[OptState, Params], grads: Updates
    ) -> tuple[tuple[OptState, Params], None]:
        state, params = carry
        updates, state = case.update(tx, grads, state, params)
        return (state, apply_updates(params, updates)), None

    def run(tx: GradientTransformation) -> tuple[OptState, Params]:
        start = tx.init(case.params), case.params
        return jax.lax.scan(functools.partial(body, tx), start, grads, length=SCANNED)[0]

    return run
