"""The same rule for every optimizer: the best on validation, and further where the best is at an edge."""

from itertools import chain

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import experiments.tuning as tuning
import gradtx
from experiments.data import Examples
from experiments.models import softmax_regression
from experiments.sweep import Sweep
from experiments.train import Problem
from experiments.tuning import Grid, choose, edge_of_choice, tune


def curves(rates, accuracies, losses=None, diverged=()):
    """Curves of one seed, flat over two epochs but for their last."""
    accuracy = np.stack([np.zeros(len(rates)), accuracies], -1)[None]
    loss = np.stack([np.zeros(len(rates)), np.ones(len(rates)) if losses is None else losses], -1)[None]
    dims = ("seed", "learning_rate", "epoch")
    return xr.Dataset(
        {
            "train_loss": (dims, loss),
            "validation_loss": (dims, loss),
            "validation_accuracy": (dims, accuracy),
            "diverged": (dims[:2], np.isin(rates, diverged)[None]),
        },
        coords={"seed": [0], "learning_rate": np.asarray(rates, float), "epoch": [1, 2]},
    )


def test_the_grid_is_exact_where_grids_overlap():
    grid, further = Grid(-4, 0).extended("high")
    assert Grid(-4, 0).rates == [0.01, 0.032, 0.1, 0.32, 1.0]
    assert further.rates == [3.2, 10.0]
    assert grid == Grid(-4, 2)
    grid, further = grid.extended("low")
    assert further.rates == [0.001, 0.0032]
    assert grid.rates == further.rates + Grid(-4, 2).rates


@pytest.mark.parametrize(
    ("made", "rate", "edge"),
    [
        (curves([0.1, 1, 10], [0.5, 0.9, 0.8]), 1, None),
        (curves([0.1, 1, 10], [0.9, 0.8, 0.7]), 0.1, "low"),
        (curves([0.1, 1, 10], [0.7, 0.8, 0.9]), 10, "high"),
        (curves([0.1, 1, 10], [0.7, 0.8, 0.9], diverged=[10]), 1, None),
        (curves([0.1, 1, 10], [0.7, 0.7, 0.7], losses=[3, 2, 3]), 1, None),
        (curves([0.1, 1, 10], [0.5, 0.7, 0.7], losses=[2, 2, 2]), 1, None),
        (curves([0.1, 1, 10], [np.nan] * 3, diverged=[0.1, 1, 10]), None, "low"),
    ],
    ids=["inside", "low", "high", "diverged", "tie by loss", "tie by rate", "all diverged"],
)
def test_choice_and_edge(made, rate, edge):
    assert choose(made) == rate
    assert edge_of_choice(made) == edge


def test_the_mean_over_seeds_decides():
    steady, erratic = [0.8, 0.8], [0.95, 0.5]
    made = xr.concat([curves([1, 10], [a, b]) for a, b in zip(steady, erratic, strict=True)], "seed")
    assert choose(made) == 1
    made.diverged[1, 0] = True  # one seed is enough
    assert choose(made) == 10


def tune_with(monkeypatch, best):
    """Tune with sweeps whose accuracy falls with the distance from `best`; returns what was tried, and the outcome."""
    swept = []

    def sweep(problem, tx, rates, keys, epochs, on_epochs):
        swept.append(rates)
        return Sweep(curves(rates, -np.abs(np.log(np.asarray(rates) / best))), {"w": jnp.zeros((1, len(rates)))})

    monkeypatch.setattr(tuning, "sweep", sweep)
    monkeypatch.setattr(tuning, "test_accuracy", lambda model, params, test: np.zeros(len(params["w"])))
    extensions = []
    nothing = Examples(jnp.zeros((0, 1, 1, 1)), jnp.zeros(0, jnp.int32))
    problem = Problem(softmax_regression(1, 1), 1, nothing, nothing)
    keys = jax.random.split(jax.random.key(0), 1)
    tuned = tune(problem, nothing, gradtx.sgd(1.0), Grid(-2, 2), keys, 2, lambda: extensions.append(1))
    assert len(extensions) == len(swept) - 1
    return swept, tuned


def test_no_extension_where_the_best_is_inside(monkeypatch):
    swept, tuned = tune_with(monkeypatch, 1.0)
    assert swept == [[0.1, 0.32, 1.0, 3.2, 10.0]]
    assert (tuned.chosen, tuned.edge) == (1.0, None)


def test_extended_until_the_best_is_inside(monkeypatch):
    swept, tuned = tune_with(monkeypatch, 0.0032)
    assert swept[1:] == [[0.01, 0.032], [0.001, 0.0032]]
    assert (tuned.chosen, tuned.edge) == (0.0032, None)
    assert tuned.curves.learning_rate.values.tolist() == sorted(chain.from_iterable(swept))


def test_extension_has_an_end_and_says_so(monkeypatch):
    swept, tuned = tune_with(monkeypatch, 1e9)
    assert len(swept) == 1 + tuning.MOST_EXTENSIONS
    assert (tuned.chosen, tuned.edge) == (1e4, "high")
