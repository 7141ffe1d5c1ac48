"""The parts of a run that are done, on disk, so that a killed run goes on where it was.

A *part* is a piece of work with a name and a labelled result, such as the sweep of one optimizer. `Store.part` returns
the result that is kept under the name, or has it computed and keeps it. While a part is computed, its `Checkpoint`
keeps the state of the training, so that at most the running epoch is lost.

Nothing here is a pickle: results are netCDF, checkpoints are arrays. A file that does not have its checksum is set
aside, named, and computed again. A store is used by one process at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import xarray as xr

from experiments import atomic, netcdf, sealed
from experiments.errors import ExperimentError, one_line

SPEC, LOCK = "spec.txt", "lock"
PART, CHECKPOINT = ".part", ".checkpoint"

Tree = TypeVar("Tree")


class Checkpoint:
    """Keeps a pytree of arrays and how far the work is. Usage: `load` at the start, `save` as often as it is worth."""

    def __init__(self, path: Path, say: Callable[[str], None]):
        self._path, self._say = path, say

    def load(self, like: Tree) -> tuple[Tree, int] | None:
        """What was saved last: a tree with the structure of `like`, its leaves NumPy arrays, and `done`.

        None where there is nothing, or what there is does not fit `like` or is damaged; it is then set aside.
        """
        leaves, structure = jax.tree.flatten(like)
        try:
            content = sealed.read(self._path)
            if content is None:
                return None
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                saved = [file[f"leaf_{i}"] for i in range(len(file.files) - 1)]
                done = int(file["done"][0])
        except (sealed.DamagedError, ValueError, KeyError, OSError) as error:
            aside = sealed.set_aside(self._path, "damaged")
            self._say(f"{one_line(error)}; it is now {aside.name}, and its part begins again")
            return None
        if [(a.shape, a.dtype) for a in saved] != [(a.shape, np.dtype(a.dtype)) for a in leaves]:
            aside = sealed.set_aside(self._path, "other")
            self._say(f"{self._path} is of another training; it is now {aside.name}, and its part begins again")
            return None
        return structure.unflatten(saved), done

    def save(self, tree: Any, done: int, total: int) -> None:
        """Keep `tree`, in place of what was saved before. So much of `total` is done."""
        leaves = jax.device_get(jax.tree.leaves(tree))
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {f"leaf_{i}": leaf for i, leaf in enumerate(leaves)}
        np.savez(buffer, done=np.array([done, total]), **arrays)
        sealed.write(self._path, buffer.getbuffer())

    def done(self) -> tuple[int, int]:
        """How far the saved work is, and how far it has to go; zeros where there is none."""
        try:
            content = sealed.read(self._path)
            if content is None:
                return 0, 0
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                done, total = file["done"].tolist()
                return done, total
        except (sealed.DamagedError, ValueError, KeyError, OSError):
            return 0, 0

    def remove(self) -> None:
        """The work is done."""
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Store:
    """Parts in a directory. Made by `opened`.

    Attributes:
        directory: Where they are.
        say: Called with a line when something was found damaged.
    """

    directory: Path
    say: Callable[[str], None] = print

    def part(self, name: str, compute: Callable[[Checkpoint], xr.Dataset]) -> xr.Dataset:
        """The part's result, computed now if it is not there. `seconds` in its attributes says how long that took.

        A part that was interrupted counts its seconds from when it was taken up again, and those before.

        Raises:
            ExperimentError: It cannot be written.
        """
        kept = self.find(name)
        if kept is not None:
            return kept
        checkpoint = self.checkpoint(name)
        start = time.perf_counter()
        try:
            result = compute(checkpoint)
            result.attrs |= {"part": name, "seconds": result.attrs.get("seconds", time.perf_counter() - start)}
            sealed.write(self._path(name, PART), netcdf.encode(result))
        except OSError as error:
            raise ExperimentError(f"cannot write to {self.directory}: {one_line(error)}") from error
        checkpoint.remove()
        return result

    def find(self, name: str) -> xr.Dataset | None:
        """The part's result if it is there. A damaged file is set aside."""
        path = self._path(name, PART)
        try:
            content = sealed.read(path)
            return None if content is None else netcdf.decode(content)
        except (sealed.DamagedError, netcdf.NotNetcdfError) as error:
            aside = sealed.set_aside(path, "damaged")
            self.say(f"{one_line(error)}; it is now {aside.name}, and is computed again")
            return None

    def checkpoint(self, name: str) -> Checkpoint:
        """Where the part keeps its unfinished work."""
        return Checkpoint(self._path(name, CHECKPOINT), self.say)

    def seconds(self, file: str) -> float:
        """What a part, by its file's name, took."""
        found = self.find(file)
        return 0.0 if found is None else float(found.attrs["seconds"])

    def names(self) -> list[str]:
        """The files of parts that are done, without their ending."""
        return sorted(path.name.removesuffix(PART) for path in self.directory.glob(f"*{PART}"))

    def _path(self, name: str, ending: str) -> Path:
        return self.directory / f"{file_name(name)}{ending}"


def file_name(part: str) -> str:
    """A part's name as a file's."""
    return re.sub(r"[^A-Za-z0-9.=+-]+", "_", part)


@contextlib.contextmanager
def opened(directory: Path, spec: str, say: Callable[[str], None] = print) -> Iterator[Store]:
    """The store in `directory`, for this process alone.

    Args:
        directory: Made if it is not there.
        spec: All that the parts depend on, as text. Parts of another spec are set aside, whole.
        say: Where to tell what was found.

    Raises:
        ExperimentError: Another process uses it, or it cannot be written.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _alone(directory):
            if _other(directory, spec):
                aside = sealed.set_aside(directory, "former")
                say(f"{directory} was made with other settings or data; it is now {aside.name}")
            directory.mkdir(exist_ok=True)
            with atomic.new_file(directory / SPEC) as temporary:
                temporary.write_text(spec)
            yield Store(directory, say)
    except OSError as error:
        raise ExperimentError(f"cannot write to {directory}: {one_line(error)}") from error


def is_used(directory: Path) -> bool:
    """Whether a process is at work on the store in `directory`."""
    try:
        with _alone(directory):
            return False
    except ExperimentError:
        return True
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the lock, which the system takes back from a process that dies."""
    path = directory.with_name(f".{directory.name}.{LOCK}")
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(handle, 32, 0).decode(errors="replace").strip()
            raise ExperimentError(
                f"another run is at work in {directory} (process {pid or 'unknown'}); wait for it, see how far it is "
                "with: python -m experiments status, or give --results another directory"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _other(directory: Path, spec: str) -> bool:
    """Whether the directory holds parts of another spec."""
    try:
        return (directory / SPEC).read_text() != spec
    except FileNotFoundError:
        return directory.exists() and any(directory.iterdir())
