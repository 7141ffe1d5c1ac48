"""Files of MNIST's own format, idx: a header of big-endian numbers, then bytes.

Fashion-MNIST is published in it: http://yann.lecun.com/exdb/mnist describes it.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from experiments import cache
from experiments.errors import ExperimentError, one_line

UBYTE = 0x08
"""The type of unsigned bytes, the only one that images and labels come in."""

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def find(places: list[Path]) -> Path | None:
    """The first of the directories that has all four files, compressed or not."""
    return next((place for place in places if all(_path(place, name) for name in FILES.values())), None)


def load(directory: Path) -> cache.Arrays:
    """`<split>_images`, with one channel, and `<split>_labels` of both splits, as uint8.

    Raises:
        ExperimentError: A file is missing, is damaged, or does not fit its partner.
    """
    arrays = {}
    for key, name in FILES.items():
        path = _path(directory, name)
        if path is None:
            raise ExperimentError(f"no {name} or {name}.gz in {directory}")
        arrays[key] = read(path, dimensions=3 if key.endswith("images") else 1)
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if len(images) != len(labels):
            raise ExperimentError(f"{len(images)} images but {len(labels)} labels of {split} in {directory}")
        arrays[f"{split}_images"] = images[..., None]
    return arrays


def read(path: Path, dimensions: int) -> np.ndarray:
    """The bytes of one file as an array.

    Raises:
        ExperimentError: It cannot be read, is not such a file, or its size is not what its header says.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ExperimentError(f"cannot read {path}: {one_line(error)}") from error
    start = 4 + 4 * dimensions
    expected = bytes((0, 0, UBYTE, dimensions))
    if len(content) < start or content[:4] != expected:
        raise ExperimentError(
            f"{path} is not an idx file of bytes in {dimensions} dimensions: it begins with "
            f"{content[:4].hex() or 'nothing'}, expected {expected.hex()}"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise ExperimentError(
            f"{path} is damaged: {len(content) - start} bytes for {'x'.join(map(str, shape))}, "
            f"expected {math.prod(shape)}; get it anew"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _path(directory: Path, name: str) -> Path | None:
    # os.path: a directory that may not be looked into has no such file.
    return next((path for path in (directory / name, directory / f"{name}.gz") if os.path.isfile(path)), None)
