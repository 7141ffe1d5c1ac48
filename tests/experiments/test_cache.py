"""A cache that is damaged is found out and made anew."""

import errno

import numpy as np
import pytest

from experiments import cache as caches
from experiments.errors import ExperimentError

ARRAYS = {"images": np.arange(600, dtype=np.uint8).reshape(6, 10, 10), "labels": np.arange(6, dtype=np.uint8)}


class Maker:
    """Counts how often the arrays are made."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return dict(ARRAYS)


def same(arrays):
    return arrays.keys() == ARRAYS.keys() and all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)


def other_arrays(path):
    np.savez(path, images=np.zeros(3), fingerprint=np.array(caches.fingerprint(ARRAYS)))


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "empty": lambda path: path.write_bytes(b""),
    "not an archive": lambda path: path.write_text("hello"),
    "one bit": flip_a_byte,
    "other arrays": other_arrays,
    "no fingerprint": lambda path: np.savez(path, **ARRAYS),
    "a pickle": lambda path: np.savez(path, images=np.array([object()])),
}


def test_made_once():
    make = Maker()
    assert same(caches.cached("some", make))
    assert same(caches.cached("some", make))
    assert make.times == 1


@pytest.mark.parametrize("damage", DAMAGE)
def test_made_anew_when_damaged(cache, damage):
    make = Maker()
    caches.cached("some", make)
    DAMAGE[damage](cache / "some.npz")
    assert same(caches.cached("some", make))
    assert make.times == 2
    assert same(caches.cached("some", make))
    assert make.times == 2


def test_a_full_disk_is_one_line_and_leaves_nothing(cache, monkeypatch):
    def full(path, **_):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(ExperimentError, match=r"cannot write the data cache .*No space left.*GRADTX_CACHE"):
        caches.cached("some", Maker())
    assert list(cache.iterdir()) == []


def test_the_fingerprint_sees_names_shapes_dtypes_and_values():
    base = {"a": np.arange(6, dtype=np.int32)}
    others = [
        {"b": base["a"]},
        {"a": base["a"].reshape(2, 3)},
        {"a": base["a"].astype(np.int64)},
        {"a": base["a"][::-1]},
    ]
    prints = {caches.fingerprint(arrays) for arrays in (base, *others)}
    assert len(prints) == 5


def test_where_the_cache_is(monkeypatch):
    monkeypatch.delenv("GRADTX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(caches.directory()) == "/xdg/gradtx"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(caches.directory()) == "/home/someone/.cache/gradtx"
