"""Every test has a data cache of its own; and a problem that trains in no time."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data, idx
from experiments.data import Dataset, Examples
from experiments.models import softmax_regression
from experiments.train import Problem

PIXELS, CLASSES = 4, 3


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GRADTX_CACHE", str(place))
    return place


@pytest.fixture
def decoded(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A data cache that tests of the real data share, over all processes: decoding takes half a minute."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "decoded"
    monkeypatch.setenv("GRADTX_CACHE", str(place))
    return place


@pytest.fixture
def fashion_files() -> pathlib.Path:
    """Fashion-MNIST where Debian's package or the variable has it; without it the test is skipped, and says so."""
    if not idx.find([data.fashion_mnist_files()]):
        pytest.skip(f"no Fashion-MNIST in {data.fashion_mnist_files()}: set {data.FASHION_MNIST_VARIABLE}")
    return data.fashion_mnist_files()


def examples(count: int, seed: int) -> Examples:
    """Points around the corner of their class: a problem that a linear model solves, though not wholly."""
    rng = np.random.RandomState(seed)
    labels = rng.randint(CLASSES, size=count)
    images = np.eye(CLASSES, PIXELS)[labels] + 0.4 * rng.standard_normal((count, PIXELS))
    return Examples(jnp.asarray(images.reshape(count, 2, 2, 1), jnp.float32), jnp.asarray(labels, jnp.int32))


def dataset() -> Dataset:
    return Dataset("made up", CLASSES, examples(48, 0), examples(24, 1), examples(36, 2), "made up")


@pytest.fixture(scope="session")
def tiny() -> Problem:
    data = dataset()
    return Problem(softmax_regression(PIXELS, CLASSES), 8, data.train, data.validation)


def stamps(root: pathlib.Path) -> dict[pathlib.Path, tuple[int, int, int]]:
    """By these it shows whether anything was written."""
    return {path: (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*")}


def same(a: object, b: object, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Every leaf of the trees is equal, to the bit unless a tolerance is given."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        where = jax.tree_util.keystr(path)
        if rtol or atol:
            np.testing.assert_allclose(one, other, rtol, atol, err_msg=where)
        else:
            np.testing.assert_array_equal(one, other, err_msg=where)
