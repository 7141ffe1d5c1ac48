"""Learned optimizers as files: arrays and one line of JSON in an `.npz`, and never a pickle."""

from __future__ import annotations

import io
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .._core.config import from_config, to_config
from .._core.encoding import DTYPES, encode_array
from .._core.transformation import GradientTransformation

File = str | os.PathLike[str] | io.BufferedIOBase

_TOLD = "told"
_PREFIX = "weights/"
_SHIPPED = resources.files(__name__.rpartition(".")[0]) / "pretrained"


def save(file: File, tx: GradientTransformation, **about: Any) -> None:
    """Write a learned optimizer: its weights as arrays, its other arguments as in `gradtx.to_config`.

    Args:
        file: A path (`.npz` is added to one without), whose file is replaced whole or not at all; or a file that is
            open for writing bytes.
        tx: A call of `lstm` or `mlp`, or of a factory of your own with an argument `weights`: nested dicts of arrays.
        about: What is kept beside it, as JSON has it: the command and the seed that made it, say.

    Raises:
        TypeError: `tx` has no weights that are nested dicts of arrays; or `about` has what JSON has not.
        OSError: The path cannot be written.
    """
    weights = tx.arguments.get("weights") if isinstance(tx, GradientTransformation) else None
    if not isinstance(weights, dict) or not all(_is_named(path) for path, _ in jax.tree.leaves_with_path(weights)):
        raise TypeError(
            "save takes a learned optimizer whose weights are nested dicts of arrays, gradtx.learned.lstm(weights) "
            f"say; got {tx!r}"
        )
    arrays = {f"{_PREFIX}{_joined(path)}": np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(weights)}
    config = to_config(tx)  # which refuses arrays of objects
    del config["arguments"]["weights"]
    # NumPy's files know no bfloat16: what is not its own goes in as bits.
    foreign = {name: array.dtype.name for name, array in arrays.items() if array.dtype.isbuiltin != 1}
    arrays |= {name: arrays[name].view(f"u{arrays[name].itemsize}") for name in foreign}
    try:
        told = json.dumps({"config": config, "about": about, "dtypes": foreign})
    except TypeError as error:
        raise TypeError(f"save: what is kept beside the weights has to be as JSON has it: {error}") from error
    contents = io.BytesIO()
    # Without `allow_pickle`, which NumPy 2.1 takes for an array's name.
    np.savez(contents, **{_TOLD: np.asarray(told)}, **arrays)  # pyright: ignore[reportArgumentType]
    if isinstance(file, (str, os.PathLike)):
        path = Path(file)
        _replace(path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz"), contents.getvalue())
    else:
        file.write(contents.getvalue())


def load(file: File) -> GradientTransformation:
    """The learned optimizer that `save` wrote; its constructor checks the weights.

    Args:
        file: A path, or a file that is open for reading bytes. It may come from anybody: nothing in it is run, and
            names are looked up as `gradtx.from_config` does.

    Raises:
        ValueError: The file is no such file, or its weights do not fit its configuration.
        OSError: The path cannot be read: FileNotFoundError where there is nothing.
    """
    config, _, weights = _read(file)
    return from_config({**config, "arguments": {**config["arguments"], "weights": weights}})


def pretrained(name: str) -> GradientTransformation:
    """A learned optimizer that comes with gradtx, trained on one family of problems.

    It is good at what it was trained on; how it does elsewhere is in the documentation's results of `learn-to-learn`.
    `origin(name)` says how it was made.

    Args:
        name: One of `pretrained_names()`.

    Raises:
        ValueError: Nothing of that name is shipped.
    """
    with _shipped(name).open("rb") as file:
        return load(file)


def origin(name: str) -> dict[str, Any]:
    """How a learned optimizer that comes with gradtx was made: the command, the seed, and what it reached."""
    with _shipped(name).open("rb") as file:
        return _read(file)[1]


def pretrained_names() -> list[str]:
    """What `pretrained` knows."""
    return sorted(file.name.removesuffix(".npz") for file in _SHIPPED.iterdir() if file.name.endswith(".npz"))


def _replace(path: Path, contents: bytes) -> None:
    """Write beside the file and rename: who reads, or is killed here, has the old file or the new one."""
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
    """Configuration, what is told about it, and the weights as a configuration has them. Raises ValueError."""
    weights: dict[str, Any] = {}
    try:
        with np.load(file, allow_pickle=False) as arrays:
            told = json.loads(str(arrays[_TOLD][()]))
            config, about, foreign = told["config"], told["about"], told.get("dtypes", {})
            if not isinstance(about, dict) or not isinstance(config["arguments"], dict):
                raise ValueError("its description is not what gradtx.learned.save writes")
            for name in sorted(set(arrays.files) - {_TOLD}):
                *outer, last = name.removeprefix(_PREFIX).split("/")
                inner = weights
                for key in outer:
                    inner = inner.setdefault(key, {})
                array = arrays[name].view(DTYPES[foreign[name]]) if name in foreign else arrays[name]
                inner[last] = {"$array": {**encode_array(array, name), "kind": "jax"}}
    except OSError:
        raise
    except Exception as error:  # what is no archive of arrays surfaces as many kinds
        raise ValueError(f"not a file of gradtx.learned.save: {type(error).__name__}: {error}") from error
    return config, about, weights


def _is_named(path: tuple[Any, ...]) -> bool:
    return all(isinstance(key, jax.tree_util.DictKey) and "/" not in str(key.key) for key in path)


def _joined(path: tuple[Any, ...]) -> str:
    return "/".join(str(key.key) for key in path)
