"""Which parameter a leaf of the state belongs to, and which axes of the two are the same.

Shapes alone do not tell: two parameters may have one shape, a square matrix two equal axes, and a factored moment of a
3-D parameter any two of three. So `init` is asked, with abstract values: a few parameters or axes are made one entry
longer, and the leaves of the state that change are those which depend on them. That is exact for any transformation,
gradtx's or foreign, wrapped or not, whose `init` is a function of shapes; and it needs about log2(n) + r + 4 calls of
`init` for n parameters of rank r, none of which computes anything.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax

Shape: TypeAlias = tuple[int, ...]
Init: TypeAlias = Callable[[Sequence[Shape]], Any]
Wanted: TypeAlias = Sequence[Collection[int]]

LARGE = 4096
"""Entries of a leaf for which a second look is worth its time."""


class Axis(NamedTuple):
    """What an axis of a leaf of the state depends on."""

    of: tuple[int, ...]
    """Axes of the parameter; none where the axis is the state's own."""
    is_copy: bool
    """Whether it is one of the parameter's axes, entry for entry."""


class Origin(NamedTuple):
    """A leaf of the state."""

    shape: Shape
    owner: int | None
    """Position of the parameter that it belongs to; `None` for a count, and for what depends on several."""
    axes: tuple[Axis, ...]


class _Plan(NamedTuple):
    """How a parameter is changed: the shape to begin with, and what becomes of an axis."""

    shape: Shape
    step: int = 0
    factor: int = 1

    def grown(self, axis: int) -> int:
        """The axis when it is changed."""
        return self.factor * self.shape[axis] + self.step


class UnstableInit(Exception):
    """`init` makes another state for every change of one parameter's shape; the argument is its position."""


class _OtherStateError(Exception):
    """`init` refuses these shapes, or makes a state of another structure of them."""


class _Probes:
    """The state's shapes where some axes of some parameters are changed."""

    def __init__(self, init: Init, shapes: Sequence[Shape], base: Any, plans: dict[int, _Plan], wanted: Wanted) -> None:
        self._init, self._shapes, self._base = init, shapes, base
        self._known: dict[tuple[Shape, ...], list[Shape]] = {}
        self.plans, self.wanted = plans, wanted

    def __call__(self, changed: Collection[tuple[int, int]] = ()) -> list[Shape]:
        """Raises _OtherStateError where there is no such state."""
        given, pairs = list(self._shapes), set(changed)
        for i, plan in self.plans.items():
            given[i] = tuple(plan.grown(k) if (i, k) in pairs else size for k, size in enumerate(plan.shape))
        if tuple(given) not in self._known:
            try:
                new = self._init(given)
            except Exception as error:  # whatever it has against other shapes
                raise _OtherStateError from error
            self._known[tuple(given)] = _shapes(new, self._base)
        return self._known[tuple(given)]

    def of_axis(self, axis: int) -> list[Shape]:
        """Where this axis is changed of every parameter."""
        return self([(i, k) for i in self.plans for k in self.wanted[i] if k == axis])

    @property
    def axes(self) -> range:
        """All that may be changed."""
        return range(max((len(self._shapes[i]) for i in self.plans), default=0))

    def answered(self) -> bool:
        """Whether they have the state that is asked about."""
        try:
            self()
            for axis in self.axes:
                self.of_axis(axis)
        except _OtherStateError:
            return False
        return True


def origins(init: Init, shapes: Sequence[Shape], wanted: Sequence[Collection[int]]) -> list[Origin]:
    """Where each leaf of the state comes from.

    Args:
        init: The abstract state for parameters of some shapes.
        shapes: The parameters' shapes.
        wanted: The axes of each that matter; others are not looked at.

    Raises:
        UnstableInit: if a parameter cannot be changed without another state.
    """
    base = init(shapes)
    wanted = [[k for k in axes if shapes[i][k] > 1] for i, axes in enumerate(wanted)]
    movable = [i for i, axes in enumerate(wanted) if axes]

    def probes(plans: dict[int, _Plan]) -> _Probes:
        return _Probes(init, shapes, base, plans, wanted)

    asked = probes({i: _plans(shapes[i])[0] for i in movable})
    if not asked.answered():  # a limit is crossed somewhere: another way for that parameter
        asked = probes({i: _first_answered(probes, i, _plans(shapes[i])) for i in movable})
    try:
        found = _read_off(asked, base, shapes)
    except _OtherStateError as error:
        raise UnstableInit(movable[0]) from error
    # An entry more may be lost in the last block of what is cut into blocks, or change their length. A multiple of the
    # axis is neither, and what follows it twice as long and three times follows it.
    open_ = [n for n, one in enumerate(found) if math.prod(one.shape) >= LARGE and not any(a.of for a in one.axes)]
    if open_ and movable:
        with contextlib.suppress(_OtherStateError):
            looks = [
                _read_off(probes({i: _Plan(shapes[i], factor=factor) for i in movable}), base, shapes)
                for factor in (2, 3)
            ]
            for n in open_:
                found[n] = _agreed(*(look[n] for look in looks))
    return found


def _first_answered(probes: Callable[[dict[int, _Plan]], _Probes], number: int, plans: Sequence[_Plan]) -> _Plan:
    for plan in plans:
        if probes({number: plan}).answered():
            return plan
    raise UnstableInit(number)


def _read_off(asked: _Probes, base: Any, shapes: Sequence[Shape]) -> list[Origin]:
    start = asked()
    owners = _owners(asked)
    by_axis = {axis: asked.of_axis(axis) for axis in asked.axes}
    found = []
    for n, leaf in enumerate(jax.tree.leaves(base)):
        owner, axes = owners[n], []
        for j, size in enumerate(start[n]):
            grown = {} if owner is None else {k: new[n][j] for k, new in by_axis.items() if new[n][j] != size}
            plan = None if owner is None else asked.plans[owner]
            of = tuple(k for k, new in grown.items() if plan and _follows(plan, k, size, new))
            is_copy = (
                plan is not None
                and owner is not None
                and len(of) == len(grown) == 1
                and (size, grown[of[0]]) == (plan.shape[of[0]], plan.grown(of[0]))
                and leaf.shape[j] == shapes[owner][of[0]]
            )
            axes.append(Axis(of, is_copy))
        found.append(Origin(leaf.shape, owner, tuple(axes)))
    return found


def _agreed(one: Origin, other: Origin) -> Origin:
    """What two looks at a leaf have in common."""
    if one.owner != other.owner:
        return one._replace(owner=None, axes=tuple(Axis((), is_copy=False) for _ in one.axes))
    pairs = zip(one.axes, other.axes, strict=True)
    axes = (a if a == b else Axis(tuple(k for k in a.of if k in b.of), is_copy=False) for a, b in pairs)
    return one._replace(axes=tuple(axes))


def _follows(plan: _Plan, axis: int, size: int, new: int) -> bool:
    """Whether a size grows as the axis does, but for rounding to whole blocks; a choice of other blocks does not."""
    return abs(new - size * plan.grown(axis) / plan.shape[axis]) <= max(1, 0.1 * size * (plan.factor - 1))


def _owners(asked: _Probes) -> list[int | None]:
    """For each leaf the one parameter that it depends on.

    In each probe a part of the parameters is changed, and each parameter in another choice of half of the probes. A
    leaf that follows one parameter changes in just these; one that follows several changes in more.
    """
    start, movable = asked(), list(asked.plans)
    count = next(n for n in itertools.count(1) if math.comb(n, n // 2) >= len(movable))
    codes = dict(zip(itertools.combinations(range(count), max(1, count // 2)), movable, strict=False))
    changed: list[tuple[int, ...]] = [()] * len(start)
    for probe in range(count):
        new = asked([(i, k) for code, i in codes.items() if probe in code for k in asked.wanted[i]])
        pairs = zip(changed, new, start, strict=True)
        changed = [(*before, probe) if a != b else before for before, a, b in pairs]
    return [codes.get(code) for code in changed]


def _plans(shape: Shape) -> list[_Plan]:
    """Ways to change a shape, the best first.

    Sizes that are equal are made different, the later one the larger, and two apart, so that one more entry changes no
    order: what picks axes by size (a factored moment) then picks those that it picks for equal ones with a stable sort,
    as NumPy's for few entries is. Where that crosses a limit ("at least 128", "fewer than 4,096"), other ways may not.
    """
    order = sorted(range(len(shape)), key=lambda k: (shape[k], k))
    up, down = list(shape), list(shape)
    for before, k in itertools.pairwise(order):
        up[k] = max(shape[k], up[before] + 2) if shape[before] > 1 else shape[k]
    for after, k in itertools.pairwise(reversed(order)):
        down[k] = min(shape[k], down[after] - 2) if shape[k] > 1 else shape[k]
    plans = [_Plan(tuple(up), 1), _Plan(tuple(down), -1), _Plan(shape, 1), _Plan(shape, -1)]
    # An axis of one entry, or of none, is left alone, and none becomes one.
    return [plan for plan in plans if all(size > 1 or old < 2 for size, old in zip(plan.shape, shape, strict=True))]


def _shapes(state: Any, base: Any) -> list[Shape]:
    kinds = [[(leaf.dtype, leaf.ndim) for leaf in jax.tree.leaves(tree)] for tree in (state, base)]
    if jax.tree.structure(state) != jax.tree.structure(base) or kinds[0] != kinds[1]:
        raise _OtherStateError
    return [leaf.shape for leaf in jax.tree.leaves(state)]
