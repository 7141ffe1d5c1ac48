"""The one exception that a person at the command line is meant to read."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

_HERE = Path(__file__).parent


class ExperimentError(Exception):
    """What went wrong and how to mend it, in one line. The command line prints it and exits with code 2."""


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, or its class when it has none."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def raised_at(error: BaseException) -> str:
    """Where in this code an exception came up, as `file, line n`; empty where it did not pass through it."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _HERE in Path(frame.filename).parents:
            return f"{Path(frame.filename).relative_to(_HERE.parent)}, line {frame.lineno}"
    return ""


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Within, an OSError becomes an `ExperimentError` that begins with `what`, such as "cannot read results"."""
    try:
        yield
    except OSError as error:
        raise ExperimentError(f"{what}: {one_line(error)}") from error
