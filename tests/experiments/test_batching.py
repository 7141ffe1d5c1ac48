"""The study of batch sizes: its noise follows theory, its claims can come out in three ways, and it runs."""

import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr

from experiments import batch_sizes, data
from experiments.batch_readings import fluctuation, last_loss, size_name, to_reach
from experiments.gradient_noise import gradient_variance
from experiments.looks import DARK, LIGHT
from experiments.models import softmax_regression
from experiments.picture import render_png
from experiments.progress import Progress
from experiments.store import opened
from experiments.studies.batching import (
    STUDY,
    full_batch_is_slower,
    less_fluctuation,
    less_gradient_variance,
    online_does_not_settle,
)
from experiments.study import Context
from experiments.tuning import Grid

SIZES = [1, 10, 100, 1000]
SEEDS = 5


def made(last=(0.2, 0.2, 0.25, 0.6), moves=(0.02, 0.004, 0.002, 0.001), noise=(80.0, 8.0, 0.8), spread=0.02, key=0):
    """Runs that fall to `last` and fluctuate by `moves`; gradients with the variances `noise`."""
    rng = np.random.default_rng(key)
    examples = np.arange(100, 20_001, 100)
    loss = np.full((len(SIZES), SEEDS, len(examples)), np.nan)
    for i, (end, move) in enumerate(zip(last, moves, strict=True)):
        wave = np.where(np.arange(len(examples)) % 2, 1.0, -1.0) * (1 + spread * rng.normal(size=(SEEDS, 1)))
        level = end * (1 + spread * rng.normal(size=(SEEDS, 1)))
        loss[i] = level + 2 * np.exp(-examples / 2000) + move * wave
    loss[-1, :, np.arange(len(examples)) % 10 != 9] = np.nan  # the full batch has fewer checkpoints
    variance = np.array(noise)[:, None] * np.exp(spread * rng.normal(size=(2, len(noise), SEEDS)))
    return xr.Dataset(
        {
            "loss": (("batch_size", "seed", "examples"), loss),
            "test_accuracy": (("batch_size", "seed"), np.full((len(SIZES), SEEDS), 0.9)),
            "learning_rate": ("batch_size", [0.01, 0.1, 0.3, 1.0]),
            "at_edge": ("batch_size", [False, False, False, True]),
            "example_seconds": ("batch_size", [1e-5, 3e-6, 2e-6, 2e-6]),
            "variance": (("point", "noise_size", "seed"), variance),
            "population_variance": (("point", "seed"), np.full((2, SEEDS), 80.0)),
        },
        coords={
            "batch_size": SIZES, "seed": np.arange(SEEDS), "examples": examples, "noise_size": SIZES[:-1],
            "point": ["at the start", "after training"],
        },
    )  # fmt: skip


def diverged(results: xr.Dataset, size: int) -> xr.Dataset:
    loss = results.loss.copy()
    loss.loc[{"batch_size": size}] = np.nan
    return results.assign(loss=loss)


@pytest.mark.parametrize(
    ("decide", "results", "outcome"),
    [
        (less_gradient_variance, made(), "supported"),
        (less_gradient_variance, made(noise=(80, 120, 0.8)), "refuted"),
        (less_gradient_variance, made(noise=(80, 80, 0.8), spread=0.3), "inconclusive"),
        (less_fluctuation, made(), "supported"),
        (less_fluctuation, made(moves=(0.002, 0.004, 0.001, 0.001)), "refuted"),
        (less_fluctuation, made(moves=(0.002, 0.002, 0.001, 0.001), spread=0.1), "inconclusive"),
        (less_fluctuation, diverged(made(), 1), "inconclusive"),
        (full_batch_is_slower, made(), "supported"),
        (full_batch_is_slower, made(last=(0.2, 0.2, 0.7, 0.6)), "refuted"),
        (full_batch_is_slower, made(last=(0.2, 0.2, 0.6, 0.6), spread=0.1, key=1), "inconclusive"),
        (full_batch_is_slower, diverged(made(), 1000), "inconclusive"),
        (online_does_not_settle, made(), "supported"),
        (online_does_not_settle, made(moves=(0.004, 0.004, 0.001, 0.001)), "refuted"),
        (online_does_not_settle, made(moves=(0.01, 0.004, 0.001, 0.001), spread=0.2), "inconclusive"),
        (online_does_not_settle, diverged(made(), 1), "supported"),
    ],
)
def test_claims(decide, results, outcome):
    assert decide(results).outcome == outcome


def test_fluctuation_is_measured_from_a_line():
    results = made(moves=(0.0, 0.01, 0.0, 0.0), spread=0.0)
    x = results.examples.values / 20_000
    results.loss[0] = 1 - 0.5 * x  # falling steadily is no fluctuation
    np.testing.assert_allclose(fluctuation(results, 1), 0, atol=1e-12)
    np.testing.assert_allclose(fluctuation(results, 10), 0.01, rtol=0.03)
    assert fluctuation(diverged(results, 10), 10).shape == (SEEDS,)
    assert np.isnan(fluctuation(diverged(results, 10), 10)).all()


def test_readings():
    results = made(spread=0.0, moves=(0.0,) * 4)
    np.testing.assert_allclose(last_loss(results, 1000), 0.6 + 2 * np.exp(-10))
    mean = 0.6 + 2 * np.exp(-results.examples.values / 2000)
    reached = to_reach(results.loss.sel(batch_size=1000), 0.8)
    assert reached == results.examples.values[(mean <= 0.8) & (results.examples.values % 1000 == 0)][0]
    assert to_reach(results.loss.sel(batch_size=1000), 0.1) == np.inf
    assert [size_name(results, size) for size in SIZES] == ["1 (online)", "10", "100", "1,000 (full)"]


@pytest.mark.parametrize(
    "results",
    [
        made(),
        pytest.param(diverged(made(), 1), marks=pytest.mark.slow),
        pytest.param(made().isel(seed=[0]), marks=pytest.mark.slow),
    ],
    ids=["whole", "diverged", "one"],
)
@pytest.mark.slow
def test_tables_and_pictures(results):
    for table in STUDY.tables(results):
        assert all(len(row) == len(table.columns) for row in table.rows)
    for one in STUDY.pictures:
        assert render_png(one, results, LIGHT, dpi=30).startswith(b"\x89PNG")
    assert render_png(STUDY.pictures[0], results, DARK, dpi=30).startswith(b"\x89PNG")


@pytest.mark.slow
def test_noise_falls_as_theory_has_it():
    """s (n - B) / ((n - 1) B) for drawing without replacement, within the simulation's error; and s is exact."""
    train = data.load("digits").subset(200).train
    model, key = softmax_regression(64, 10), jax.random.key(0)
    sizes, draws = (1, 10, 100, 200), 400
    measure = jax.jit(gradient_variance, static_argnums=(0, 3, 4))
    measured, population = measure(model, model.init(key), train, sizes, draws, key)
    expected = float(population) * (200 - np.array(sizes)) / (199 * np.array(sizes))
    # The relative error of a mean of 400 squared distances, whose spread is at most about their mean.
    np.testing.assert_allclose(measured[:3], expected[:3], rtol=4 / np.sqrt(draws))
    assert measured[3] < 1e-8  # the full batch has none

    layer = model.init(key).params["layers"][0]
    x = np.asarray(train.images, np.float64).reshape(200, -1)
    logits = x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)
    p = np.exp(logits - logits.max(1, keepdims=True))
    error = p / p.sum(1, keepdims=True) - np.eye(10)[np.asarray(train.labels)]
    gradients = np.concatenate([x, np.ones((200, 1))], 1)[:, :, None] * error[:, None]
    exact = ((gradients - gradients.mean(0)) ** 2).sum((1, 2)).mean()
    np.testing.assert_allclose(population, exact, rtol=1e-4)


@pytest.mark.slow
def test_runs_and_goes_on(data_dir, tmp_path, decoded):
    tier = dataclasses.replace(
        STUDY.tiers["smoke"], sizes=(1, 20, 100), noise_sizes=(1, 20), draws=5, train_size=100, epochs=12, seeds=2,
        grid=Grid(-4, -1),
    )  # fmt: skip
    dataset = data.load("mnist", data_dir("mnist"))

    def run():
        with opened(tmp_path / "parts", "a spec") as store, Progress() as progress:
            return STUDY.run(tier, Context(store, progress, dataset)), store.names()

    first, parts = run()
    second, again = run()
    assert parts == again
    xr.testing.assert_identical(first, second)
    assert set(batch_sizes.expected(tier)) <= {name.replace("_", " ", 1).replace("_", "/") for name in parts} | {
        "noise"
    }
    assert first.loss.sel(batch_size=100).count("examples").values.tolist() == [12, 12]
    assert first.loss.sel(batch_size=1).count("examples").values.tolist() == [120, 120]
    assert (first.loss.sel(batch_size=20).isel(examples=-1) < 1).all()
    for claim in STUDY.claims:
        assert claim.decide(first).outcome in ("supported", "refuted", "inconclusive")
