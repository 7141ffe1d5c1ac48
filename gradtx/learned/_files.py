"""Learned optimizers as files: arrays and one line of JSON in an `.npz`, and never a pickle."""

from __future__ import annotations

import io
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._config import from_config, to_config
from .._core.contract import GradientTransformation

File: TypeAlias = str | os.PathLike[str] | io.BufferedIOBase

# Names inside a file. They are the format: a file of any version is read.
_HEADER, _METADATA, _PREFIX = "told", "about", "weights/"

_SHIPPED = resources.files(__name__.rpartition(".")[0]) / "pretrained"


def save(file: File, tx: GradientTransformation, **metadata: object) -> None:
    """Write a learned optimizer: its weights as arrays, its other arguments as in `gradtx.to_config`.

    Args:
        file: A path (`.npz` is added to one without), whose file is replaced whole or not at all; or a file that is
            open for writing bytes.
        tx: An `lstm` or `mlp`, or a transformation of your own with a field `weights`: nested dicts of arrays.
        metadata: What is kept with it, JSON-serialisable: the command and the seed that made it, say.

    Raises:
        TypeError: if `tx` has no weights that are nested dicts of arrays; or `metadata` is not JSON-serialisable.
        OSError: if the path cannot be written.
    """
    weights = tx._values().get("weights") if isinstance(tx, GradientTransformation) else None
    if not isinstance(weights, dict) or not all(_is_named(path) for path, _ in jax.tree.leaves_with_path(weights)):
        raise TypeError(
            "save takes a learned optimizer whose weights are nested dicts of arrays, gradtx.learned.lstm(weights) "
            f"say; got {tx!r}"
        )
    arrays = {f"{_PREFIX}{_joined(path)}": np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(weights)}
    config = to_config(tx)  # which refuses arrays of objects
    del config["arguments"]["weights"]
    # NumPy's files know no bfloat16: a dtype that is not NumPy's own goes in as bits.
    dtypes = {name: array.dtype.name for name, array in arrays.items() if array.dtype.isbuiltin != 1}
    arrays |= {name: arrays[name].view(f"u{arrays[name].itemsize}") for name in dtypes}
    try:
        header = json.dumps({"config": config, _METADATA: metadata, "dtypes": dtypes})
    except TypeError as error:
        raise TypeError(f"save: the metadata must be JSON-serialisable: {error}") from error
    contents = io.BytesIO()
    # Without `allow_pickle`, which NumPy 2.1 takes for an array's name.
    np.savez(contents, **{_HEADER: np.asarray(header)}, **arrays)  # pyright: ignore[reportArgumentType]
    if isinstance(file, (str, os.PathLike)):
        path = Path(file)
        _replace(path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz"), contents.getvalue())
    else:
        file.write(contents.getvalue())


def load(file: File) -> GradientTransformation:
    """The learned optimizer that `save` wrote; its constructor checks the weights.

    Nothing in a file is run: names are looked up as `gradtx.from_config` does.

    Args:
        file: A path, or a file that is open for reading bytes.

    Raises:
        ValueError: if it is not a file that `save` wrote, or its weights do not fit its configuration.
        OSError: if the path cannot be read (FileNotFoundError if it does not exist).
    """
    config, _, weights = _read(file)
    # The weights go straight to the constructor: a configuration keeps what is an array as it is.
    return from_config({**config, "arguments": {**config["arguments"], "weights": weights}})


def pretrained(name: str) -> GradientTransformation:
    """A learned optimizer that comes with gradtx, trained on one family of problems.

    It is good at what it was trained on; how it does elsewhere is in the documentation's results of `learn-to-learn`.
    `origin(name)` says how it was made.

    Args:
        name: One of `pretrained_names()`.

    Raises:
        ValueError: if no learned optimizer of that name comes with gradtx.
    """
    with _shipped(name).open("rb") as file:
        return load(file)


def origin(name: str) -> dict[str, Any]:
    """The metadata of a learned optimizer that comes with gradtx: the command, the seed, and what it reached."""
    with _shipped(name).open("rb") as file:
        return _read(file)[1]


def pretrained_names() -> list[str]:
    """The names that `pretrained` knows."""
    return sorted(file.name.removesuffix(".npz") for file in _SHIPPED.iterdir() if file.name.endswith(".npz"))


def _replace(path: Path, contents: bytes) -> None:
    """Write beside the file and rename: a reader, or a process killed here, sees the old file or the new one."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        new.write_bytes(contents)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _shipped(name: str) -> Any:
    if name not in pretrained_names():
        raise ValueError(f"no learned optimizer {name!r} comes with gradtx; there are {', '.join(pretrained_names())}")
    return _SHIPPED / f"{name}.npz"


def _read(file: File) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Configuration, metadata and weights. Raises ValueError."""
    weights: dict[str, Any] = {}
    try:
        with np.load(file, allow_pickle=False) as arrays:
            header = json.loads(str(arrays[_HEADER][()]))
            config, metadata, dtypes = header["config"], header[_METADATA], header.get("dtypes", {})
            if not isinstance(metadata, dict) or not isinstance(config["arguments"], dict):
                raise ValueError("its header is not what gradtx.learned.save writes")
            for name in sorted(set(arrays.files) - {_HEADER}):
                *outer, last = name.removeprefix(_PREFIX).split("/")
                inner = weights
                for key in outer:
                    inner = inner.setdefault(key, {})
                array = arrays[name].view(jnp.dtype(dtypes[name])) if name in dtypes else arrays[name]
                inner[last] = jnp.asarray(array)
    except OSError:
        raise
    except Exception as error:  # a file that is not an archive of arrays surfaces as many kinds
        raise ValueError(f"not a file written by gradtx.learned.save: {type(error).__name__}: {error}") from error
    return config, metadata, weights


def _is_named(path: tuple[Any, ...]) -> bool:
    return all(isinstance(key, jax.tree_util.DictKey) and "/" not in str(key.key) for key in path)


def _joined(path: tuple[Any, ...]) -> str:
    return "/".join(str(key.key) for key in path)
