"""Decoded data sets, kept as arrays: decoding 70,000 PNG files takes seconds, reading them back none.

Every file carries the fingerprint of its arrays. A file that is damaged, or is not what it says, is made anew.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import atomic
from experiments.errors import ExperimentError, one_line

Arrays = Mapping[str, np.ndarray]

FINGERPRINT = "fingerprint"


def fingerprint(arrays: Arrays) -> str:
    """SHA-256 over names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.data)
    return digest.hexdigest()


def directory() -> Path:
    """`GRADTX_CACHE`, else `gradtx` under `XDG_CACHE_HOME`, else `~/.cache/gradtx`."""
    if chosen := os.environ.get("GRADTX_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gradtx"


def cached(name: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays kept under `name`; made by `make` and kept if they are missing or damaged.

    Args:
        name: Identifies the content: it must change when the source of the arrays does.
        make: Makes the arrays.

    Raises:
        ExperimentError: The cache cannot be written.
    """
    path = directory() / f"{name}.npz"
    arrays = _read(path)
    if arrays is None:
        arrays = make()
        try:
            with atomic.new_file(path) as temporary:
                contents: dict[str, Any] = {FINGERPRINT: np.array(fingerprint(arrays)), **arrays}
                np.savez(temporary, **contents)
        except OSError as error:
            raise ExperimentError(
                f"cannot write the data cache {path}: {one_line(error)}; "
                "set GRADTX_CACHE to a directory that can be written"
            ) from error
    return arrays


def _read(path: Path) -> Arrays | None:
    try:
        # Opened here: np.load leaks the file of an archive that is damaged.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        told = str(arrays.pop(FINGERPRINT))
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile):
        return None
    return arrays if told == fingerprint(arrays) else None
