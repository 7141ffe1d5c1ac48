"""The state of one transformation as the state of another that has the same parts, wrapped otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import GradientTransformation
from .._precision.places import decoded, encoded_as
from .._types import OptState, Params
from .places import Words, at, children, describe, fit, listing


def adopt(tx: GradientTransformation, old_state: OptState, params: Params, *, drop: Sequence[str] = ()) -> OptState:
    """A state of `tx` that goes on from the state of a transformation with the same parts, wrapped otherwise.

        tx = guard(accumulate(adam(1e-3), every=4))
        state = gradtx.interop.adopt(tx, state_of_adam, params)     # into wrappers
        state = gradtx.interop.adopt(adam(1e-3), state, params)     # and out of them

    It begins with `tx.init(params)`. Each state in `old_state` is then looked for there by its class and by its fields
    with the paths of their leaves, wherever it is nested: into wrappers and out of them, into a longer chain, from one
    optimizer into groups (each has the moments of its parameters, and the count) and from groups into one. Two of one
    class keep their order. What `tx` has and the old one has not begins anew: a guard's counters, an average.

    Encoded leaves (of `quantize_state`, `state_dtype`) are decoded, and encoded again where `tx` does so.

    What wrappers keep for themselves is left behind where `tx` has no such wrapper. So move out of an accumulation
    between two steps, and evaluate an average before.

    Args:
        tx: The transformation to go on with.
        old_state: A state whose classes are known: one that ran, or was restored with a target. Its arrays are shared
            where shape and dtype are right, and converted where the dtype is another.
        params: The parameters, as arrays.
        drop: Names of classes of states that are to be left out (`"TraceState"`), though no wrapper's.

    Raises:
        ValueError: if a state has no place in `tx`, or several, or one in `tx` would be filled in part; all are listed.
        TypeError: if `old_state` has lost its classes, a leaf is of another kind of number, or `drop` is a string.
    """
    if not isinstance(tx, GradientTransformation):
        raise TypeError(f"adopt takes a gradtx transformation, got {tx!r}")
    if isinstance(drop, str):
        raise TypeError(f"adopt: `drop` must be a list of names of classes, got {drop!r}; write drop=[{drop!r}]")
    fresh = tx.init(params)
    leaves, structure = jax.tree.flatten(decoded(fresh))
    places = [unit for unit in _units(structure.unflatten(range(len(leaves)))) if unit.leaves]
    sources = [unit for unit in _units(decoded(old_state)) if unit.leaves]
    if sources and not any(unit.name for unit in sources) and any(unit.name for unit in places):
        raise TypeError(
            "adopt: old_state has no classes to tell its parts by. Restore it with a target, "
            "jax.eval_shape(old_tx.init, params), or bring it back with gradtx.interop.from_optax(old_tx, ...)"
        )
    placed: dict[int, Any] = {}
    problems: list[str] = []
    for name in dict.fromkeys(unit.name for unit in sources):
        old, new = ([unit for unit in units if unit.name == name] for units in (sources, places))
        if name in drop:
            continue
        if new:
            problems += _place(old, new, placed)
        elif not all(unit.is_wrapper for unit in old):
            found = ", ".join(at(unit.path) for unit in old)
            problems.append(f"{type(tx).__name__} has no {name}, which the old state has at {found}")
    if problems:
        raise ValueError(
            f"adopt: {'; '.join(problems)}. States that are to be left out are named in drop=[...]; what cannot be "
            "moved begins anew with tx.init(params)"
        )
    paths = {i: (*unit.path, *words) for unit in places for words, i in unit.leaves.items()}
    seen: set[int] = set()
    for i, value in placed.items():
        spec = jax.ShapeDtypeStruct(leaves[i].shape, leaves[i].dtype)
        array = fit("adopt", value, spec, paths[i])
        # A state to be donated must not hold one buffer twice.
        leaves[i] = jnp.array(array, copy=True) if id(value) in seen else array
        seen.add(id(value))
    return encoded_as(structure.unflatten(leaves), fresh)


class _Unit(NamedTuple):
    """One state: what it keeps itself, without the states inside of it."""

    name: str
    """Of its class; empty for an array by itself."""
    path: Words
    leaves: dict[Words, Any]
    is_wrapper: bool


def _units(node: Any, path: Words = ()) -> Iterator[_Unit]:
    """Every state in a state, outer ones first."""
    if hasattr(node, "_fields"):
        fields = children(node)
        inner = [(name, value) for name, value in fields if _holds_states(name, value)]
        kept = [(name, value) for name, value in fields if not _holds_states(name, value)]
        own = {words: leaf for name, value in kept for words, leaf in _leaves(name, value)}
        yield _Unit(type(node).__name__, path, own, bool(inner))
        for name, value in inner:
            yield from _units(value, (*path, name))
    elif isinstance(node, (dict, tuple, list)):
        for name, value in children(node):
            yield from _units(value, (*path, name))
    else:
        leaves = dict(_leaves(None, node))
        yield _Unit("" if () in leaves else type(node).__name__, path, leaves, is_wrapper=False)


def _holds_states(name: str, value: Any) -> bool:
    """Whether a field of a state is for the state of a transformation inside."""
    return name.endswith(("_state", "_states")) or any(map(_is_state, [value, *(part for _, part in children(value))]))


def _is_state(value: object) -> bool:
    return hasattr(value, "_fields") and type(value).__name__.endswith("State")


def _leaves(name: str | None, value: Any) -> Iterator[tuple[Words, Any]]:
    for path, leaf in jax.tree.leaves_with_path(value):
        keys = (next(getattr(key, a) for a in ("idx", "key", "name") if hasattr(key, a)) for key in path)
        yield (*([] if name is None else [name]), *map(str, keys)), leaf


def _place(old: list[_Unit], new: list[_Unit], placed: dict[int, Any]) -> list[str]:
    """Fill the places of one class; what cannot be, in words."""
    if [unit.leaves.keys() for unit in old] == [unit.leaves.keys() for unit in new]:
        for source, place in zip(old, new, strict=True):
            placed |= {i: source.leaves[words] for words, i in place.leaves.items()}
        return []
    name = old[0].name or "array"
    known: dict[Words, list[Any]] = {}
    for unit in old:
        for words, leaf in unit.leaves.items():
            known.setdefault(words, []).append(leaf)
    problems: list[str] = []
    wanted: dict[Words, list[Words]] = {}
    for unit in new:
        for words, i in unit.leaves.items():
            wanted.setdefault(words, []).append(unit.path)
            if words in known:
                placed[i] = known[words][0]
    missing: dict[Words, Any] = {(*paths[0], *words): None for words, paths in wanted.items() if words not in known}
    if missing:
        problems.append(f"the old {name} has nothing for {listing(missing)}")
    surplus = {(*old[0].path, *words): None for words in known if words not in wanted}
    if surplus:
        problems.append(f"there is no place in a {name} for {listing(surplus)}")
    for words, values in known.items():
        # Groups share a count, and no moment.
        is_number = np.ndim(values[0]) == 0
        if len(values) > 1 and not (is_number and all(_same(value, values[0]) for value in values)):
            shown = ", ".join(str(value) if is_number else describe(value) for value in values)
            problems.append(f"{len(values)} {name}s have {at(words)}, and differ: {shown}")
        elif len(wanted.get(words, [])) > 1 and not is_number:
            found = ", ".join(map(at, wanted[words]))
            problems.append(f"{at(words)} of the {name} could be that of {found}")
    return problems


def _same(a: object, b: object) -> bool:
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))
