"""gradtx's docstrings for Sphinx.

They are written to be read in an editor: `$...$` and `$$...$$`, single backticks, one idea a line. Here they become
reST, before napoleon reads their sections; signatures show annotations as they are written; and a recipe gets the entry
of its part for each argument that its own docstring leaves out.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

import gradtx
from gradtx._core.data import PyTreeNode

FIELDS = {"ema", "trace"}  # of states, more often than the transformations of these names
PUBLIC = {name for name, value in vars(gradtx).items() if not name.startswith("_") and not inspect.ismodule(value)}
LABEL = re.compile(r"(State|Units|Source|Differs): ")
ITEM = re.compile(r"\d+\. ")
SECTION = re.compile(r"(Args|Attributes|Raises|Returns):$")
ENTRY = re.compile(r"    (\w+): ")
FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
ORDER = ("Args:", "Returns:", "Raises:", "Source:", "Differs:")


def setup(app: Any) -> dict[str, bool]:
    """Register before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", docstring, priority=400)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True}


def docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """`lines` as reST, in place."""
    arguments: set[str] = set()
    if inspect.isclass(obj) and issubclass(obj, PyTreeNode):
        arguments = set(field_names(obj))
        lines[:] = with_inherited_arguments(obj)
    # What an argument is called, or the thing itself, is no link.
    plain = arguments | FIELDS | {name.rpartition(".")[2]}
    lines[:] = to_rest("\n".join(lines), plain)


# Arguments


def with_inherited_arguments(cls: Any) -> list[str]:
    """The docstring of a class, with an entry for each field that one of its parts documents and it does not."""
    lines = inspect.cleandoc(cls.__doc__ or "").splitlines()
    own = entries(lines)
    inherited = {name: entry for part in parts_of(cls) for name, entry in reversed(all_entries(part).items())}
    names = [name for name in field_names(cls) if name in own or name in inherited]
    if set(names) <= own.keys():
        return lines
    section = [line for name in names for line in own.get(name, inherited.get(name, []))]
    if own:
        start = lines.index("Args:") + 1
        end = next((i for i in range(start, len(lines)) if lines[i] and not lines[i].startswith(" ")), len(lines))
        return [*lines[:start], *section, "", *lines[end:]]
    end = next((i for i, line in enumerate(lines) if line.startswith(ORDER)), len(lines))
    return [*lines[:end], *([""] if end and lines[end - 1] else []), "Args:", *section, "", *lines[end:]]


def field_names(cls: Any) -> list[str]:
    """The fields of a class that is a dataclass."""
    return [field.name for field in dataclasses.fields(cls)]


def all_entries(cls: type[PyTreeNode]) -> dict[str, list[str]]:
    """Of every documented field, what is said about it."""
    return entries(with_inherited_arguments(cls))


def parts_of(cls: type) -> Iterator[type[PyTreeNode]]:
    """The classes that `parts` makes, the one that the docstring names first last; none for what is no recipe."""
    if not issubclass(cls, gradtx.Recipe) or cls is gradtx.Recipe:
        return
    parts, text = inspect.unwrap(cls.parts), cls.__doc__ or ""
    for name in sorted(parts.__code__.co_names, key=lambda name: text.find(f"`{name}`") % len(text), reverse=True):
        part = parts.__globals__.get(name)
        if inspect.isclass(part) and issubclass(part, PyTreeNode) and part is not cls:
            yield part


def entries(lines: list[str]) -> dict[str, list[str]]:
    """The lines of each argument in the section `Args:`."""
    found: dict[str, list[str]] = {}
    inside, current = False, None
    for line in lines:
        if line and not line.startswith(" "):
            inside = line == "Args:"
        elif inside and line:
            if match := ENTRY.match(line):
                current = found.setdefault(match[1], [])
            if current is not None:
                current.append(line)
    return found


# reST


def to_rest(text: str, plain: set[str]) -> list[str]:
    """A docstring as lines of reST; `plain` are names that are not to be linked."""
    text = FORMULA.sub(lambda match: f"\n.. math::\n\n   {' '.join(match[1].split())}\n", text)
    new: list[str] = []
    in_section = verbatim = False
    for line in text.splitlines():
        indented = line.startswith(" ")
        if line and not indented:
            in_section, verbatim = bool(SECTION.match(line)), line.startswith(".. math::")
        elif indented and not in_section and not verbatim and not new[-1].strip():
            new += ["::", ""]
            verbatim = True
        if verbatim:
            new.append(line)
            continue
        if LABEL.match(line):
            new.append("")
            line = LABEL.sub(r"**\1:** ", line)
        elif line and new and ITEM.match(new[-1]) and not ITEM.match(line):
            new.append("")
        new.append(inline(line, plain))
    return new


def inline(line: str, plain: set[str]) -> str:
    """Code, links to public names, and formulas."""

    def code(match: re.Match[str]) -> str:
        name = match[1].removeprefix("gradtx.")
        link = name in PUBLIC and (name != match[1] or name not in plain)
        glue = "\\ " if match[2] else ""  # reST wants a boundary behind the markup
        return (f":py:obj:`~gradtx.{name}`" if link else f"``{match[1]}``") + glue

    line = re.sub(r"(?<![`:])`([^`]+)`(?!`)(?=(\w)?)", code, line)
    return re.sub(r"\$([^$]+)\$", r":math:`\1`", line)


# Signatures


def signature(app: Any, what: str, name: str, obj: Any, options: Any, args: str | None, returns: str | None) -> Any:
    """The constructor's parameters, with annotations as written."""
    if not inspect.isclass(obj) or not issubclass(obj, PyTreeNode):
        return None
    if not field_names(obj) and "__init__" not in vars(obj):
        return ("()" if obj not in BASES else ""), None
    parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
    return str(inspect.Signature([p.replace(annotation=Written(p.annotation)) for p in parameters])), None


BASES = {gradtx.GradientTransformation, gradtx.Stateless, gradtx.Recipe, gradtx.Schedule}


class Written:
    """An annotation whose repr is what stands in the source, without `Annotated` and module names."""

    def __init__(self, annotation: Any):
        if not isinstance(annotation, str):
            annotation = typing.get_args(annotation)[0] if typing.get_args(annotation) else annotation
            annotation = annotation.__name__ if inspect.isclass(annotation) else str(annotation)
            annotation = re.sub(r"\b[a-z_]+(\.\w+)*\.(?=[A-Z])", "", annotation)
        annotated = re.match(r'Annotated\[(.*), "(data|static)".*\]$', annotation, re.DOTALL)
        self.text = annotated[1] if annotated else annotation

    def __repr__(self) -> str:
        return self.text
