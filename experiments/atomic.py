"""Files and directories that appear whole or not at all.

What is new is written beside its place, synced, and moved there by one rename.
A failure on the way (a full disk, Ctrl-C) removes it, and leaves what was there before untouched.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NEW, _FORMER = ".new-", ".former-"


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; what the block writes there becomes `path` when it ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes a private file; results are as readable as any other.
        temporary.chmod(0o666 & ~umask())
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory; it takes the place of `path`, and of all in it, when the block ends well.

    A directory cannot be renamed onto a full one, so the former one steps aside first. What a killed process left
    behind is removed by the next call; if that was between the two renames, the former directory is put back.
    """
    existing = [parent for parent in path.parents if parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.parent):
        _clear(path)
        staged = Path(tempfile.mkdtemp(prefix=f".{path.name}{_NEW}", dir=path.parent))
        mine = _hold(staged)
    try:
        yield staged
        for file in staged.rglob("*"):
            if file.is_file():
                _sync(file)
        staged.chmod(0o777 & ~umask())
        with _alone(path.parent):
            _take_place(staged, path)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        _remove_empty(path.parent, keep=existing[0])
        raise
    finally:
        os.close(mine)


def remove_leftovers(directory: Path) -> None:
    """Remove what killed processes left of `new_file`. For a directory that no other process writes to."""
    for file in directory.glob(".*"):
        if file.is_file():
            file.unlink()


def check_writable(path: Path, *, free_bytes: int) -> None:
    """Raise OSError if `path` could not be made now: before hours of work, not after. Leaves no trace."""
    parent = path.absolute()
    while not parent.exists():
        parent = parent.parent
    with tempfile.TemporaryFile(dir=parent):
        pass
    if shutil.disk_usage(parent).free < free_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(parent))


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One process or thread at a time, so that two runs do not step on each other's renames."""
    handle = _hold(directory, wait=True)
    try:
        yield
    finally:
        os.close(handle)


def _hold(directory: Path, *, wait: bool = False) -> int:
    """Lock a directory, until the handle is closed or the process dies. Raises BlockingIOError if another has it."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _clear(path: Path) -> None:
    """Put back or remove what dead processes left beside `path`. Its parent must be locked."""
    for former in path.parent.glob(f".{path.name}{_FORMER}*"):
        if not path.exists() and any(former.iterdir()):
            os.replace(former, path)
        shutil.rmtree(former, ignore_errors=True)
    for staged in path.parent.glob(f".{path.name}{_NEW}*"):
        with contextlib.suppress(BlockingIOError):  # its process lives
            os.close(_hold(staged))
            shutil.rmtree(staged, ignore_errors=True)


def _take_place(staged: Path, path: Path) -> None:
    if not path.exists():
        os.replace(staged, path)
        return
    former = Path(tempfile.mkdtemp(prefix=f".{path.name}{_FORMER}", dir=path.parent))
    os.replace(path, former)
    try:
        os.replace(staged, path)
    except BaseException:
        os.replace(former, path)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _remove_empty(directory: Path, *, keep: Path) -> None:
    """Remove `directory` and its parents below `keep`, as far as they are empty."""
    with contextlib.suppress(OSError):
        while directory != keep:
            directory.rmdir()
            directory = directory.parent


def _sync(file: Path) -> None:
    """Write through to the disk: on some file systems only this finds out that it is full."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def umask() -> int:
    """What the process keeps back of a new file's permissions."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
