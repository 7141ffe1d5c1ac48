"""What is read back is what was written, or nothing: damage is named, set aside, and computed again."""

import io
import os
import zipfile

import numpy as np
import pytest
import xarray as xr

from experiments import netcdf, results, sealed, store
from experiments.checkpoint import Checkpoint
from experiments.errors import ExperimentError
from experiments.store import Store, file_name, is_used, opened

TREE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": (np.array(True), np.zeros((0, 2)))}


def dataset() -> xr.Dataset:
    return xr.Dataset(
        {"loss": ("seed", np.array([0.1, np.nan], np.float32)), "diverged": ("seed", [False, True]), "edge": "none"},
        coords={"seed": [0, 1], "model": "softmax régression"},
        attrs={"seconds": 1.5},
    )


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def bomb() -> bytes:
    """An archive whose array claims a petabyte."""
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (125000000000000,), }"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("leaf_0.npy", header.ljust(127) + b"\n")
        archive.writestr("done.npy", npz_member(np.array([1, 2])))
    return buffer.getvalue()


def npz_member(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


class Harm:
    """Would be run by a pickle."""

    def __reduce__(self):
        return os.abort, ()


FOREIGN = {
    "nothing": b"",
    "text": b"hello",
    "a pickle": npz_member(np.array([Harm()], object)),
    "pickles in an archive": npz(leaf_0=np.array([Harm()], object), done=np.array([1, 2])),
    "an array": npz_member(np.zeros(3)),
    "a bomb": bomb(),
    "an archive of something": npz(x=np.zeros(3)),
    "more done than there is": npz(leaf_0=np.zeros(3), done=np.array([3, 2])),
    "no end": npz(leaf_0=np.zeros(3), done=np.array(1)),
}


def flip(place: int):
    def harm(path):
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)

    return harm


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "the checksum": flip(3),
    "the line's end": flip(sealed.DIGEST_LENGTH),
    "the content": flip(sealed.DIGEST_LENGTH + 20),
    "the last byte": flip(-1),
    "other bytes": lambda path: path.write_bytes(b"\xff" * 300),
}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def kept(tmp_path, said) -> Store:
    return Store(tmp_path, said.append)


def never(checkpoint):
    raise AssertionError("computed again")


def test_sealed_files_come_back(tmp_path):
    for content in (b"", b"\n", bytes(range(256))):
        sealed.write(tmp_path / "file", content)
        assert sealed.read(tmp_path / "file") == content
    assert sealed.read(tmp_path / "nothing") is None


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_of_a_sealed_file_is_found(tmp_path, damage):
    sealed.write(tmp_path / "file", b"content " * 10)
    DAMAGE[damage](tmp_path / "file")
    with pytest.raises(sealed.DamagedError, match="file is damaged"):
        sealed.read(tmp_path / "file")


def test_nothing_is_lost_by_setting_aside(tmp_path):
    for number in (1, 2):
        (tmp_path / "file").write_text(str(number))
        assert sealed.set_aside(tmp_path / "file", "damaged").name == f"file.damaged-{number}"
    assert (tmp_path / "file.damaged-1").read_text() == "1"


def test_netcdf_comes_back_with_its_dtypes_and_is_deterministic():
    content = bytes(netcdf.encode(dataset()))
    assert content == bytes(netcdf.encode(dataset()))
    found = netcdf.decode(content)
    xr.testing.assert_identical(found, dataset())
    assert found.loss.dtype == np.float32
    assert found.diverged.dtype == bool


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_netcdf_is_refused(content):
    with pytest.raises(netcdf.NotNetcdfError, match="not a netCDF file"):
        netcdf.decode(content)


def test_a_part_is_computed_once(kept):
    first = kept.part("a model/SGD/final", lambda checkpoint: dataset())
    again = kept.part("a model/SGD/final", never)
    xr.testing.assert_identical(again, first)
    assert again.attrs == {"part": "a model/SGD/final", "seconds": 1.5}
    assert kept.names() == ["a_model_SGD_final"]
    assert kept.seconds("a_model_SGD_final") == 1.5


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_set_aside_named_and_computed_again(kept, said, damage):
    kept.part("a part", lambda checkpoint: dataset())
    path = kept.directory / "a_part.part"
    DAMAGE[damage](path)
    assert kept.seconds("a_part") == 0.0  # who only asks changes nothing
    assert said == []
    xr.testing.assert_equal(kept.part("a part", lambda checkpoint: dataset()), dataset())
    (line,) = said
    assert line == (
        f"{path} is damaged: its content does not have the checksum in its first line; "
        "it is now a_part.part.damaged-1, and is computed again"
    )
    assert kept.names() == ["a_part"]
    kept.part("a part", never)


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_strangers_part_with_a_right_checksum_is_set_aside(kept, said, content):
    sealed.write(kept.directory / "a_part.part", content)
    assert kept.find("a part") is None
    assert "not a netCDF file" in said[0]


def test_a_part_under_anothers_name_is_set_aside(kept, said):
    kept.part("a/b", lambda checkpoint: dataset())
    assert kept.find("a b") is None
    assert "is not of the part 'a b', but of 'a/b'" in said[0]
    assert file_name("a/b ü.1e-05") == "a_b_.1e-05"


def test_a_part_that_fails_keeps_its_checkpoint(kept):
    def fail(checkpoint):
        checkpoint.save(TREE, 1, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.part("a part", fail)
    assert kept.names() == []
    assert kept.checkpoint("a part").done() == (1, 2)
    kept.part("a part", lambda checkpoint: dataset())
    assert [path.name for path in kept.directory.iterdir()] == ["a_part.part"]


def test_a_checkpoint_comes_back(tmp_path, said):
    keep = Checkpoint(tmp_path / "a", said.append)
    assert keep.load(TREE) is None
    keep.save(TREE, 3, 10)
    loaded = keep.load(TREE)
    assert loaded is not None
    tree, done = loaded
    assert (done, keep.done()) == (3, (3, 10))
    for name, value in (("a", tree["a"]), ("b", tree["b"][0]), ("b", tree["b"][1])):
        assert value.flags.writeable, name
    np.testing.assert_array_equal(tree["a"], TREE["a"])
    assert tree["b"][1].shape == (0, 2)
    keep.remove()
    assert keep.load(TREE) is None


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside(tmp_path, said, damage):
    keep = Checkpoint(tmp_path / "a", said.append)
    keep.save(TREE, 3, 10)
    DAMAGE[damage](tmp_path / "a")
    assert keep.done() == (0, 0)
    assert said == []
    assert keep.load(TREE) is None
    assert "it is now a.damaged-1, and its part begins again" in said[0]


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_strangers_checkpoint_runs_no_code_and_is_set_aside(tmp_path, said, content):
    sealed.write(tmp_path / "a", content)
    keep = Checkpoint(tmp_path / "a", said.append)
    assert keep.done() == (0, 0)
    assert keep.load({"a": np.zeros(3)}) is None
    assert "not a checkpoint" in said[0]


def test_a_checkpoint_of_another_training_is_set_aside(tmp_path, said):
    keep = Checkpoint(tmp_path / "a", said.append)
    for other in ({"a": np.zeros((2, 3), np.float64)}, {"a": np.zeros((3, 2), np.float32)}, TREE | {"c": np.zeros(1)}):
        keep.save(TREE, 3, 10)
        assert keep.load(other) is None
        assert "is of another training; it is now a.other-" in said.pop()


def test_a_store_of_another_spec_is_set_aside_whole(tmp_path, said):
    place = tmp_path / "smoke.parts"
    with opened(place, "one", said.append) as parts:
        parts.part("a part", lambda checkpoint: dataset())
    with opened(place, "one", said.append) as parts:
        parts.part("a part", never)
    assert said == []
    with opened(place, "two", said.append) as parts:
        assert parts.names() == []
    assert said == [f"{place} was made with other settings or data; it is now smoke.parts.former-1"]
    assert (tmp_path / "smoke.parts.former-1" / "a_part.part").exists()


def test_a_directory_of_something_else_is_set_aside(tmp_path, said):
    place = tmp_path / "smoke.parts"
    place.mkdir()
    (place / "mine.txt").touch()
    with opened(place, "one", said.append):
        pass
    (place / "spec.txt").write_bytes(b"\xff\xfe")
    with opened(place, "one", said.append):
        pass
    assert [line.rpartition(" ")[2] for line in said] == ["smoke.parts.former-1", "smoke.parts.former-2"]


def test_what_a_killed_process_left_is_removed(tmp_path, said):
    place = tmp_path / "smoke.parts"
    with opened(place, "one", said.append):
        pass
    (place / ".a_part.part.x1.part").write_text("half")
    assert Store(place).names() == []
    with opened(place, "one", said.append):
        assert [path.name for path in place.iterdir()] == ["spec.txt"]
    assert said == []


def test_one_run_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", 0.01)
    place = tmp_path / "smoke.parts"
    assert not is_used(place)
    assert list(tmp_path.iterdir()) == []
    with opened(place, "one"):
        assert is_used(place)
        with pytest.raises(ExperimentError, match=rf"another run is at work in .* \(process {os.getpid()}\)"):
            opened(place, "one").__enter__()
    assert not is_used(place)
    with opened(place, "one"):
        pass


def test_what_cannot_be_written_is_one_line(tmp_path, kept, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ExperimentError, match=r"cannot write to .*: (Not a directory|File exists)"):
        opened(tmp_path / "file" / "parts", "one").__enter__()

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sealed, "write", full)
    with pytest.raises(ExperimentError, match=r"cannot read or write in .*: No space left on device"):
        kept.part("a part", lambda checkpoint: dataset())


RESULTS_DAMAGE = {
    "one bit": (flip(400), "is damaged"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:1000]), "is damaged"),
    "gone": (lambda path: path.unlink(), "no results in"),
}


def test_results_come_back(tmp_path):
    results.write(dataset(), tmp_path)
    xr.testing.assert_identical(results.read(tmp_path), dataset())


@pytest.mark.parametrize("damage", RESULTS_DAMAGE)
def test_damaged_results_are_an_error(tmp_path, damage):
    results.write(dataset(), tmp_path)
    harm, message = RESULTS_DAMAGE[damage]
    harm(tmp_path / results.RESULTS)
    with pytest.raises(ExperimentError, match=message) as raised:
        results.read(tmp_path)
    assert "\n" not in str(raised.value)


def test_another_file_with_a_right_checksum_is_refused(tmp_path):
    (tmp_path / results.RESULTS).write_text("hello")
    (tmp_path / results.CHECKSUM).write_text(sealed.checksum(b"hello"))
    with pytest.raises(ExperimentError, match="cannot read"):
        results.read(tmp_path)
