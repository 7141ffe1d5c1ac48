"""A table of optax's public names, each with what it is in gradtx, computed from both libraries."""

from __future__ import annotations

import inspect
import re
from typing import Any

import optax

import gradtx
from gradtx import _from_optax

SPACES = {"optax": optax, "optax.contrib": optax.contrib, "optax.losses": optax.losses}
KINDS = ("Optimizers and transformations", "Schedules", "Losses", "Functions and types")


def table() -> str:
    """Markdown: a table for each kind of name."""
    rows: dict[str, list[str]] = {kind: [] for kind in KINDS}
    seen: set[str] = set()
    states = 0
    for space, module in SPACES.items():
        for name in sorted(vars(module), key=str.lower):
            value = getattr(module, name)
            if name.startswith("_") or inspect.ismodule(value) or name in seen or not _belongs(value):
                continue
            seen.add(name)
            if name.endswith("State") and name != "OptState":
                states += 1
                continue
            full = f"{space}.{name}"
            rows[kind(name, value)].append(f"| `{full.removeprefix('optax.')}` | {here(full, name, value)} |")
    parts = [f"### {kind}\n\n| optax | here |\n| --- | --- |\n" + "\n".join(rows[kind]) for kind in KINDS if rows[kind]]
    note = (
        f"{states} classes of states are left out: `init` makes them, here too, with optax's field names. Functions "
        "of `optax.tree` work on the trees and states of gradtx as they are."
    )
    return "\n\n".join([*parts, note])


def _belongs(value: Any) -> bool:
    """Whether optax defines it; among its names are those of modules that it imports."""
    return str(getattr(value, "__module__", "optax")).startswith(("optax", "typing", "collections", "functools"))


def kind(name: str, value: Any) -> str:
    """Which table a name is in."""
    ours = getattr(gradtx, name, None) if hasattr(gradtx, name) else None
    if any(value is loss for loss in vars(optax.losses).values()):
        return KINDS[2]
    if inspect.isclass(ours) and issubclass(ours, gradtx.GradientTransformation):
        return KINDS[0]
    if re.search("[sS]chedules?$", name) or (inspect.isclass(ours) and issubclass(ours, gradtx.Schedule)):
        return KINDS[1]
    if "GradientTransformation" in _returned(value) or "gradtx.chain(optax" in _from_optax.hint(name):
        return KINDS[0]
    return KINDS[3]


def _returned(value: Any) -> str:
    try:
        return str(inspect.signature(value).return_annotation)
    except (TypeError, ValueError):
        return ""


def here(full: str, name: str, value: Any) -> str:
    """What to write in place of one name."""
    if full == f"optax.{name}" and hasattr(gradtx, name) and not inspect.ismodule(getattr(gradtx, name)):
        return f"{{py:obj}}`gradtx.{name}`{_other_arguments(value, getattr(gradtx, name))}"
    return _linked(_from_optax.hint(name)) or f"it is optax's alone: `{full}`"


def _linked(text: str) -> str:
    """Code that is a public name of gradtx, as a link."""

    def link(match: re.Match[str]) -> str:
        return f"{{py:obj}}`~gradtx.{match[1]}`" if hasattr(gradtx, match[1]) else match[0]

    return re.sub(r"`gradtx\.(\w+)`", link, text)


def _other_arguments(theirs: Any, ours: Any) -> str:
    """Whether the two are called differently."""
    try:
        names = [list(inspect.signature(function).parameters) for function in (theirs, ours)]
    except (TypeError, ValueError):
        return ""
    if any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(ours).parameters.values()):
        return ""
    return "" if names[1][: len(names[0])] == names[0] else ", with [other arguments](differences.md#arguments)"
