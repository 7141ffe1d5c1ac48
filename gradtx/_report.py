"""Scalars that states have for a log: read in one call, wherever they are nested."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from ._core.paths import Path, shortest_names
from ._types import OptState


def report(state: OptState) -> dict[str, jax.Array]:
    """Every scalar that a state has for a log, by name.

        state_of_guard = {"notfinite_count": 0, "total_notfinite": 3, ...}

    A state has such scalars if its class has a method `_report(self)` that returns them by name. A name is the bare
    one where it is unique in the state, else it is the whole path to it: `0.norm`, `head.norm`.

    Args:
        state: What `init` or `update` returned, nested as it may be; stacked by `scan` or `vmap` too, and the scalars
            then are.
    """
    found = dict(_reported(state, ()))
    return {name: jnp.asarray(found[path]) for name, path in zip(shortest_names(list(found)), found, strict=True)}


def _reported(state: OptState, path: Path) -> Iterator[tuple[Path, Any]]:
    for name, value in state._report().items() if hasattr(state, "_report") else ():
        yield (*path, name), value
    if isinstance(state, dict):
        inside = {str(key): value for key, value in state.items()}
    elif hasattr(state, "_fields"):
        inside = dict(zip(state._fields, state, strict=True))
    else:
        inside = {str(i): value for i, value in enumerate(state)} if type(state) in (tuple, list) else {}
    for name, value in inside.items():
        # The words of wrappers' own fields say nothing in a log.
        own = name in ("inner_state", "inner_states")
        yield from _reported(value, path if own else (*path, name))
