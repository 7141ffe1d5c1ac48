"""gradtx's docstrings for Sphinx.

They are written to be read in an editor: `$...$` and `$$...$$`, single backticks, one idea a line. Here they become
reST, before napoleon reads their sections; and signatures show annotations as they are written.
"""

from __future__ import annotations

import inspect
import re
import typing
from typing import Any

import gradtx
from gradtx._core.configured import Configured, Factory

FIELDS = {"ema", "trace"}  # of states, more often than the functions of these names
PUBLIC = {name for name, value in vars(gradtx).items() if not name.startswith("_") and not inspect.ismodule(value)}
LABEL = re.compile(r"(State|Units|Source|Differs): ")
LAW = re.compile(r"(\d) (`\w+`: .*)")
SECTION = re.compile(r"(Args|Attributes|Raises|Returns):$")
FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)


def setup(app: Any) -> dict[str, bool]:
    """Register before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", docstring, priority=400)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True}


def docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """`lines` as reST, in place."""
    factory = getattr(obj, "factory", None)
    arguments = {argument.name for argument in factory.arguments} if isinstance(factory, Factory) else set()
    # What an argument is called, or the thing itself, is no link.
    plain = arguments | FIELDS | {name.rpartition(".")[2]}
    lines[:] = to_rest("\n".join(lines), plain)


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
        elif LAW.match(line):
            line = LAW.sub(r"\1. \2", line)
        elif line and new and re.match(r"\d\. ", new[-1]):
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


def signature(app: Any, what: str, name: str, obj: Any, options: Any, args: str | None, returns: str | None) -> Any:
    """Of decorated functions: annotations as written, and what a call really returns."""
    if inspect.isclass(obj) and issubclass(obj, Configured):
        return "", ""  # factories make them
    factory = getattr(obj, "factory", None)
    if not isinstance(factory, Factory):
        return None
    parameters = [p.replace(annotation=Written(p.annotation)) for p in factory.signature.parameters.values()]
    return str(inspect.Signature(parameters)), factory.cls.__name__


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
