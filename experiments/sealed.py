"""Files that tell whether they are whole: one line with the SHA-256 of what follows, then what follows.

One file, so that the content and its checksum appear together or not at all.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

from experiments import atomic

DIGEST_LENGTH = hashlib.sha256().digest_size * 2


class DamagedError(Exception):
    """A file is not what was written."""


def write(path: Path, content: bytes) -> None:
    """Write the file, whole or not at all."""
    with atomic.new_file(path) as temporary, temporary.open("wb") as file:
        file.write(checksum(content).encode() + b"\n")
        file.write(content)


def read(path: Path) -> bytes | None:
    """The content, or None where there is no file.

    Raises:
        DamagedError: The file is truncated, or changed, or was not written by `write`.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    told, content = raw[: DIGEST_LENGTH + 1], raw[DIGEST_LENGTH + 1 :]
    if told != checksum(content).encode() + b"\n":
        raise DamagedError(f"{path} is damaged: its content does not have the checksum in its first line")
    return content


def checksum(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def set_aside(path: Path, why: str) -> Path:
    """Rename `path` to `<path>.<why>-<n>`, so that nothing is lost and the name is free. Returns the new path."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.{why}-{number}")
        if not aside.exists():
            os.replace(path, aside)
            return aside
    raise AssertionError("count() does not end")
