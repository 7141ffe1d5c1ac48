"""Real data sets, with splits that never change.

`digits` (1,797 images of 8x8) comes with scikit-learn and always works. `mnist` and `cifar10` come through TensorFlow
Datasets, and so does `fashion_mnist` where it is prepared; else it is read from the files it is published as.
A data set that is missing is an error that says how to get it; nothing is substituted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from experiments import cache, idx, prepared
from experiments.errors import ExperimentError

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_DEVIATION = (0.2470, 0.2435, 0.2616)
"""Of each channel over the 50,000 training images, on a scale of 0 to 1: images are normalised by them."""

FASHION_MNIST_VARIABLE = "GRADTX_FASHION_MNIST"
FASHION_MNIST_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts its files."""


class Examples(NamedTuple):
    """Images and their labels. Grey ones are in [0, 1]; those of `cifar10` are normalised, see `CIFAR10_MEAN`."""

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

    def subset(self, train: int | None, test: int | None = None) -> Dataset:
        """The first `train` training images, a quarter as many for validation, and the first `test` test images.

        None is all. Training and validation are shuffled already.
        """
        validation = None if train is None else train // 4
        return replace(
            self,
            train=Examples(*(part[:train] for part in self.train)),
            validation=Examples(*(part[:validation] for part in self.validation)),
            test=Examples(*(part[:test] for part in self.test)),
        )


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Load a data set by name.

    Args:
        name: One of `DATASETS`.
        data_dir: Where TensorFlow Datasets keeps prepared data. Default: `TFDS_DATA_DIR`, else its own default.
            Fashion-MNIST's own four files may be there too, or in its folder `fashion_mnist` or `fashion-mnist`.

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
    # 50,000 and 10,000, as in the Theano tutorial, whose 92.51 % for softmax regression is the figure to meet.
    return _published("mnist", prepared.load("mnist", data_dir), (50_000, 10_000))


def fashion_mnist_files() -> Path:
    """Where Fashion-MNIST's files are: where the variable says, else where Debian has them."""
    return Path(os.environ.get(FASHION_MNIST_VARIABLE) or FASHION_MNIST_DEBIAN)


def _fashion_mnist(data_dir: Path | None) -> Dataset:
    chosen = bool(os.environ.get(FASHION_MNIST_VARIABLE))
    near = [data_dir / folder for folder in ("", "fashion_mnist", "fashion-mnist")] if data_dir and not chosen else []
    places = [*near, fashion_mnist_files()]
    if not chosen and prepared.is_prepared("fashion_mnist", data_dir):
        arrays = prepared.load("fashion_mnist", data_dir)
    elif place := idx.find(places):
        arrays = idx.load(place)
    else:
        raise ExperimentError(
            f"data set 'fashion_mnist' is not in {' or '.join(map(str, places))}: on Debian, run apt-get install "
            f"dataset-fashion-mnist; elsewhere, name a directory with its four idx files, from "
            f"https://github.com/zalandoresearch/fashion-mnist, by {FASHION_MNIST_VARIABLE} or --data-dir"
        )
    return _published("fashion_mnist", arrays, (50_000, 10_000))


def _cifar10(data_dir: Path | None) -> Dataset:
    # 45,000 and 5,000, as in He et al., 2015.
    dataset = _published("cifar10", prepared.load("cifar10", data_dir), (45_000, 5_000))
    mean, deviation = (jnp.asarray(of)[None, None, None] for of in (CIFAR10_MEAN, CIFAR10_DEVIATION))
    parts = {
        name: Examples((part.images - mean) / deviation, part.labels)
        for name, part in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
    }
    return replace(dataset, **parts)


def _published(name: str, arrays: cache.Arrays, sizes: tuple[int, int]) -> Dataset:
    """A data set that comes in two splits, of which the first is for training and validation."""
    train, validation = _split(arrays["train_images"], arrays["train_labels"], sizes, white=255)
    (test,) = _split(arrays["test_images"], arrays["test_labels"], (10_000,), white=255)
    return Dataset(name, 10, train, validation, test, cache.fingerprint(arrays))


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


DATASETS: dict[str, Callable[[Path | None], Dataset]] = {
    "digits": _digits,
    "mnist": _mnist,
    "fashion_mnist": _fashion_mnist,
    "cifar10": _cifar10,
}
