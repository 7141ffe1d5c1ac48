"""What is read back is what was written, or nothing."""

import hashlib

import numpy as np
import pytest
import xarray as xr

from experiments import store
from experiments.errors import ExperimentError


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "one bit": (flip_a_bit, "is damaged"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:1000]), "is damaged"),
    "gone": (lambda path: path.unlink(), "no results in"),
}


def test_round_trip(results, tmp_path):
    store.write(results, tmp_path)
    read = store.read(tmp_path)
    xr.testing.assert_identical(read.load(), results)
    assert {name: variable.dtype.kind for name, variable in read.data_vars.items()} == {
        name: variable.dtype.kind if variable.dtype.kind != "U" else read[name].dtype.kind
        for name, variable in results.data_vars.items()
    }


def test_writing_is_deterministic(results, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        store.write(results, tmp_path / name)
    assert (tmp_path / "a" / store.CHECKSUM).read_text() == (tmp_path / "b" / store.CHECKSUM).read_text()


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(results, tmp_path, damage):
    store.write(results, tmp_path)
    harm, message = DAMAGE[damage]
    harm(tmp_path / store.RESULTS)
    with pytest.raises(ExperimentError, match=message) as raised:
        store.read(tmp_path)
    assert "\n" not in str(raised.value)


def test_another_file_with_a_right_checksum_is_refused(tmp_path):
    (tmp_path / store.RESULTS).write_text("hello")
    (tmp_path / store.CHECKSUM).write_text(hashlib.sha256(b"hello").hexdigest())
    with pytest.raises(ExperimentError, match="cannot read"):
        store.read(tmp_path)


def test_other_results_are_refused(tmp_path):
    store.write(xr.Dataset({"tried": ("model", np.ones(3))}), tmp_path)
    with pytest.raises(ExperimentError, match="not a comparison of optimizers: it lacks chosen_learning_rate"):
        store.read(tmp_path)
