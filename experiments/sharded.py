"""The state of a training over all devices on disk: each process writes what is on its devices, with Orbax.

A checkpoint is a directory, `<done>-of-<total>`. When Orbax has written all of it, a seal is put beside it: a file that
tells its arrays, and the checksums of its files. What was before is removed after that, so that a run that is killed at
any moment finds a whole one. It is read onto whatever devices there are then, as many as before or not. All processes
must see the directory: with several hosts, it is on a shared disk.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from experiments import distributed, sealed
from experiments.checkpoint import OnDisk
from experiments.errors import one_line

Tree = TypeVar("Tree")

SEAL = ".seal"
_NAME = re.compile(r"(\d+)-of-(\d+)")


class ShardedCheckpoint(OnDisk):
    """Keeps a pytree of arrays and how far the work is; what `Checkpoint` is for work that one process holds."""

    def load(self, like: Tree) -> tuple[Tree, int] | None:
        """What was saved last, laid out over devices as `like` is, and `done`.

        None where there is nothing, or what there is does not fit `like` or is damaged; it is then set aside.
        """
        import orbax.checkpoint as ocp

        leaves, structure = jax.tree.flatten(like)
        found = distributed.from_first(lambda: self._sound(_kept(leaves)))
        if found is None:
            return None
        directory = self._path / found.decode()
        with ocp.StandardCheckpointer() as checkpointer:
            restored = iter(checkpointer.restore(directory.absolute(), list(map(_struct, _kept(leaves)))))
        done, _ = _how_far(directory.name)
        return structure.unflatten([next(restored) if leaf.size else leaf for leaf in leaves]), done

    def save(self, tree: Any, done: int, total: int) -> None:
        """Keep `tree`, in place of what was saved before. So much of `total` is done."""
        import orbax.checkpoint as ocp

        directory = self._path / f"{done}-of-{total}"
        leaves = _kept(jax.tree.leaves(tree))
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(directory.absolute(), leaves, force=True)
        distributed.from_first(lambda: self._seal(directory, leaves))

    def done(self) -> tuple[int, int]:
        """How far the saved work is, and how far it has to go; zeros where there is none."""
        newest = self._newest()
        return (0, 0) if newest is None else _how_far(newest.name)

    def remove(self) -> None:
        """The work is done."""
        distributed.from_first(lambda: shutil.rmtree(self._path, ignore_errors=True))

    def _newest(self) -> Path | None:
        """The checkpoint that is furthest, of those that were written to the end."""
        names = [path.name.removesuffix(SEAL) for path in self._path.glob(f"*-of-*{SEAL}")]
        whole = [name for name in names if _NAME.fullmatch(name)]
        return self._path / max(whole, key=_how_far) if whole else None

    def _seal(self, directory: Path, leaves: list[Any]) -> None:
        content = json.dumps({"arrays": _described(leaves), "files": _checksums(directory)})
        sealed.write(_seal_of(directory), content.encode())
        for path in self._path.iterdir():
            if path not in (directory, _seal_of(directory)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _sound(self, leaves: list[Any]) -> bytes | None:
        """The name of the newest checkpoint, if all its files are there and its arrays are like `leaves`."""
        directory = self._newest()
        if directory is None:
            return None
        try:
            content = sealed.read(_seal_of(directory))
            told = json.loads(content or b"{}")
            if told.get("files") != _checksums(directory):
                raise sealed.DamagedError(
                    f"{self._path} is damaged: the files of {directory.name} do not have the checksums in its seal"
                )
        except (sealed.DamagedError, ValueError, OSError) as error:
            return self._set_aside("damaged", one_line(error))
        if told.get("arrays") != _described(leaves):
            return self._set_aside("other", f"{self._path} is of another training")
        return directory.name.encode()


def _kept(leaves: list[Any]) -> list[Any]:
    """Orbax refuses arrays of size 0; there is nothing in them to keep."""
    return [leaf for leaf in leaves if leaf.size]


def _struct(leaf: Any) -> Any:
    """What Orbax makes an array like: on the host where `leaf` is NumPy's."""
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return np.empty_like(leaf)


def _described(leaves: list[Any]) -> list[list[Any]]:
    return [[list(leaf.shape), str(leaf.dtype)] for leaf in leaves]


def _checksums(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): sealed.checksum(path.read_bytes()) for path in files}


def _seal_of(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}{SEAL}")


def _how_far(name: str) -> tuple[int, int]:
    match = _NAME.fullmatch(name)
    assert match is not None, name
    return int(match[1]), int(match[2])
