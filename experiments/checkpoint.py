"""The state of a training on disk, so that at most the running call is lost. Arrays and no pickle; sealed."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
import numpy as np

from experiments import distributed, sealed
from experiments.errors import one_line

Tree = TypeVar("Tree")


class Kept(Protocol):
    """What keeps a pytree of arrays and how far the work is."""

    def load(self, like: Tree) -> tuple[Tree, int] | None:
        """What was saved last, and `done`; None where there is nothing that fits `like`."""
        ...

    def save(self, tree: Any, done: int, total: int) -> None:
        """Keep `tree`, in place of what was saved before. So much of `total` is done."""
        ...


class Paced:
    """A checkpoint that is written no more often than it is worth.

    Args:
        checkpoint: What is written; None keeps nothing.
        seconds: From one time to the next, at least.
    """

    def __init__(self, checkpoint: Kept | None, seconds: float):
        self._checkpoint, self._seconds, self._last = checkpoint, seconds, time.monotonic()

    def load(self, like: Tree) -> tuple[Tree, int] | None:
        """What the checkpoint has."""
        return None if self._checkpoint is None else self._checkpoint.load(like)

    def is_due(self, done: int, total: int) -> bool:
        """Whether it is time to save, and the work is not done. All processes ask together, and get one answer."""
        if self._checkpoint is None or done >= total:
            return False
        return distributed.agreed(time.monotonic() - self._last > self._seconds)

    def save(self, tree: Any, done: int, total: int) -> None:
        """When it is due."""
        assert self._checkpoint is not None
        self._checkpoint.save(tree, done, total)
        self._last = time.monotonic()


class OnDisk:
    """A place on disk, from which what cannot be used is set aside."""

    def __init__(self, path: Path, say: Callable[[str], None]):
        self._path, self._say = path, say

    def _set_aside(self, why: str, said: str) -> None:
        aside = sealed.set_aside(self._path, why)
        self._say(f"{said}; it is now {aside.name}, and its part begins again")


class Checkpoint(OnDisk):
    """Keeps a pytree of arrays and how far the work is. Usage: `load` at the start, `save` as often as it is worth."""

    def load(self, like: Tree) -> tuple[Tree, int] | None:
        """What was saved last: a tree with the structure of `like`, its leaves NumPy arrays, and `done`.

        None where there is nothing, or what there is does not fit `like` or is damaged; it is then set aside.
        """
        leaves, structure = jax.tree.flatten(like)
        content = distributed.from_first(lambda: self._sound(leaves))
        if content is None:
            return None
        (done, _), saved = _unpack(content)
        return structure.unflatten(saved), done

    def save(self, tree: Any, done: int, total: int) -> None:
        """Keep `tree`, in place of what was saved before. So much of `total` is done."""
        leaves = jax.device_get(jax.tree.leaves(tree))
        distributed.from_first(lambda: sealed.write(self._path, _pack((done, total), leaves)))

    def done(self) -> tuple[int, int]:
        """How far the saved work is, and how far it has to go; zeros where there is none."""
        try:
            content = sealed.read(self._path)
            return (0, 0) if content is None else _unpack(content)[0]
        except (sealed.DamagedError, NotCheckpointError, OSError):
            return 0, 0

    def remove(self) -> None:
        """The work is done."""
        distributed.from_first(lambda: self._path.unlink(missing_ok=True))

    def _sound(self, leaves: Sequence[Any]) -> bytes | None:
        """The file, if it can be read and its arrays are like `leaves`."""
        try:
            content = sealed.read(self._path)
            if content is None:
                return None
            _, saved = _unpack(content)
        except (sealed.DamagedError, NotCheckpointError) as error:
            return self._set_aside("damaged", one_line(error))
        if [(a.shape, a.dtype) for a in saved] != [(a.shape, np.dtype(a.dtype)) for a in leaves]:
            return self._set_aside("other", f"{self._path} is of another training")
        return content


class NotCheckpointError(Exception):
    """The bytes are not a checkpoint."""


def _pack(done: tuple[int, int], leaves: Sequence[Any]) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"leaf_{i}": leaf for i, leaf in enumerate(leaves)}
    np.savez(buffer, done=np.array(done), **arrays)
    return buffer.getvalue()


def _unpack(content: bytes) -> tuple[tuple[int, int], list[np.ndarray]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            done, total = map(int, file["done"])
            leaves = [file[f"leaf_{i}"] for i in range(len(file.files) - 1)]
    except Exception as error:  # what is no archive of arrays surfaces as many kinds
        raise NotCheckpointError(f"not a checkpoint: {one_line(error)}") from error
    if not 0 <= done <= total:
        raise NotCheckpointError(f"not a checkpoint: {done} of {total} are done")
    return (done, total), leaves
