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

    >>> import jax.numpy as jnp, gradtx
    >>> list(gradtx.report(gradtx.guard(gradtx.sgd(0.1)).init(jnp.ones(3))))
    ['skipped_in_a_row', 'total_notfinite', 'total_spikes', 'is_stuck']

    A state class takes part by a method `_report(self)` that returns its scalars by name. The key is that name where it
    is unique in the state, and otherwise the whole path to it: `0.norm`, `head.norm`. The path leaves out
    `inner_state`, unless a wrapper is inside another one with the same name: `inner_state.total_notfinite`.

    Args:
        state: What `init` or `update` returned, however nested. If it was stacked by `scan` or `vmap`, so are the
            scalars.
    """
    found: dict[Path, Any] = {}
    for path, value in _reported(state, ()):
        short = tuple(name for name in path if name not in _WRAPPERS_FIELDS)
        found[path if short in found else short] = value
    return {name: jnp.asarray(found[path]) for name, path in zip(shortest_names(list(found)), found, strict=True)}


def _reported(state: OptState, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(state, type):  # a class, whose method has no state to read
        return
    for name, value in state._report().items() if hasattr(state, "_report") else ():
        yield (*path, name), value
    if isinstance(state, dict):
        inside = {str(key): value for key, value in state.items()}
    elif hasattr(state, "_fields"):
        inside = dict(zip(state._fields, state, strict=True))
    else:
        inside = {str(i): value for i, value in enumerate(state)} if type(state) in (tuple, list) else {}
    for name, value in inside.items():
        yield from _reported(value, (*path, name))


_WRAPPERS_FIELDS = ("inner_state", "inner_states")
"""Names that say nothing in a log, unless it takes them to tell two entries apart."""
