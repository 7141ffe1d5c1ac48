"""Steps that may be left out: kernels that select the old state as soon as they have the new one.

A wrapper that leaves a step out selects, entry by entry, the new state or the old. Done after the update, that is one
kernel too many: updates are made of the new state, what is selected is another array, and the old one cannot be
overwritten while both are read. XLA:CPU then copies the whole state, and takes four times as long (Adam, 14 M entries,
donated arrays). Done inside, everything that follows reads what is selected. The program has the bare update's kernels,
writes its state in place, and takes 1.1 to 1.2 of its time, most of which is a look at the gradient. Where the step is
left out, what was made of the old state is left out, too.

Kernels need not know of this. A kernel is traced, and what it returns for a state is replaced where it first appears.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import Literal, Var

from .._types import PyTree


class Gate:
    """A condition on which new state is kept, and the leaves for which a kernel has selected already."""

    def __init__(self, condition: jax.Array) -> None:
        self.condition = condition
        self._done: dict[int, tuple[Any, Any]] = {}

    def covers(self, leaves: Sequence[Any]) -> bool:
        """Whether leaves belong to the program that the condition is of.

        Inside a branch, a loop or another compiled function they do not; nor is there one program without `jit`.
        """
        traced = [leaf for leaf in leaves if isinstance(leaf, Tracer)]
        own = _program_of(self.condition)
        return own is not None and bool(traced) and all(_program_of(leaf) is own for leaf in traced)

    def note_all(self, leaves: Iterable[tuple[str, Any, Any]]) -> None:
        """Remember new and old leaves of the trees by their names: those of a state were selected."""
        self._done |= {id(new): (new, old) for name, new, old in leaves if is_state(name)}

    def has_done(self, new: object, old: object) -> bool:
        """Whether a kernel has selected between the two."""
        known = self._done.get(id(new))
        return known is not None and known[0] is new and known[1] is old


def is_state(name: str) -> bool:
    """Whether a tree that `map_leaves` replaces is state; updates are zero where a step is left out."""
    return name != "updates"


_gate: contextvars.ContextVar[Gate | None] = contextvars.ContextVar("gate", default=None)


@contextlib.contextmanager
def gated(condition: jax.Array) -> Iterator[Gate]:
    """Have `map_leaves` keep old state where the condition does not hold. What it does not cover is the caller's."""
    gate = Gate(condition)
    token = _gate.set(gate)
    try:
        yield gate
    finally:
        _gate.reset(token)


def gate_of(leaves: Sequence[Any]) -> Gate | None:
    """The gate that covers a kernel's leaves, if there is one."""
    gate = _gate.get()
    return gate if gate is not None and gate.covers(leaves) else None


def _program_of(leaf: object) -> object:
    return getattr(leaf, "_trace", None) if isinstance(leaf, Tracer) else None


def evaluate(function: Callable[..., Any], arguments: PyTree, old: Sequence[Any], condition: jax.Array) -> Any:
    """`function(*arguments)`, each of whose results is `old` where the condition does not hold, from where it appears.

    Args:
        function: It returns an array, or a tuple of them.
        arguments: Trees of arrays.
        old: For each result what to keep; `None`: the result as it is.
        condition: One bool.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    results, structure = jax.tree.flatten(shapes)
    if len(results) != len(old):  # for the caller to refuse
        return function(*arguments)
    jaxpr = closed.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values |= zip(jaxpr.invars, jax.tree.leaves(arguments), strict=True)

    def value(atom: Var | Literal) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    # Selected where it is made, before other results read it, as an update reads the mean of gradients.
    wanted = {atom: each for atom, each in zip(jaxpr.outvars, old, strict=True) if isinstance(atom, Var)}
    selected: dict[Any, Any] = {}
    for equation in jaxpr.eqns:
        bound: Any = equation.primitive.get_bind_params(equation.params)
        functions, parameters = bound if isinstance(bound, tuple) else ((), bound)  # a tuple before JAX 0.10
        made = equation.primitive.bind(*functions, *map(value, equation.invars), **parameters)
        for var, new in zip(equation.outvars, made if equation.primitive.multiple_results else [made], strict=True):
            each = wanted.get(var)
            if each is not None and jax.typeof(new) == jax.typeof(each):
                new, selected[var] = jnp.where(condition, new, each), each
            values[var] = new
    return structure.unflatten(
        value(atom) if each is None or selected.get(atom) is each or jnp.shape(value(atom)) != jnp.shape(each)
        else jnp.where(condition, value(atom), jnp.asarray(each).astype(jnp.result_type(value(atom))))
        for atom, each in zip(jaxpr.outvars, old, strict=True)
    )  # fmt: skip
