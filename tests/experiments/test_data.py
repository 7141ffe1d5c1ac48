"""The splits are what they were, and what is missing is said."""

import shutil

import numpy as np
import pytest
from sklearn.datasets import load_digits

from experiments import data
from experiments.errors import ExperimentError

# Per class, from the data sets' own documentation.
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def rows(*parts):
    """The images as a sorted array of rows, to compare sets of images."""
    images = np.concatenate([np.asarray(part.images).reshape(len(part.labels), -1) for part in parts])
    return images[np.lexsort(images.T)]


def test_digits_splits_are_a_partition():
    digits = data.load("digits")
    parts = (digits.train, digits.validation, digits.test)
    assert [len(part.labels) for part in parts] == [1077, 360, 360]
    whole = np.asarray(load_digits(return_X_y=True)[0], np.float32) / 16
    np.testing.assert_array_equal(rows(*parts), whole[np.lexsort(whole.T)])


def test_digits_never_change():
    digits = data.load("digits")
    assert digits.fingerprint.startswith("e7e0ab490893")
    assert digits.train.labels[:10].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5]
    assert digits.test.labels[:10].tolist() == [7, 9, 4, 7, 0, 2, 6, 1, 3, 1]


def test_every_class_is_in_every_split():
    digits = data.load("digits")
    for part in (digits.train, digits.validation, digits.test):
        assert np.bincount(part.labels, minlength=10).min() > 20


def test_a_subset_takes_the_first_and_leaves_the_test_split():
    digits = data.load("digits")
    small = digits.subset(100)
    assert [len(part.labels) for part in (small.train, small.validation, small.test)] == [100, 25, 360]
    np.testing.assert_array_equal(small.train.images, digits.train.images[:100])
    assert len(digits.subset(None, 10).test.labels) == 10
    assert digits.subset(None).train.images.shape == digits.train.images.shape


def test_unknown_data_set():
    with pytest.raises(
        ExperimentError, match="unknown data set 'minst'; there are digits, mnist, fashion_mnist, cifar10"
    ):
        data.load("minst")


@pytest.mark.slow
def test_mnist_is_the_real_one(data_dir, decoded):
    mnist = data.load("mnist", data_dir("mnist"))
    assert [part.images.shape for part in (mnist.train, mnist.validation, mnist.test)] == [
        (50_000, 28, 28, 1),
        (10_000, 28, 28, 1),
        (10_000, 28, 28, 1),
    ]
    both = np.concatenate([mnist.train.labels, mnist.validation.labels])
    assert np.bincount(both).tolist() == MNIST_TRAIN
    assert np.bincount(mnist.test.labels).tolist() == MNIST_TEST
    images = np.concatenate([mnist.train.images, mnist.validation.images])
    assert images.mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)
    assert images.std(dtype=np.float64) == pytest.approx(0.3081, abs=5e-5)


def test_mnist_that_is_missing_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.prepared.PREPARING_NEEDS", ("a_package_nobody_has",))
    with pytest.raises(ExperimentError, match=r"'mnist' is not prepared in .*pip install -e '\.\[data\]'.*--data-dir"):
        data.load("mnist", tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_the_variable_counts_whenever_it_is_set(tmp_path, monkeypatch):
    """TensorFlow Datasets reads it once, when it is imported."""
    monkeypatch.setattr("experiments.prepared.PREPARING_NEEDS", ("a_package_nobody_has",))
    for place in (tmp_path / "one", tmp_path / "other"):
        monkeypatch.setenv("TFDS_DATA_DIR", str(place))
        with pytest.raises(ExperimentError, match=f"is not prepared in {place};"):
            data.load("mnist")


def test_mnist_with_damaged_records_is_refused(data_dir, tmp_path, cache):
    copy = tmp_path / "mnist" / "3.0.1"
    copy.mkdir(parents=True)
    for file in (data_dir("mnist") / "mnist" / "3.0.1").iterdir():
        content = file.read_bytes()
        (copy / file.name).write_bytes(content[: len(content) // 2] if "-train." in file.name else content)
    with pytest.raises(ExperimentError, match="cannot read mnist in") as raised:
        data.load("mnist", tmp_path)
    assert "\n" not in str(raised.value)
    assert list(cache.iterdir()) == []


def per_class(*parts):
    return np.bincount(np.concatenate([np.asarray(part.labels) for part in parts])).tolist()


@pytest.mark.slow
def test_fashion_mnist_is_the_real_one(data_dir):
    fashion = data.load("fashion_mnist", data_dir("fashion_mnist"))
    assert [len(part.labels) for part in (fashion.train, fashion.validation, fashion.test)] == [50_000, 10_000, 10_000]
    assert per_class(fashion.train, fashion.validation) == [6000] * 10
    assert per_class(fashion.test) == [1000] * 10
    images = np.concatenate([fashion.train.images, fashion.validation.images])
    assert images.shape[1:] == (28, 28, 1)
    # As its users publish them.
    assert images.mean(dtype=np.float64) == pytest.approx(0.2860, abs=5e-5)
    assert images.std(dtype=np.float64) == pytest.approx(0.3530, abs=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["", "fashion_mnist", "fashion-mnist"])
def test_fashion_mnist_is_found_in_the_data_directory(data_dir, tmp_path, monkeypatch, folder):
    place = tmp_path / folder
    shutil.copytree(data_dir("fashion_mnist"), place, dirs_exist_ok=True)
    monkeypatch.delenv(data.FASHION_MNIST_VARIABLE, raising=False)
    monkeypatch.setattr(data, "FASHION_MNIST_DEBIAN", tmp_path / "nothing")
    assert data.load("fashion_mnist", tmp_path).test.images.shape == (10_000, 28, 28, 1)


def test_fashion_mnist_that_is_missing_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv(data.FASHION_MNIST_VARIABLE, raising=False)
    monkeypatch.setattr(data, "FASHION_MNIST_DEBIAN", tmp_path / "debian")
    with pytest.raises(ExperimentError, match=r"apt-get install dataset-fashion-mnist.*GRADTX_FASHION_MNIST") as raised:
        data.load("fashion_mnist", tmp_path)
    assert "\n" not in str(raised.value)
    monkeypatch.setenv(data.FASHION_MNIST_VARIABLE, str(tmp_path / "chosen"))
    with pytest.raises(ExperimentError, match=r"is not in .*chosen: "):
        data.load("fashion_mnist", tmp_path)


@pytest.mark.slow
def test_cifar10_is_the_real_one_and_normalised(data_dir, decoded):
    cifar = data.load("cifar10", data_dir("cifar10"))
    assert [part.images.shape for part in (cifar.train, cifar.validation, cifar.test)] == [
        (45_000, 32, 32, 3),
        (5_000, 32, 32, 3),
        (10_000, 32, 32, 3),
    ]
    assert per_class(cifar.train, cifar.validation) == [5000] * 10
    assert per_class(cifar.test) == [1000] * 10
    images = np.concatenate([cifar.train.images, cifar.validation.images])
    # The constants have four digits: half a unit of the last, over the deviation.
    np.testing.assert_allclose(images.mean((0, 1, 2), dtype=np.float64), 0, atol=3e-4)
    np.testing.assert_allclose(images.std((0, 1, 2), dtype=np.float64), 1, atol=3e-4)
