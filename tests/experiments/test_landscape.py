"""The loss at many points is that of a plain loop, whatever shares the work; trainings keep the weights they have."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from flax import nnx
from jax.flatten_util import ravel_pytree

from experiments.checkpoint import Checkpoint
from experiments.landscape import evaluate, planes, training
from experiments.landscape.training import flat, parameters, start, train, unravel
from experiments.methods import METHODS
from experiments.models import Classifier
from experiments.models.normalization import EPSILON, BatchNorm
from experiments.sweep import key_of
from experiments.train import Problem
from experiments.train import train as train_once
from tests.experiments.conftest import CLASSES, PIXELS, dataset

HIDDEN = 6


class Net(nnx.Module):
    """Two dense layers with batch normalisation between."""

    def __init__(self, rngs: nnx.Rngs):
        self.first, self.norm = nnx.Linear(PIXELS, HIDDEN, rngs=rngs), BatchNorm(HIDDEN)
        self.last = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, images, *, training=False):
        x = self.norm(self.first(images.reshape(len(images), -1)), training=training)
        return self.last(nnx.relu(x))


@dataclass(frozen=True)
class Build:
    def __call__(self, rngs):
        return Net(rngs)


MODEL = Classifier(Build())
DATA = dataset()


def by_hand(variables, examples, recompute=True):
    """In float64 NumPy."""
    params, stats = (jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), part) for part in variables)
    x = np.asarray(examples.images, np.float64).reshape(len(examples.labels), -1)
    x = x @ params["first"]["kernel"] + params["first"]["bias"]
    mean, var = (x.mean(0), x.var(0)) if recompute else (stats["norm"]["mean"], stats["norm"]["var"])
    with np.errstate(invalid="ignore"):
        x = params["norm"]["scale"] * (x - mean) / np.sqrt(var + EPSILON) + params["norm"]["bias"]
    logits = np.maximum(x, 0) @ params["last"]["kernel"] + params["last"]["bias"]
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -logs[np.arange(len(x)), np.asarray(examples.labels)].mean()


@pytest.fixture(scope="module")
def corners():
    """Four vectors, with statistics that are those of their own weights."""
    rng, like = np.random.default_rng(0), jax.eval_shape(MODEL.init, jax.random.key(0))
    found = []
    for _ in range(4):
        one = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), like)
        x = np.asarray(DATA.train.images).reshape(-1, PIXELS) @ one.params["first"]["kernel"]
        x = x + one.params["first"]["bias"]
        one.stats["norm"].update(mean=x.mean(0), var=x.var(0))
        found.append(np.asarray(flat(one)))
    return found


@pytest.fixture(scope="module")
def plane(corners):
    return planes.quadrilateral(corners)


class KilledError(Exception):
    pass


def evaluated(plane, **how):
    return evaluate.losses(MODEL, planes.stacked(MODEL, plane.corners), plane.grid(6), DATA.train, **how)


@pytest.mark.parametrize("recompute", [True, False], ids=["recomputed", "interpolated"])
def test_losses_are_those_of_a_plain_loop(plane, recompute):
    vectors = plane.grid(6)[:, :4] @ plane.corners.astype(np.float64)
    expected = [by_hand(unravel(MODEL, vector), DATA.train, recompute) for vector in vectors]
    # float32, with sums of corners of both signs; a small variance is divided by.
    np.testing.assert_allclose(evaluated(plane, recompute=recompute), expected, rtol=2e-3)
    assert np.isnan(expected).any() != recompute  # beyond the corners some variances are negative


def test_interpolated_statistics_are_right_at_the_corners_alone(corners, plane):
    """There the two agree; half-way they do not: the false wall."""
    where = np.vstack([np.eye(4), np.full((1, 4), 0.25)])
    stacked = planes.stacked(MODEL, plane.corners)
    right, false = (
        evaluate.losses(MODEL, stacked, planes.padded(where), DATA.train, recompute=recompute)
        for recompute in (True, False)
    )
    np.testing.assert_allclose(false[:4], right[:4], rtol=1e-4)
    assert abs(false[4] - right[4]) > 0.01


def test_a_network_with_its_own_statistics_does_not_change_with_the_size_of_its_filters(corners):
    """What batch normalisation follows may be scaled: recomputed, the loss stays (up to the epsilon)."""
    grown = unravel(MODEL, corners[0].copy())
    grown.params["first"] = jax.tree.map(lambda leaf: 7 * leaf, grown.params["first"])
    both = planes.stacked(MODEL, np.stack([corners[0], np.asarray(flat(grown))]))
    found = evaluate.losses(MODEL, both, planes.padded(np.eye(2)), DATA.train)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


@pytest.mark.parametrize("width", [2, 5])
def test_chunks_side_by_side_change_nothing(plane, width):
    np.testing.assert_allclose(evaluated(plane, width=width), evaluated(plane), rtol=1e-4)


def test_goes_on_where_it_was_and_ends_with_the_same_bits(plane, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "CALL", 1)  # 8 points a call, on the 8 devices of the tests
    monkeypatch.setattr(evaluate, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    whole, checkpoint = evaluated(plane), Checkpoint(tmp_path / "one", print)

    def killed(points):
        seen.append(points)
        if sum(seen) >= 16:
            raise KilledError

    seen = []
    with pytest.raises(KilledError):
        evaluated(plane, checkpoint=checkpoint, on_points=killed)
    assert checkpoint.done() == (16, 36)
    again = []
    np.testing.assert_array_equal(evaluated(plane, checkpoint=checkpoint, on_points=again.append), whole)
    assert again == [16, 8, 8, 4]


def test_vectors_and_trees_are_the_same():
    variables = MODEL.init(jax.random.key(0))
    vector = np.asarray(flat(variables))
    for a, b in zip(jax.tree.leaves(unravel(MODEL, vector)), jax.tree.leaves(variables), strict=True):
        np.testing.assert_array_equal(a, b)
    both = unravel(MODEL, np.stack([vector, 2 * vector]))
    np.testing.assert_array_equal(both.params["last"]["kernel"][1], 2 * variables.params["last"]["kernel"])
    assert parameters(MODEL) == ravel_pytree(variables.params)[0].size == len(vector) - 2 * HIDDEN
    with pytest.raises(ValueError, match=f"vectors of {len(vector)} weights for .* got 3"):
        unravel(MODEL, np.zeros(3, np.float32))


@pytest.mark.slow
def test_trainings_keep_what_training_makes():
    problem = Problem(MODEL, 8, DATA.train, DATA.validation)  # 6 steps an epoch
    found = train(problem, METHODS[-1], 0.01, [100, 101, 102], epochs=2, moments=3)
    np.testing.assert_array_equal(found.moment, np.arange(7) / 3)
    np.testing.assert_array_equal(found.path[0], start(MODEL, 100))
    np.testing.assert_array_equal(found.path[-1], found.weights.sel(seed=100))
    assert not found.diverged.any()
    once = jax.jit(train_once, static_argnames="epochs")
    for seed in (100, 102):
        tx = METHODS[-1].make(np.float32(0.01))
        run, curves = once(problem, tx, key_of(jnp.asarray(seed, jnp.uint32)), epochs=2)
        vector = flat(planes.Variables(run.params, run.stats))
        np.testing.assert_allclose(found.weights.sel(seed=seed), vector, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.loss.sel(seed=seed), curves.validation_loss[-1], rtol=1e-3)
        np.testing.assert_allclose(found.accuracy.sel(seed=seed), curves.validation_accuracy[-1], atol=0.05)


@pytest.mark.slow
def test_trainings_go_on_where_they_were_and_end_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    problem, checkpoint = Problem(MODEL, 8, DATA.train, DATA.validation), Checkpoint(tmp_path / "one", print)
    trained = partial(train, problem, METHODS[-1], 0.01, [100, 101, 102], epochs=3, moments=2)
    whole, seen = trained(), []

    def killed(epochs):
        seen.append(epochs)
        if len(seen) == 2:
            raise KilledError

    with pytest.raises(KilledError):
        trained(checkpoint=checkpoint, on_epoch=killed)
    assert checkpoint.done() == (2, 3)
    again = []
    xr.testing.assert_identical(trained(checkpoint=checkpoint, on_epoch=again.append), whole)
    assert again == [2, 1]
    assert whole.path.notnull().all()


def test_moments_must_divide_an_epoch():
    problem = Problem(MODEL, 8, DATA.train, DATA.validation)
    with pytest.raises(ValueError, match="divide the 6 steps of an epoch, got 4"):
        train(problem, METHODS[0], 0.1, [100], epochs=1, moments=4)
