"""A function as the program that it is at this moment, so that what is compiled is found by what it does.

`jax.jit` finds a compiled program by the identity of the function: one that has been given to it before is not read
again, although a global or an attribute that it uses may have changed, and one that is defined anew at each call is
compiled anew and kept. Here the function is traced at each call, which takes milliseconds; what it has closed over
becomes an argument; and equal traces share one program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from ._types import PyTree


class Program:
    """A traced function, to be called with its constants: `program(constants, *args)`. Equal if its key is."""

    __slots__ = ("jaxpr", "key", "out_tree")

    def __init__(self, jaxpr: Jaxpr, out_tree: Any, key: object):
        self.jaxpr, self.out_tree, self.key = jaxpr, out_tree, key

    def __call__(self, constants: Sequence[Any], *args: PyTree) -> Any:
        """What the function returns, for arguments of the structure that it was traced with."""
        run = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, list(constants)))
        return self.out_tree.unflatten(run(*jax.tree.leaves(args)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and (self.key, self.out_tree) == (other.key, other.out_tree)

    def __hash__(self) -> int:
        return hash((self.key, self.out_tree))


def traced(function: Callable[..., Any], *args: PyTree) -> tuple[Program, list[Any], Any]:
    """The function as a program, what it has closed over, and the shapes that it returns."""
    # A wrapper that JAX has not seen before: it would not trace the function itself twice, and must hash it.
    closed, shapes = jax.make_jaxpr(lambda *args: function(*args), return_shape=True)(*args)
    try:
        key = _key(closed, *args)
        hash(key)
    except Exception:  # something in it has no hash; or no derivative, for which JAX has errors of several types
        key = None
    return Program(closed.jaxpr, jax.tree.structure(shapes), key), closed.consts, shapes


def compiled(function: Callable[..., Any], *programs: Program) -> Callable[..., Any]:
    """`jax.jit(partial(function, programs))`, one for each set of equal programs; the least used are dropped."""
    if any(program.key is None for program in programs):
        return jax.jit(functools.partial(function, programs))
    return _compiled(function, programs)


@functools.lru_cache(maxsize=64)
def _compiled(function: Callable[..., Any], programs: tuple[Program, ...]) -> Callable[..., Any]:
    return jax.jit(functools.partial(function, programs))


class _Same:
    """An object that equals itself alone, and that lives as long as what is compared with it."""

    __slots__ = ("value",)

    def __init__(self, value: object):
        if isinstance(value, Tracer):
            raise TypeError("a tracer must not be kept")
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _key(closed: ClosedJaxpr, *args: PyTree) -> tuple[object, ...]:
    """What the traces of one program have in common: their text, and the objects that a text only names.

    Raises:
        TypeError: if there is a tracer among these objects, or no derivative to read.
    """
    text = str(closed)
    if "custom_jvp_call" not in text and "custom_vjp_call" not in text:
        return text, *_objects(closed.jaxpr)
    # A text has the names of rules for derivatives only. What they do is read off the derivatives.
    derivatives = [jax.make_jaxpr(derivative)(closed.consts, args) for derivative in _derivatives(closed)]
    constants = [_Same(const) for derivative in derivatives for const in derivative.consts]
    inside = [each for derivative in derivatives for each in _objects(derivative.jaxpr)]
    return text, *map(str, derivatives), *constants, *_objects(closed.jaxpr), *inside


def _objects(jaxpr: Jaxpr) -> Iterator[object]:
    """Constants of programs inside, meshes, callbacks: what differs though the text may be the same."""
    for equation in jaxpr.eqns:
        is_rule = equation.primitive.name.startswith("custom_")
        for value in equation.params.values():
            yield from _objects_in(value, is_rule)


def _objects_in(value: object, is_rule: bool) -> Iterator[object]:
    if isinstance(value, ClosedJaxpr):
        yield from map(_Same, value.consts)
        yield from _objects(value.jaxpr)
    elif isinstance(value, Jaxpr):
        yield from _objects(value)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _objects_in(each, is_rule)
    elif not is_rule:
        yield value


def _derivatives(closed: ClosedJaxpr) -> list[Callable[..., Any]]:
    """The first and second derivative by all that is not whole, constants among them."""

    def total(floats: list[Any], rest: list[Any]) -> Any:
        leaves = [r if f is None else f for f, r in zip(floats, rest, strict=True)]
        constants, inputs = leaves[: len(closed.consts)], leaves[len(closed.consts) :]
        outs = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, constants))(*inputs)
        return sum((jnp.real(out.sum()).astype(float) for out in outs if _is_float(out)), jnp.zeros([], float))

    def split(constants: list[Any], args: PyTree) -> tuple[list[Any], list[Any]]:
        leaves = [*constants, *jax.tree.leaves(args)]
        return [x if _is_float(x) else None for x in leaves], [None if _is_float(x) else x for x in leaves]

    def gradient(constants: list[Any], args: PyTree) -> Any:
        return jax.grad(total)(*split(constants, args))

    def curvature(constants: list[Any], args: PyTree) -> Any:
        floats, rest = split(constants, args)
        return jax.jvp(lambda floats: jax.grad(total)(floats, rest), (floats,), (floats,))[1]

    return [gradient, curvature]


def _is_float(leaf: object) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
