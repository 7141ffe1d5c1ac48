"""Real data sets, with splits that never change.

`digits` (1,797 images of 8x8) comes with scikit-learn and always works. `mnist` comes through TensorFlow Datasets.
A data set that is missing is an error that says how to get it; nothing is substituted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from experiments import cache, prepared
from experiments.errors import ExperimentError


class Examples(NamedTuple):
    """Images in [0, 1] and their labels."""

    images: Float[Array, "n height width channels"]
    labels: Int[Array, " n"]


@dataclass(frozen=True)
class Dataset:
    """Three splits: learning rates are chosen on `validation`; `test` is for the chosen ones only."""

    name: str
    classes: int
    train: Examples
    validation: Examples
    test: Examples
    fingerprint: str

    def subset(self, size: int | None) -> Dataset:
        """The first `size` training images and a quarter as many for validation. Both are shuffled already."""
        if size is None:
            return self
        train = Examples(*(part[:size] for part in self.train))
        validation = Examples(*(part[: size // 4] for part in self.validation))
        return replace(self, train=train, validation=validation)


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Load a data set by name.

    Args:
        name: One of `DATASETS`.
        data_dir: Where TensorFlow Datasets keeps prepared data. Default: `TFDS_DATA_DIR`, else its own default.

    Raises:
        ExperimentError: The data set is unknown, missing or cannot be read.
    """
    if name not in DATASETS:
        raise ExperimentError(f"unknown data set {name!r}; there are {', '.join(DATASETS)}")
    return DATASETS[name](data_dir)


def _digits(data_dir: Path | None) -> Dataset:
    del data_dir  # bundled with scikit-learn
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    images, labels = np.asarray(pixels, np.uint8).reshape(-1, 8, 8, 1), np.asarray(target, np.uint8)
    train, validation, test = _split(images, labels, (1077, 360, 360), white=16)
    return Dataset("digits", 10, train, validation, test, cache.fingerprint({"images": images, "labels": labels}))


def _mnist(data_dir: Path | None) -> Dataset:
    arrays = prepared.load("mnist", data_dir)
    # 50,000 and 10,000, as in the Theano tutorial, whose 92.51 % for softmax regression is the figure to meet.
    train, validation = _split(arrays["train_images"], arrays["train_labels"], (50_000, 10_000), white=255)
    (test,) = _split(arrays["test_images"], arrays["test_labels"], (10_000,), white=255)
    return Dataset("mnist", 10, train, validation, test, cache.fingerprint(arrays))


def _split(
    images: UInt8[np.ndarray, "n height width channels"],
    labels: UInt8[np.ndarray, " n"],
    sizes: tuple[int, ...],
    *,
    white: int,
) -> list[Examples]:
    """Shuffle once and for all, scale `white` to 1, and cut into parts of the given sizes."""
    if len(images) != sum(sizes):
        raise ExperimentError(f"expected {sum(sizes)} images, got {len(images)}: the data set is not complete")
    # The stream of RandomState, unlike default_rng's, is frozen (NEP 19): the splits outlive NumPy's versions.
    order = np.random.RandomState(0).permutation(len(images))
    parts = np.split(order, np.cumsum(sizes)[:-1])
    return [
        Examples(jnp.asarray(images[part], jnp.float32) / white, jnp.asarray(labels[part], jnp.int32)) for part in parts
    ]


DATASETS: dict[str, Callable[[Path | None], Dataset]] = {"digits": _digits, "mnist": _mnist}
