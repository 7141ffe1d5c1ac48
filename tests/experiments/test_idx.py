"""Files of the idx format are read as they were written, and refused in words when they are not right."""

import gzip
import struct

import numpy as np
import pytest

from experiments import idx
from experiments.errors import ExperimentError


def encode(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def files(tmp_path):
    random = np.random.RandomState(0)
    arrays = {
        name: random.randint(10, size=(n, 4, 3) if "images" in name else n).astype(np.uint8)
        for name, n in (("train_images", 5), ("train_labels", 5), ("test_images", 2), ("test_labels", 2))
    }
    for name, array in arrays.items():
        (tmp_path / idx.FILES[name]).write_bytes(encode(array))
    return arrays


def compress(path):
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


@pytest.mark.parametrize("compressed", [False, True])
def test_what_was_written_is_read(files, tmp_path, compressed):
    if compressed:
        for name in idx.FILES.values():
            compress(tmp_path / name)
    assert idx.find([tmp_path / "elsewhere", tmp_path]) == tmp_path
    read = idx.load(tmp_path)
    for name, array in files.items():
        np.testing.assert_array_equal(read[name], array[..., None] if "images" in name else array)


def test_a_directory_without_all_four_is_not_found(files, tmp_path):
    (tmp_path / idx.FILES["test_labels"]).unlink()
    assert idx.find([tmp_path]) is None
    with pytest.raises(ExperimentError, match=r"no t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte\.gz in "):
        idx.load(tmp_path)


IMAGES = encode(np.zeros((5, 4, 3), np.uint8))
DAMAGED = [
    (b"", "begins with nothing, expected 00000803"),
    (b"PNG", "begins with 504e47, expected 00000803"),
    (IMAGES[:10], "begins with 00000803, expected 00000803"),
    (encode(np.zeros(60, np.uint8)), "begins with 00000801, expected 00000803"),
    (encode(np.zeros((5, 4, 3), np.uint8), kind=13), "begins with 00000d03, expected 00000803"),
    (IMAGES[:-1], "is damaged: 59 bytes for 5x4x3, expected 60; get it anew"),
    (IMAGES + b"0", "is damaged: 61 bytes for 5x4x3, expected 60; get it anew"),
    (encode(np.zeros((4, 4, 3), np.uint8)), "4 images but 5 labels of train in"),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_what_is_not_right_is_said(files, tmp_path, content, message):
    (tmp_path / idx.FILES["train_images"]).write_bytes(content)
    with pytest.raises(ExperimentError, match=message):
        idx.load(tmp_path)


@pytest.mark.parametrize("cut", [0, 5, 20, -1])
def test_a_damaged_archive_is_said(files, tmp_path, cut):
    path = tmp_path / idx.FILES["train_images"]
    compress(path)
    archive = path.with_name(path.name + ".gz")
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(ExperimentError, match=r"train-images-idx3-ubyte\.gz") as raised:
        idx.load(tmp_path)
    assert "\n" not in str(raised.value)
