"""The one exception that a person at the command line is meant to read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class ExperimentError(Exception):
    """What went wrong and how to mend it, in one line. The command line prints it and exits with code 2."""


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, or its class when it has none."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Within, an OSError becomes an `ExperimentError` that begins with `what`, such as "cannot read results"."""
    try:
        yield
    except OSError as error:
        raise ExperimentError(f"{what}: {one_line(error)}") from error
