"""Every test has a data cache of its own; where the real data are; and a problem that trains in no time."""

import os
import pathlib
from collections.abc import Callable

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


SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data" / "tfds"
"""Where the real data may lie beside a checkout."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m data`: what needs real data."""
    for item in items:
        if data_dir.__name__ in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.data)


@pytest.fixture(scope="session")
def data_dir() -> Callable[[str], pathlib.Path]:
    """The directory to pass for a data set. Where there is none, the test is skipped, and says so."""
    chosen = pathlib.Path(os.environ.get("TFDS_DATA_DIR") or SHARED)

    def find(name: str) -> pathlib.Path:
        if name == "fashion_mnist":
            place, variable = data.fashion_mnist_files(), data.FASHION_MNIST_VARIABLE
            found = idx.find([place]) is not None
        else:
            place, variable, found = chosen, "TFDS_DATA_DIR", (chosen / name).is_dir()
        if not found:
            pytest.skip(f"no {name} in {place}: set {variable}")
        return place

    return find


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
