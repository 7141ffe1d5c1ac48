"""Which parameter goes where: the groups of a transformation as a table, with what their state takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from ._core.contract import GradientTransformation
from ._rules import named_leaves
from ._types import OptState, Params, PyTree

_WIDEST = 60
"""Characters of a transformation in the printed table."""


class Group(NamedTuple):
    """A group of parameters."""

    name: str
    """The label or rule; of a group inside another, behind that one's: `decoder > *bias`."""
    transformation: str
    """What is done to it."""
    leaves: int
    """How many arrays of parameters it has."""
    parameters: int
    """How many numbers these hold."""
    state_bytes: int
    """Bytes that its state takes."""


class Parameter(NamedTuple):
    """One array of parameters."""

    path: str
    """As rules see it."""
    shape: tuple[int, ...]
    dtype: str
    groups: tuple[str, ...]
    """The groups that it belongs to: several where several stages of a chain have groups, none where nothing has."""


class Description(NamedTuple):
    """What `describe` returns; printed, it is a table."""

    parameters: tuple[Parameter, ...]
    """Every array, in the order of the tree."""
    groups: tuple[Group, ...]
    """Every group, in the order of precedence."""
    state_bytes: int
    """Bytes of the whole state: the groups' and what is kept outside of them."""

    def __repr__(self) -> str:
        total = sum(math.prod(p.shape) for p in self.parameters)
        outside = self.state_bytes - sum(group.state_bytes for group in self.groups)
        leaves = [(p.path, f"{p.dtype}{list(p.shape)}", ", ".join(p.groups) or "-") for p in self.parameters]
        groups = [
            (g.name, f"{g.leaves:,}", f"{g.parameters:,}", f"{g.state_bytes:,}", _short(g.transformation))
            for g in self.groups
        ]
        groups += [("outside of groups", "", "", f"{outside:,}", "")] if outside else []
        groups.append(("total", f"{len(self.parameters):,}", f"{total:,}", f"{self.state_bytes:,}", ""))
        first = _table([("parameter", "type", "group"), *leaves], "lll")
        return f"{first}\n\n{_table([('group', 'arrays', 'numbers', 'state bytes', ''), *groups], 'lrrrl')}"

    __str__ = __repr__


def describe(tx: GradientTransformation, params: Params) -> Description:
    """A table of which parameter goes to which group, and of the bytes of state. Nothing is allocated.

        print(gradtx.describe(tx, params))

    Groups are found wherever they are: inside a chain or another wrapper, and in one another. Without any, all
    parameters are one group.

    Args:
        tx: Any transformation.
        params: Arrays or `ShapeDtypeStruct`s.

    Raises:
        ValueError: if a rule, label or mask of `tx` does not fit `params`.
        TypeError: if `tx` is not gradtx's.
    """
    if not isinstance(tx, GradientTransformation):
        raise TypeError(f"describe takes a gradtx transformation, got {tx!r}; gradtx.chain(tx) makes one of optax's")
    found = list(_groups(tx, params, (), ()))
    names = [" > ".join(words) for words, *_ in found]
    if len(set(names)) < len(names):  # two stages of a chain have groups: say which stage's
        names = [" > ".join(path) for _, path, *_ in found]
    members = [_present(own) for *_, own in found]
    positions = sorted(_present(params))
    parameters = tuple(
        Parameter(
            path,
            tuple(leaf.shape),
            str(leaf.dtype),
            tuple(n for n, own in zip(names, members, strict=True) if i in own),
        )
        for i, (path, leaf) in zip(positions, named_leaves(params), strict=True)
    )
    groups = tuple(
        Group(name, repr(inner) if isinstance(inner, GradientTransformation) else inner, *_sizes(inner, own))
        for name, (_, _, inner, own) in zip(names, found, strict=True)
    )
    if not groups:
        parameters = tuple(p._replace(groups=("all",)) for p in parameters)
        groups = (Group("all", repr(tx), *_sizes(tx, params)),)
    return Description(parameters, groups, _bytes(jax.eval_shape(tx.init, params)))


Found = tuple[tuple[str, ...], tuple[str, ...], Any, PyTree]
"""Names of groups from the outermost on; all names on the way; the transformation, or words; the parameters."""


def _groups(
    tx: GradientTransformation, params: Params, names: tuple[str, ...], path: tuple[str, ...]
) -> Iterator[Found]:
    """The innermost groups."""
    divided = getattr(tx, "_divided", None)
    if divided is None:
        for inside, inner, _ in tx._inside(None):
            yield from _groups(inner, params, names, (*path, *inside))
        return
    for name, inner, own in divided(params):
        here = ((*names, name), (*path, name))
        deeper = list(_groups(inner, own, *here)) if isinstance(inner, GradientTransformation) else []
        yield from deeper or [(*here, inner, own)]


def _present(tree: PyTree) -> set[int]:
    """The positions of leaves that are there, among those and the absent ones."""
    return {i for i, leaf in enumerate(jax.tree.leaves(tree, is_leaf=lambda x: x is None)) if leaf is not None}


def _sizes(tx: Any, params: Params) -> tuple[int, int, int]:
    leaves = jax.tree.leaves(params)
    state = jax.eval_shape(tx.init, params) if isinstance(tx, GradientTransformation) else None
    return len(leaves), sum(math.prod(leaf.shape) for leaf in leaves), _bytes(state)


def _bytes(state: OptState) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def _table(rows: Sequence[tuple[str, ...]], sides: str) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: tuple[str, ...]) -> str:
        cells = zip(row, widths, sides, strict=True)
        return "  ".join(
            cell.ljust(width) if side == "l" else cell.rjust(width) for cell, width, side in cells
        ).rstrip()

    return "\n".join([line(rows[0]), "-" * (sum(widths) + 2 * len(widths) - 2), *map(line, rows[1:])])
