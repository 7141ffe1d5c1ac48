"""The state of a training over all devices on disk: each process writes what is on its devices, with Orbax.

A checkpoint is a directory, `<done>-of-<total>`, that Orbax gives its name when all of it is written; the one before is
removed after that. So a run that is killed at any moment finds a whole one. It is read onto whatever devices there are
then, as many as before or not. All processes must see the directory: with several hosts, it is on a shared disk.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from experiments import distributed, sealed
from experiments.errors import one_line

Tree = TypeVar("Tree")

_NAME = re.compile(r"(\d+)-of-(\d+)")


class ShardedCheckpoint:
    """Keeps a pytree of arrays and how far the work is; what `Checkpoint` is for work that one process holds."""

    def __init__(self, path: Path, say: Callable[[str], None]):
        self._path, self._say = path, say

    def load(self, like: Tree) -> tuple[Tree, int] | None:
        """What was saved last, laid out over devices as `like` is, and `done`.

        None where there is nothing, or what there is does not fit `like` or is damaged; it is then set aside.
        """
        import orbax.checkpoint as ocp

        found = distributed.from_first(self._newest)
        if found is None:
            return None
        directory = self._path / found.decode()
        leaves, structure = jax.tree.flatten(like)
        wanted = [_struct(leaf) for leaf in leaves if leaf.size]
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                restored = iter(checkpointer.restore(directory.absolute(), wanted))
        except Exception as error:  # what is damaged or of another training surfaces as many kinds
            self._set_aside(directory, one_line(error))
            return None
        return structure.unflatten([next(restored) if leaf.size else leaf for leaf in leaves]), _how_far(
            directory.name
        )[0]

    def save(self, tree: Any, done: int, total: int) -> None:
        """Keep `tree`, in place of what was saved before. So much of `total` is done."""
        import orbax.checkpoint as ocp

        directory = self._path / f"{done}-of-{total}"
        with ocp.StandardCheckpointer() as checkpointer:
            # Orbax refuses arrays of size 0; there is nothing in them to keep.
            checkpointer.save(directory.absolute(), [leaf for leaf in jax.tree.leaves(tree) if leaf.size], force=True)
        distributed.from_first(lambda: self._remove_but(directory))

    def done(self) -> tuple[int, int]:
        """How far the saved work is, and how far it has to go; zeros where there is none."""
        try:
            newest = self._newest()
        except OSError:
            return 0, 0
        return (0, 0) if newest is None else _how_far(newest.decode())

    def remove(self) -> None:
        """The work is done."""
        distributed.from_first(lambda: shutil.rmtree(self._path, ignore_errors=True))

    def _newest(self) -> bytes | None:
        """The name of the checkpoint that is furthest. One that is still being written has another form."""
        names = [path.name for path in self._path.glob("*-of-*") if _NAME.fullmatch(path.name)]
        return max(names, key=_how_far).encode() if names else None

    def _remove_but(self, kept: Path) -> None:
        """What was before, and what a killed process left half written."""
        for path in self._path.iterdir():
            if path != kept and not path.name.startswith(f"{kept.name}."):
                shutil.rmtree(path, ignore_errors=True)

    def _set_aside(self, directory: Path, why: str) -> None:
        def move() -> None:
            aside = sealed.set_aside(directory, "other")
            self._say(f"{directory} cannot be used ({why}); it is now {aside.name}, and its part begins again")

        distributed.from_first(move)


def _struct(leaf: Any) -> Any:
    """What Orbax makes an array like: on the host where `leaf` is NumPy's."""
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return np.empty_like(leaf)


def _how_far(name: str) -> tuple[int, int]:
    match = _NAME.fullmatch(name)
    assert match is not None, name
    return int(match[1]), int(match[2])
