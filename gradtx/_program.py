"""A function as the program that it is at this moment, so that what is compiled is found by what it does.

`jax.jit` finds a compiled program by the identity of the function: one that has been given to it before is not read
again, although a global or an attribute that it uses may have changed, and one that is defined anew at each call is
compiled anew and kept. Here the function is traced at each call, which takes milliseconds; what it has closed over
becomes an argument; and equal traces share one program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from ._types import Params, PyTree


class Program:
    """A traced function, to be called with its constants: `program(constants, *args)`. Equal if its text is."""

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
    program = Program(closed.jaxpr, jax.tree.structure(shapes), _key(closed, function, args))
    return program, closed.consts, shapes


def _key(closed: ClosedJaxpr, function: Callable[..., Any], args: tuple[PyTree, ...]) -> object:
    """What equal programs share: their text; where that says too little, an object that equals no other."""
    text = str(closed)
    if "custom_jvp_call" in text or "custom_vjp_call" in text:
        # Of rules for derivatives a text has the names only, so what they do is read off the derivatives.
        try:
            derivatives = [jax.make_jaxpr(derivative)(*args) for derivative in _derivatives(function)]
        except TypeError:  # there are none
            return object()
        if any(len(derivative.consts) > len(closed.consts) for derivative in derivatives):
            return object()  # rules with constants of their own
        text = "\n".join([text, *map(str, derivatives)])
    # An address names an object (a callback), and may name another one later.
    return object() if " at 0x" in text else text


def _derivatives(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The first and second derivative by the first argument."""

    def total(*args: PyTree) -> Any:
        leaves = jax.tree.leaves(function(*args))
        return sum((leaf.sum().real for leaf in leaves if jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)), 0.0)

    gradient = jax.grad(lambda *args: total(*args))

    def curvature(params: Params, *rest: PyTree) -> Any:
        return jax.jvp(lambda p: gradient(p, *rest), (params,), (params,))[1]

    return [gradient, curvature]


@functools.lru_cache(maxsize=64)
def compiled(function: Callable[..., Any], *programs: Program | None) -> Callable[..., Any]:
    """`jax.jit(partial(function, programs))`, one for each set of equal programs; the least used are dropped."""
    return jax.jit(functools.partial(function, programs))
