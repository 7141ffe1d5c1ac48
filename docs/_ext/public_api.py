"""The API reference as text: the public names of `gradtx/__init__.py`, under the headings that comments are there, and
those of the public modules. A new name costs its import line and no other.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pathlib
import re
from typing import Annotated, get_args, get_origin

from gradtx._core.fields import Range

MODULES = {"gradtx.learned": "Learned optimizers", "gradtx.testing": "Testing", "gradtx.interop": "Interop"}
INTROS = {
    "gradtx.learned": "Transformations whose leaves are a network's weights: `jax.grad` with respect to `tx` is "
    "meta-training, and an\nordinary optimizer updates `tx`. What they reach, and where they fail, is in "
    "[What was found](studies.md#learning-to-learn)."
}
BASE_MEMBERS = {
    "GradientTransformation": "init, update, gradient_params, eval_params, replace",
    "Recipe": "parts",
    "Schedule": "at, __call__",
}


# Names


def source_of(module: str) -> str:
    """The text of a module."""
    return pathlib.Path(inspect.getfile(importlib.import_module(module))).read_text()


def exports(module: str) -> list[tuple[str, list[str]]]:
    """Public names of a module under its headings, in the order of the source.

    A heading is a comment that stands alone between two statements at the left margin. Public are `x as x` imports, and
    functions, classes and constants that the module defines.
    """
    text = source_of(module)
    found: list[tuple[int, str, str]] = []
    statements = ast.parse(text).body
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("# ") and not any(s.lineno <= number <= (s.end_lineno or 0) for s in statements):
            found.append((number, "heading", line.removeprefix("# ").strip()))
    for statement in statements:
        found += [(statement.lineno, "name", name) for name in _names(statement) if not name.startswith("_")]
    groups: list[tuple[str, list[str]]] = [("", [])]
    for _, kind, word in sorted(found, key=lambda item: item[0]):
        if kind == "heading":
            groups.append((word, []))
        elif not inspect.ismodule(getattr(importlib.import_module(module), word)):
            groups[-1][1].append(word)
    return [(heading, names) for heading, names in groups if names]


def _names(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.ImportFrom):
        return [alias.name for alias in statement.names if alias.asname == alias.name]
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return [statement.name]
    return []


def reference() -> str:
    """All sections of the API page, as MyST."""
    sections = [_section(heading or "More", "gradtx", names) for heading, names in exports("gradtx")]
    for module, heading in MODULES.items():
        names = [name for _, group in exports(module) for name in group]
        sections.append(_section(heading, module, names, INTROS.get(module, "")))
    return "\n".join(sections)


def _section(heading: str, module: str, names: list[str], intro: str = "") -> str:
    directives = "\n".join(directive(module, name) for name in names)
    # Entries are named from the root, so that a link is the same in all sections.
    return f"## {heading}\n\n{intro}\n\n```{{eval-rst}}\n{directives}\n```\n"


def directive(module: str, name: str) -> str:
    """The reST that documents one name."""
    value = getattr(importlib.import_module(module), name)
    full = f"{module}.{name}"
    if inspect.isclass(value):
        if value.__name__ != name:
            return f".. py:class:: {full}\n\n   Another name of :py:class:`{module}.{value.__name__}`.\n"
        options = [f":members: {BASE_MEMBERS[name]}"] if name in BASE_MEMBERS else []
        if _is_enum(value):
            options = [":members:", ":undoc-members:", ":member-order: bysource"]
        if issubclass(value, Exception):
            options = [":show-inheritance:"]
        return "\n".join([f".. autoclass:: {full}", *(f"   {option}" for option in options), ""])
    if inspect.isroutine(value):
        return f".. autofunction:: {full}\n"
    return f".. py:data:: {full}\n\n   {said_about(module, name)}\n"


def _is_enum(value: type) -> bool:
    return any(base.__name__ in ("IntEnum", "Enum") for base in value.__mro__)


def said_about(module: str, name: str) -> str:
    """The docstring under a constant or an alias, or the range of an annotation."""
    text = _attribute_docstring(module, name)
    if not text:
        value = getattr(importlib.import_module(module), name)
        marks = get_args(value)[1:] if get_origin(value) is Annotated else ()
        words = next((mark.words for mark in reversed(marks) if isinstance(mark, Range)), "")
        kind = "static" if "static" in marks or "data" not in marks else "data"
        text = f"{words or 'anything'}; {kind}."
        text = text[0].upper() + text[1:]
    return re.sub(r"`([^`]+)`", r"``\1``", " ".join(text.split()))


def _attribute_docstring(module: str, name: str) -> str:
    """The string after `name = ...` in the module that defines it, to which imports lead."""
    statements = ast.parse(source_of(module)).body
    for statement, after in zip(statements, [*statements[1:], None], strict=True):
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            text = getattr(getattr(after, "value", None), "value", "")
            return text if isinstance(text, str) else ""
        if isinstance(statement, ast.ImportFrom) and name in [alias.asname or alias.name for alias in statement.names]:
            package = importlib.import_module(module).__package__ or ""
            origin = importlib.util.resolve_name("." * statement.level + (statement.module or ""), package)
            return _attribute_docstring(origin, name)
    return ""
