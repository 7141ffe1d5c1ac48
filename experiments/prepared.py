"""Image data sets prepared by TensorFlow Datasets, read without TensorFlow, decoded once.

Reading ArrayRecord files needs no TensorFlow; downloading and preparing does.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from experiments import cache
from experiments.errors import ExperimentError, one_line

PREPARING_NEEDS = ("tensorflow", "importlib_resources")


def load(name: str, data_dir: Path | None) -> cache.Arrays:
    """`<split>_images` and `<split>_labels` of every split, as uint8.

    A data set that is not prepared is downloaded if what that needs is installed.

    Raises:
        ExperimentError: It is missing, or cannot be read.
    """
    builder = _builder(name, data_dir)
    if not builder.is_prepared():
        _download(builder)
    try:
        return cache.cached(f"{name}-{_identity(builder.data_path)}", lambda: _decode(builder))
    except ExperimentError:
        raise
    except Exception as error:  # damaged records surface as many kinds
        raise ExperimentError(f"cannot read {name} in {builder.data_path}: {one_line(error)}") from error


def is_prepared(name: str, data_dir: Path | None) -> bool:
    """Whether a data set can be loaded without a download."""
    return _builder(name, data_dir).is_prepared()


def _builder(name: str, data_dir: Path | None) -> Any:
    import tensorflow_datasets as tfds
    from absl import logging

    # It recommends OpenCV, and warns before each error that is reported below anyway.
    logging.set_verbosity(logging.ERROR)
    # It reads the variable when it is imported, and by then nobody may have set it.
    place = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    try:
        return tfds.builder(name, data_dir=place, file_format="array_record")
    except Exception as error:  # damaged metadata surfaces as many kinds
        where = place or "the default data directory"
        raise ExperimentError(f"cannot read {name} in {where}: {one_line(error)}") from error


def _download(builder: Any) -> None:
    missing = f"data set {builder.name!r} is not prepared in {builder.data_path.parent.parent}"
    if any(importlib.util.find_spec(package) is None for package in PREPARING_NEEDS):
        raise ExperimentError(
            f"{missing}; run pip install -e '.[data]' ({' and '.join(PREPARING_NEEDS)}) to let this command "
            "download and prepare it, or name a directory that has it by --data-dir or TFDS_DATA_DIR"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # no network, a server's answer, a full disk
        raise ExperimentError(f"{missing}, and could not be downloaded: {one_line(error)}") from error


def _identity(path: Any) -> str:
    """Which prepared copy this is: its path, and the names, sizes and times of its files."""
    files = sorted((file.name, file.stat().length, file.stat().mtime) for file in path.iterdir())
    return hashlib.sha256(repr((os.fspath(path), files)).encode()).hexdigest()[:16]


def _decode(builder: Any) -> cache.Arrays:
    arrays = {}
    for split in ("train", "test"):
        source = builder.as_data_source(split)
        examples = source.__getitems__(range(len(source)))
        arrays[f"{split}_images"] = np.stack([example["image"] for example in examples])
        arrays[f"{split}_labels"] = np.array([example["label"] for example in examples], np.uint8)
    return arrays
