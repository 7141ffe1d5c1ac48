"""Places inside a transformation, by dotted paths: `1.learning_rate.peak_value`."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

Path = tuple[str, ...]


def children(value: Any) -> dict[str, Any]:
    """What a path may name inside a value; nothing inside a leaf."""
    if hasattr(value, "_items"):  # a PyTreeNode
        return value._items()
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return {str(i): item for i, item in enumerate(value)} if type(value) in (tuple, list) else {}


def walk(value: object, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place inside a value, with its path, outer ones first."""
    for name, child in children(value).items():
        yield (*path, name), child
        yield from walk(child, (*path, name))


def find(owner: str, value: object, key: str) -> Path:
    """The one place that a dotted path names, which may leave out its beginning. Raises TypeError."""
    # Names may have dots in them: those of groups are patterns.
    paths = [path for path, _ in walk(value)]
    found = [path for path in paths if ".".join(path) == key]
    found = found or [path for path in paths if any(".".join(path[i:]) == key for i in range(1, len(path)))]
    if len(found) == 1:
        return found[0]
    if found:
        raise TypeError(f"{owner}: `{key}` names several places: {', '.join(map('.'.join, found))}; say which")
    raise TypeError(f"{owner} has no argument {key!r}; it has {', '.join(map('.'.join, paths)) or 'none'}")


def set_at(value: Any, changes: Mapping[Path, Any]) -> Any:
    """The same value with others at some paths; each part is made anew once."""
    groups: dict[str, dict[Path, Any]] = {}
    for (name, *rest), new in changes.items():
        groups.setdefault(name, {})[tuple(rest)] = new
    here, changed = children(value), {}
    for name, inside in groups.items():
        if () in inside and len(inside) > 1:
            raise TypeError(f"`{name}` is replaced whole and in part; give one of the two")
        changed[name] = inside[()] if () in inside else set_at(here[name], inside)
    if hasattr(value, "_with_items"):
        return value._with_items(changed) if changed else value
    if isinstance(value, Mapping):
        return {key: changed.get(str(key), item) for key, item in value.items()}
    return type(value)(changed.get(str(i), item) for i, item in enumerate(value))


def shortest_names(paths: list[Path]) -> list[str]:
    """Each path by its last name where that is unique among them, else whole."""
    last = [path[-1] for path in paths]
    return [path[-1] if last.count(path[-1]) == 1 else ".".join(path) for path in paths]


def hyperparams(tx: object) -> dict[str, Any]:
    """Every number of a transformation or schedule by its path, for logs; the keys are those that `replace` takes.

    >>> import gradtx
    >>> gradtx.hyperparams(gradtx.chain(gradtx.clip(1.0), gradtx.sgd(0.1)))
    {'0.max_delta': 1.0, '1.learning_rate': 0.1}
    """
    return {".".join(path): value for path, value in walk(tx) if _is_number(value)}


def _is_number(value: object) -> bool:
    return isinstance(value, (float, int, np.ndarray, np.generic, jax.Array)) and not isinstance(value, bool)
