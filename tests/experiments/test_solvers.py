"""The solver settings are those that were published, and the rules on their order come out in three ways."""

import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr

import gradtx
from experiments import solver_pictures, solvers
from experiments.comparison import DEFAULT, TUNED
from experiments.picture import render
from experiments.readings import final_accuracies
from experiments.solver_readings import errors, orders_alike, tables
from experiments.solvers import FAIR, PUBLISHED, SETTINGS, fair, published
from experiments.studies import resnet_solvers
from tests.experiments.synthetic import around, comparison, noisy

NAMES = [method.name for method in SETTINGS]
TABLE = {name: 1 - PUBLISHED[name].resnet110 for name in NAMES}
"""Accuracies in the published order."""
NEVER = np.full(3, np.nan)


# What Torch's optim does with a gradient, in its own words (sgd.lua, rmsprop.lua, adagrad.lua, adadelta.lua of January
# 2016). Each takes the parameters, the gradient and a dict that it keeps.


def torch_sgd(x, g, kept, rate):
    g = g + 1e-4 * x
    kept["b"] = 0.9 * kept["b"] + g if "b" in kept else g
    return x - rate * (g + 0.9 * kept["b"])


def torch_rmsprop(x, g, kept, rate):
    kept["m"] = 0.9 * kept.get("m", 0 * g) + 0.1 * g * g
    return x - rate * g / (np.sqrt(kept["m"]) + 1e-8)


def torch_adagrad(x, g, kept, rate):
    kept["v"] = kept.get("v", 0 * g) + g * g
    return x - rate * g / (np.sqrt(kept["v"]) + 1e-10)


def torch_adadelta(x, g, kept, rate):
    del rate
    kept["v"] = 0.3 * kept.get("v", 0 * g) + 0.7 * g * g
    delta = np.sqrt(kept.get("d", 0 * g) + 1e-6) / np.sqrt(kept["v"] + 1e-6) * g
    kept["d"] = 0.3 * kept.get("d", 0 * g) + 0.7 * delta * delta
    return x - delta


TORCH = {"Nesterov": torch_sgd, "RMSprop": torch_rmsprop, "Adagrad": torch_adagrad, "Adadelta": torch_adadelta}


@pytest.mark.parametrize("method", SETTINGS, ids=lambda method: method.name)
def test_settings_are_torchs(method, x64):
    """20 steps of 20, with rates as the published code sets them: a tenth after 8 steps and again after 12."""
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=5)
    name, _, rate = method.name.rstrip(")").partition(" (")
    tx = method.make(method.default if method.schedule is None else method.schedule.shape(method.default, 20))
    ours = jax.numpy.asarray(theirs)
    state, kept = tx.init(ours), {}
    for step in range(20):
        gradient = rng.normal(size=5)
        updates, state = tx.update(jax.numpy.asarray(gradient), state, ours)
        ours = gradtx.apply_updates(ours, updates)
        now = float(rate or 1) * (1 if step < 8 else 0.1 if step < 12 else 0.01)
        theirs = TORCH[name](theirs, gradient, kept, now)
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, err_msg=str(step))


def test_every_fair_method_has_the_decay_and_the_schedule():
    for method in FAIR:
        params = jax.numpy.ones(2)
        tx = method.make(method.default)
        plain = method.make.make(method.default)  # type: ignore[union-attr]
        zero = tx.update(jax.numpy.zeros(2), tx.init(params), params)[0]
        alone = plain.update(jax.numpy.full(2, 1e-4), plain.init(params), params)[0]
        np.testing.assert_allclose(zero, alone, rtol=1e-6)
        assert method.schedule is solvers.DROPPING


def both(accuracies, tuned=None) -> xr.Dataset:
    """Results of the two comparisons, as the study's run returns them."""
    tuned = tuned or dict.fromkeys((method.name for method in FAIR), around(0.9, 0.001, 3))
    made = {
        "published_": comparison(accuracies, tracks=[DEFAULT]),
        "fair_": comparison(tuned, tracks=[TUNED]),
    }
    return xr.merge([solvers._prefixed(one, prefix) for prefix, one in made.items()], combine_attrs="drop")


def test_the_two_comparisons_come_apart_again():
    accuracies = noisy(TABLE, 0.001, 3)
    results = both(accuracies)
    xr.testing.assert_identical(published(results), comparison(accuracies, tracks=[DEFAULT]))
    assert fair(results).optimizer.values.tolist() == [method.name for method in FAIR]
    assert final_accuracies(fair(results), "a model", TUNED).keys() == {method.name for method in FAIR}


def swapped(*pairs: tuple[str, str]) -> dict[str, float]:
    made = dict(TABLE)
    for a, b in pairs:
        made[a], made[b] = made[b], made[a]
    return made


BACKWARDS = dict(zip(NAMES, (1 - accuracy for accuracy in TABLE.values()), strict=True))
HALF = swapped(("Nesterov (1e-1)", "Adagrad (1e-1)"))  # 9 of 36 pairs: a tau of .5


@pytest.mark.parametrize(
    ("accuracies", "outcome"),
    [
        (noisy(TABLE, 0.0001, 3), "supported"),
        (noisy(swapped(("RMSprop (1e-3)", "RMSprop (1e-2)")), 0.0001, 3), "supported"),
        (noisy(BACKWARDS, 0.0001, 3), "refuted"),
        (noisy(HALF, 0.0001, 3), "inconclusive"),
        (noisy(dict.fromkeys(NAMES, 0.9), 0.01, 3), "inconclusive"),
        ({name: np.array([accuracy]) for name, accuracy in TABLE.items()}, "inconclusive"),
        (noisy(TABLE, 0.0001, 3) | {"Nesterov (1e-1)": NEVER}, "supported"),
        (dict.fromkeys(NAMES, NEVER), "refuted"),
    ],
    ids=["same", "two swapped", "backwards", "half", "noise", "one seed", "the best diverged", "all diverged"],
)
def test_same_order(accuracies, outcome):
    verdict = resnet_solvers.same_order(both(accuracies))
    assert verdict.outcome == outcome, verdict.effect


def test_kendalls_tau_is_one_less_twice_the_share_of_swapped_pairs():
    found = errors(both(noisy(HALF, 0.0001, 3)), "a model")
    taus, interval = orders_alike(found)
    assert taus == pytest.approx(1 - 2 * 9 / 36)
    assert interval == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("nesterov", "outcome"), [(0.93, "supported"), (0.9, "inconclusive"), (0.87, "refuted")], ids=str
)
def test_nesterov_is_best(nesterov, outcome):
    others = {method.name: 0.9 for method in FAIR[1:]}
    tuned = noisy({"Nesterov": nesterov, **others}, 0.0003, 5)
    assert resnet_solvers.nesterov_is_best(both(noisy(TABLE, 0.001, 5), tuned)).outcome == outcome


def test_the_table_is_beside_the_published_one():
    first, *others = tables(both(noisy(swapped(("RMSprop (1e-3)", "RMSprop (1e-2)")), 0.0001, 3)))
    assert first.rows[0][:4] == ("Nesterov (1e-1)", "6.97", "8.29", "6.97")
    assert [row[5] for row in first.rows] == [str(place) for place in range(1, 10)]
    assert [row[6] for row in first.rows] == ["1", "3", "2", *map(str, range(4, 10))]
    assert {row[0]: row[2] for row in first.rows}["RMSprop (1e-1)"] == "–"
    assert "testing errors" in first.note.lower()
    assert [one.title for one in others] == ["a model, tuned learning rates"]


def test_pictures_are_drawn_of_runs_that_diverged_too():
    results = both(noisy(TABLE, 0.001, 3) | {"RMSprop (1e-1)": NEVER})
    for picture in solver_pictures.PICTURES:
        assert "<svg" in render(picture, results)


def test_the_accelerator_tier_is_the_published_size():
    tier = resnet_solvers.TIERS["accelerator"]
    for one in solvers.trainings(tier):
        assert (one.epochs, one.batch_size, one.mode, one.train_size) == (200, 128, "shard", None)
        assert one.augment is not None
    assert tier.published.methods == SETTINGS
    assert list(tier.models) == ["ResNet-110", "ResNet-20"]
    assert solvers.expected(dataclasses.replace(tier, seeds=1)).keys() == solvers.expected(tier).keys()
