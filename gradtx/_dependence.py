"""Which parameter a leaf of the state belongs to, and which axes of the two are the same.

Shapes alone do not tell: two parameters may have one shape, a square matrix two equal axes, and a factored moment of a
3-D parameter any two of three. So `init` is asked, with abstract values: a few parameters or axes are made one entry
longer, and the leaves of the state that change are those which depend on them. That is exact for any transformation,
gradtx's or foreign, wrapped or not, whose `init` is a function of shapes; and it needs about log2(n) + r + 4 calls of
`init` for n parameters of rank r, none of which computes anything.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax

Shape: TypeAlias = tuple[int, ...]


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
    """How a parameter is changed: the shape to begin with, and what is added to an axis."""

    shape: Shape
    step: int


class UnstableInit(Exception):
    """`init` makes another state for every change of one parameter's shape; the argument is its position."""


def origins(
    init: Callable[[Sequence[Shape]], Any], shapes: Sequence[Shape], wanted: Sequence[Collection[int]]
) -> list[Origin]:
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
    plans = {i: _plans(shapes[i])[0] for i in movable}

    known: dict[tuple[Shape, ...], list[Shape]] = {}

    def state(grown: Collection[tuple[int, int]]) -> list[Shape]:
        """The state's shapes where these axes of these parameters have one entry more (or less) than planned."""
        given, changed = list(shapes), set(grown)
        for i, plan in plans.items():
            given[i] = tuple(size + plan.step * ((i, k) in changed) for k, size in enumerate(plan.shape))
        if tuple(given) not in known:
            try:
                new = init(given)
            except Exception as error:  # whatever it has against other shapes
                raise _OtherStateError from error
            known[tuple(given)] = _shapes(new, base)
        return known[tuple(given)]

    def keeps() -> bool:
        probes = [[], *([(i, k) for i in plans for k in wanted[i] if k == axis] for axis in _ranks(shapes))]
        try:
            for probe in probes:
                state(probe)
        except _OtherStateError:
            return False
        return True

    if not keeps():
        every, found = dict(plans), {}
        for i in movable:
            for plan in _plans(shapes[i]):
                plans = {i: plan}
                if keeps():
                    found[i] = plan
                    break
            else:
                raise UnstableInit(i)
        plans = {i: found[i] for i in every}
        if not keeps():
            raise UnstableInit(movable[0])
    try:
        return _read_off(state, base, plans, wanted, movable, shapes)
    except _OtherStateError as error:
        raise UnstableInit(movable[0]) from error


def _read_off(
    state: Callable[[Collection[tuple[int, int]]], list[Shape]],
    base: Any,
    plans: dict[int, _Plan],
    wanted: Sequence[Collection[int]],
    movable: list[int],
    shapes: Sequence[Shape],
) -> list[Origin]:
    start = state([])
    owners = _owners(state, start, wanted, movable)
    by_axis = {
        axis: state([(i, k) for i in movable for k in wanted[i] if k == axis])
        for axis in range(max((len(shapes[i]) for i in movable), default=0))
    }
    found = []
    for n, leaf in enumerate(jax.tree.leaves(base)):
        owner = owners[n]
        axes = []
        for j in range(len(leaf.shape)):
            of = tuple(k for k in by_axis if by_axis[k][n][j] != start[n][j]) if owner is not None else ()
            is_copy = (
                owner is not None
                and len(of) == 1
                and start[n][j] == plans[owner].shape[of[0]]
                and by_axis[of[0]][n][j] - start[n][j] == plans[owner].step
                and leaf.shape[j] == shapes[owner][of[0]]
            )
            axes.append(Axis(of, is_copy))
        found.append(Origin(leaf.shape, owner, tuple(axes)))
    return found


def _owners(
    state: Callable[[Collection[tuple[int, int]]], list[Shape]],
    start: list[Shape],
    wanted: Sequence[Collection[int]],
    movable: list[int],
) -> list[int | None]:
    """For each leaf the one parameter that it depends on.

    In each probe a part of the parameters is changed, and each parameter in another choice of half of the probes. A
    leaf that follows one parameter changes in just these; one that follows several changes in more.
    """
    probes = next(n for n in itertools.count(1) if math.comb(n, n // 2) >= len(movable))
    codes = dict(zip(itertools.combinations(range(probes), max(1, probes // 2)), movable, strict=False))
    changed: list[tuple[int, ...]] = [()] * len(start)
    for probe in range(probes):
        new = state([(i, k) for code, i in codes.items() if probe in code for k in wanted[i]])
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


def _ranks(shapes: Sequence[Shape]) -> range:
    return range(max(map(len, shapes), default=0))


class _OtherStateError(Exception):
    """`init` refuses these shapes, or makes a state of another structure of them."""


def _shapes(state: Any, base: Any) -> list[Shape]:
    kinds = [[(leaf.dtype, leaf.ndim) for leaf in jax.tree.leaves(tree)] for tree in (state, base)]
    if jax.tree.structure(state) != jax.tree.structure(base) or kinds[0] != kinds[1]:
        raise _OtherStateError
    return [leaf.shape for leaf in jax.tree.leaves(state)]
