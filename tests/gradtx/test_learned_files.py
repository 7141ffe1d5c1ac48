"""Learned optimizers as files, and those that come with gradtx."""

# Some calls are wrong on purpose, and pyright sees many of them too.
# pyright: reportArgumentType=false

from __future__ import annotations

import io
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx import learned

from .test_learned import BOTH, LSTM, MLP


def through_file(tx: Any, **metadata: Any) -> Any:
    file = io.BytesIO()
    learned.save(file, tx, **metadata)
    file.seek(0)
    return learned.load(file)


@BOTH
def test_what_is_saved_is_loaded(tx, tmp_path):
    tx = tx.replace(learning_rate=gradtx.linear_schedule(0.1, 0.0, 10))
    assert through_file(tx, seed=3) == tx
    assert gradtx.from_config(json.loads(json.dumps(gradtx.to_config(tx)))) == tx
    learned.save(tmp_path / "weights.npz", tx)
    assert learned.load(tmp_path / "weights.npz") == tx


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    learned.save(path, MLP)
    before = (tmp_path / "weights.npz").read_bytes()

    def full(new: Any, contents: bytes) -> None:
        with new.open("wb") as file:
            file.write(contents[:100])
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "write_bytes", full)
        with pytest.raises(OSError, match="no space"):
            learned.save(path, LSTM)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.npz"]
    assert (tmp_path / "weights.npz").read_bytes() == before
    with pytest.raises(ValueError, match=r"not a file written by gradtx.learned.save: BadZipFile"):
        learned.load(io.BytesIO(before[: len(before) // 2]))
    with pytest.raises(FileNotFoundError):
        learned.load(tmp_path / "other.npz")
    with pytest.raises(TypeError, match=r"the metadata must be JSON-serialisable: .* set"):
        learned.save(path, MLP, seeds={1, 2})


def archive(**arrays: Any) -> io.BytesIO:
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **arrays)
    file.seek(0)
    return file


def header(tx: Any = LSTM, **changes: Any) -> Any:
    config = gradtx.to_config(tx)
    del config["arguments"]["weights"]
    return np.asarray(json.dumps({"config": {**config, **changes}, "about": {}}))


FILES = {
    "no archive": (lambda: io.BytesIO(b"no archive"), "not a file written by gradtx.learned.save"),
    "a pickle": (
        lambda: archive(told=np.array([print], object)),
        "not a file written by .*pickle",
    ),
    "no header": (lambda: archive(x=np.ones(3)), "not a file written by gradtx.learned.save: KeyError"),
    "not JSON": (lambda: archive(told=np.asarray("{")), "not a file written by gradtx.learned.save: JSONDecodeError"),
    "no weights": (lambda: archive(told=header()), r"`weights\['layer_0'\]\['bias'\]` is missing. Make weights with"),
    "another class": (lambda: archive(told=header(name="os.system")), "no class is registered as 'os.system'"),
}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_weights_of_each_dtype_are_saved(dtype):
    weights = jax.tree.map(lambda w: w.astype(dtype), learned.mlp_weights(jax.random.key(0)))
    tx, file = learned.mlp(weights), io.BytesIO()
    learned.save(file, tx)
    file.seek(0)
    assert set(np.load(file).files) == {"told", *(f"weights/{name}" for name in _names(weights))}
    file.seek(0)
    assert learned.load(file) == tx


def _names(weights):
    return ["/".join(key.key for key in path) for path, _ in jax.tree.leaves_with_path(weights)]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_something_else_is_refused(name):
    make, message = FILES[name]
    with pytest.raises(ValueError, match=message):
        learned.load(make())


@pytest.mark.parametrize("name", learned.pretrained_names())
def test_shipped_weights_are_sound(name):
    tx, origin = learned.pretrained(name), learned.origin(name)
    assert through_file(tx, **origin) == tx
    assert origin["command"].startswith("python -m experiments run learn-to-learn")
    assert isinstance(origin["seed"], int)


def test_shipped_weights_are_small():
    files = learned._files._SHIPPED.iterdir()
    sizes = [len(file.read_bytes()) for file in files if file.name.endswith(".npz")]
    assert sizes
    assert sum(sizes) < 200_000
