"""Hyperparameters are data: one program for all their values, and each has a part in it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax

from .._core.contract import GradientTransformation, current
from .._core.data import PyTreeNode, layout
from .._core.paths import children, walk
from .._types import OptState, Params, Updates
from .case import Case, law, works
from .compare import LawBroken
from .program import Flow, compilations
from .pure import varied


@law("one_trace")
def one_trace(case: Case) -> None:
    """One trace serves all values of the hyperparameters, and all steps, and each hyperparameter has a part in it."""
    shares = (1.0, 0.75, 0.5)
    with works("a jitted step with hyperparameters as arguments (is a value asked in Python?)"):
        # A trace there may be already, of another law.
        before = max(1, case.jitted.traces)
        for share in shares:
            case.run(varied(case.tx, share), step=case.jitted, steps=3)
    traces = case.jitted.traces - before + 1
    if traces != 1:
        raise LawBroken(f"{traces} traces for {len(shares)} sets of hyperparameters and 3 steps each, expected 1")
    if jax.tree.leaves(case.tx) and jax.tree.leaves(case.params):
        with works("tracing with hyperparameters as arguments"):
            _each_has_a_part(case)
    elif not jax.tree.leaves(case.tx):
        case.note("holds vacuously: no hyperparameter is a leaf of the transformation, so none is data")
    if not case.asks_for_functions:
        with works("an update without jit"):
            _compiles_once(case)


def unused(case: Case, tx: GradientTransformation) -> list[bool]:
    """For each leaf of a transformation, whether nothing that it returns depends on it."""
    state, grads = jax.eval_shape(tx.init, case.params), case.gradients(0)

    def all_of_it(tx: GradientTransformation, state: OptState, params: Params, grads: Updates) -> Any:
        update = tx.update(grads, state, params, **case.extra(params, grads))
        points = tx.gradient_params(params, state), tx.eval_params(params, state)
        return update, tx.init(params), points, current(tx, state)

    reached = functools.reduce(int.__or__, Flow.of(all_of_it, tx, state, case.params, grads).outputs, 0)
    return [not reached >> i & 1 for i in range(len(jax.tree.leaves(tx)))]


def _switched(tx: GradientTransformation) -> Iterator[GradientTransformation]:
    """The transformation with each flag and each choice among words in it changed, one at a time."""
    for path, part in [((), tx), *walk(tx)]:
        if isinstance(part, PyTreeNode):
            for name, spec, _ in layout(type(part)).fields:
                value = children(part).get(name)
                others = [not value] if isinstance(value, bool) else [word for word in spec.literals if word != value]
                for other in others:
                    with contextlib.suppress(TypeError, ValueError):  # what does not go together
                        yield tx.replace(**{".".join((*path, name)): other})


def _each_has_a_part(case: Case) -> None:
    idle = unused(case, case.tx)
    for tx in _switched(case.tx) if any(idle) else ():
        if jax.tree.structure(jax.tree.leaves(tx)) == jax.tree.structure(jax.tree.leaves(case.tx)):
            # It may have a part in another mode only, which may ask for arguments that are not given.
            with contextlib.suppress(TypeError, ValueError):
                idle = [a and b for a, b in zip(idle, unused(case, tx), strict=True)]
    for nowhere, (path, _) in zip(idle, jax.tree.leaves_with_path(case.tx), strict=True):
        if nowhere:
            raise LawBroken(
                f"the hyperparameter {jax.tree_util.keystr(path)} is ignored: neither state nor updates depend on "
                "it. If it is for some parameters only, give `params` that have them"
            )


def _compiles_once(case: Case) -> None:
    """Without jit, the third update compiles nothing: all it needs is compiled by then."""
    state = case.tx.init(case.params)
    for step in range(2):
        _, state = case.update(case.tx, case.gradients(step), state, case.params)
    grads = case.gradients(2)
    with compilations() as count:
        case.update(case.tx, grads, state, case.params)
    if count[0]:
        raise LawBroken(
            f"an update without jit compiles {count[0]} programs at each call, which are kept: a function that is "
            "jitted, or the body of a loop, is made anew each time. Put it at the top of the module"
        )
