"""The same rule for every optimizer: the best on validation, and further where the best is at an edge."""

from itertools import chain

import numpy as np
import pytest
import xarray as xr

from experiments import tuning
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
    ("points", "rates"),
    [(1, [0.1]), (2, [0.032, 0.1]), (3, [0.032, 0.1, 0.32]), (6, [0.0032, 0.01, 0.032, 0.1, 0.32, 1.0])],
)
def test_another_budget_keeps_the_centre(points, rates):
    assert Grid(-4, 0).resized(points).rates == rates
    assert Grid(-4, 0).resized(5) == Grid(-4, 0)


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


def tune_with(best):
    """Tune where the accuracy falls with the distance from `best`; returns what was tried, and the outcome."""
    swept = []

    def train(rates):
        swept.append(list(rates))
        made = curves(rates, -np.abs(np.log(np.asarray(rates) / best)))
        return made.assign_attrs(seconds=float(len(rates)))

    return swept, tune(Grid(-2, 2), train)


def test_no_extension_where_the_best_is_inside():
    swept, tuned = tune_with(1.0)
    assert swept == [[0.1, 0.32, 1.0, 3.2, 10.0]]
    assert (tuned.chosen, tuned.edge) == (1.0, None)


def test_extended_until_the_best_is_inside():
    swept, tuned = tune_with(0.0032)
    assert swept[1:] == [[0.01, 0.032], [0.001, 0.0032]]
    assert (tuned.chosen, tuned.edge) == (0.0032, None)
    assert tuned.curves.learning_rate.values.tolist() == sorted(chain.from_iterable(swept))
    assert tuned.curves.attrs["seconds"] == 9.0


def test_extension_has_an_end_and_says_so():
    swept, tuned = tune_with(1e9)
    assert len(swept) == 1 + tuning.MOST_EXTENSIONS
    assert (tuned.chosen, tuned.edge) == (1e4, "high")


def test_where_all_diverge_lower_rates_are_tried_until_none_is_left():
    swept = []

    def train(rates):
        swept.append(list(rates))
        return curves(rates, [np.nan] * len(rates), diverged=rates).assign_attrs(seconds=0.0)

    tuned = tune(Grid(0, 1), train)
    assert (tuned.chosen, tuned.edge) == (None, "low")
    assert swept == [[1.0, 3.2], [0.1, 0.32], [0.01, 0.032], [0.001, 0.0032]]
