"""The parts of a run that are done, on disk, so that a killed run goes on where it was.

A *part* is a piece of work with a name and a labelled result, such as the sweep of one optimizer. `Store.part` returns
the result that is kept under the name, or has it computed and keeps it. While a part is computed, its `Checkpoint`
keeps the state of the training, so that little is lost: `experiments.sweep` says how much.

Nothing here is a pickle: results are netCDF, checkpoints are arrays. A file that does not have its checksum is set
aside, named, and computed again. A store is used by one run at a time; of several processes that share a run
(`experiments.distributed`), the first alone reads and writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from experiments import atomic, distributed, netcdf, sealed
from experiments.checkpoint import Checkpoint as Checkpoint
from experiments.errors import ExperimentError, explained, one_line
from experiments.sharded import ShardedCheckpoint as ShardedCheckpoint

SPEC, LOCK, FORMER = "spec.txt", "lock", "former"
PART, CHECKPOINT, SHARDED = ".part", ".checkpoint", ".sharded"

PATIENCE = 0.5
"""Seconds to wait for a lock: whoever asks how far a run is holds it for a moment."""


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

        Of a part that was interrupted these are the seconds since it was taken up again, unless its result has
        `seconds` of its own: those before are in its checkpoint then.

        Raises:
            ExperimentError: The files cannot be read or written.
        """
        return self._part(name, compute, self.checkpoint(name))

    def sharded_part(self, name: str, compute: Callable[[ShardedCheckpoint], xr.Dataset]) -> xr.Dataset:
        """The same of work whose state is spread over processes; each of them writes its own."""
        return self._part(name, compute, self.sharded_checkpoint(name))

    def _part(self, name: str, compute: Callable[[Any], xr.Dataset], checkpoint: Any) -> xr.Dataset:
        start = time.perf_counter()
        with explained(f"cannot read or write in {self.directory}"):
            kept = self.find(name)
            if kept is not None:
                return kept
            result = compute(checkpoint)
            result.attrs |= {"part": name, "seconds": result.attrs.get("seconds", time.perf_counter() - start)}
            distributed.from_first(lambda: sealed.write(self._path(name, PART), netcdf.encode(result)))
        checkpoint.remove()
        return result

    def find(self, name: str) -> xr.Dataset | None:
        """The part's result if it is there. A damaged file is set aside."""
        content = distributed.from_first(lambda: self._sound(name))
        return None if content is None else netcdf.decode(content)

    def checkpoint(self, name: str) -> Checkpoint:
        """Where the part keeps its unfinished work."""
        return Checkpoint(self._path(name, CHECKPOINT), self.say)

    def sharded_checkpoint(self, name: str) -> ShardedCheckpoint:
        """The same of a part whose state is spread over processes."""
        return ShardedCheckpoint(self._path(name, SHARDED), self.say)

    def spec(self) -> str | None:
        """What `opened` was told, if it ever was."""
        try:
            return (self.directory / SPEC).read_text(errors="replace")
        except FileNotFoundError:
            return None

    def seconds(self, file: str) -> float:
        """What a part, by its file's name, took. Changes nothing: a run may be at work."""
        try:
            content = sealed.read(self._path(file, PART))
            return 0.0 if content is None else float(netcdf.decode(content).attrs.get("seconds", 0.0))
        except (sealed.DamagedError, netcdf.NotNetcdfError, OSError):
            return 0.0

    def names(self) -> list[str]:
        """The files of parts that are done, without their ending. Hidden files are still being written."""
        return sorted(path.name.removesuffix(PART) for path in self.directory.glob(f"[!.]*{PART}"))

    def _sound(self, name: str) -> bytes | None:
        """The part's file, if it can be read; set aside if not."""
        path = self._path(name, PART)
        try:
            content = sealed.read(path)
            if content is not None and (held := netcdf.decode(content).attrs.get("part")) != name:
                raise sealed.DamagedError(f"{path} is not of the part {name!r}, but of {held!r}")
        except (sealed.DamagedError, netcdf.NotNetcdfError) as error:
            aside = sealed.set_aside(path, "damaged")
            self.say(f"{one_line(error)}; it is now {aside.name}, and is computed again")
            return None
        return content

    def _path(self, name: str, ending: str) -> Path:
        return self.directory / f"{file_name(name)}{ending}"


def file_name(part: str) -> str:
    """A part's name as a file's."""
    return re.sub(r"[^A-Za-z0-9.=+-]+", "_", part)


@contextlib.contextmanager
def opened(directory: Path, spec: str, say: Callable[[str], None] = print) -> Iterator[Store]:
    """The store in `directory`, for this run alone.

    Args:
        directory: Made if it is not there.
        spec: All that the parts depend on, as text. Parts of another spec are set aside, whole, and found again there
            when it comes back.
        say: Where to tell what was found.

    Raises:
        ExperimentError: Another process uses it, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:

        def open_first() -> None:
            with explained(f"cannot write to {directory}"):
                directory.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_alone(directory))
                _prepare(directory, spec, say)

        distributed.from_first(open_first)
        yield Store(directory, say)


def is_used(directory: Path) -> bool:
    """Whether a process is at work on the store in `directory`."""
    try:
        handle = os.open(_lock(directory), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the lock, which the system takes back from a process that dies."""
    handle = os.open(_lock(directory), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _taken(handle):
            pid = os.pread(handle, 32, 0).decode(errors="replace").strip()
            raise ExperimentError(
                f"another run is at work in {directory} (process {pid or 'unknown'}); wait for it, or give --results "
                "another directory"
            )
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    """Take the lock, if it can be had in time."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(PATIENCE / 20)
        else:
            return True


def _lock(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.{LOCK}")


def _prepare(directory: Path, spec: str, say: Callable[[str], None]) -> None:
    """A directory whose parts are of this spec, or an empty one. The lock must be held."""
    if directory.exists() and any(directory.iterdir()) and Store(directory).spec() != spec:
        aside = sealed.set_aside(directory, FORMER)
        say(f"{directory} was made with other settings or data; it is now {aside.name}")
    if not directory.exists():
        for former in sorted(directory.parent.glob(f"{directory.name}.{FORMER}-*")):
            if Store(former).spec() == spec:
                os.replace(former, directory)
                say(f"{former.name} was made with these settings and data; the run goes on with it")
                break
    directory.mkdir(exist_ok=True)
    atomic.remove_leftovers(directory)
    with atomic.new_file(directory / SPEC) as temporary:
        temporary.write_text(spec)
