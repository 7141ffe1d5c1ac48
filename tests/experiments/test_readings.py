"""What tables say, on results of which the answer is known."""

import numpy as np
import pytest

from experiments import readings
from experiments.comparison import DEFAULT, TUNED
from experiments.readings import costs, standings, tables
from tests.experiments.synthetic import NAMES, around, comparison, noisy

LADDER = {name: around(0.9 + 0.01 * i, 0.0003) for i, name in enumerate(NAMES)}
NEVER = np.full(5, np.nan)


def test_standings_of_a_ladder():
    found = standings(comparison(LADDER), "a model", TUNED)
    assert [one.optimizer for one in found] == NAMES[::-1]
    assert [one.rank for one in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [one.group for one in found] == list("abcdefg")
    assert found[0].test.mean == pytest.approx(0.96)
    assert found[-1].to_best.mean == pytest.approx(-0.06)
    assert found[0].to_best == (0, 0, 0)
    assert all(one.learning_rate == 0.1 and not one.at_edge and one.diverged == 0 for one in found)
    assert all(one.good_decades == 2 for one in found)  # two good rates, each for a decade of this grid


def test_epochs_steps_and_seconds_to_the_target():
    results = comparison(LADDER)
    results.validation_accuracy[:] = np.array([0.5, 0.7, 0.96, 0.9, 0.96, 0.96])
    results.validation_accuracy.loc[{"optimizer": "SGD", "seed": 100}] = np.array([0.5, 0.7, 0.7, 0.7, 0.96, 0.96])
    results.validation_accuracy.loc[{"optimizer": "NAG", "seed": 100}] = 0.5  # never
    found = {one.optimizer: one for one in standings(results, "a model", TUNED)}
    assert found["Adam"].epochs_to_target == (3, 3, 3)
    assert found["Adam"].steps_to_target == 30
    assert found["Adam"].seconds_to_target == 1.5
    assert found["SGD"].epochs_to_target.mean == pytest.approx((5 + 4 * 3) / 5)
    assert found["NAG"].epochs_to_target.mean == np.inf
    rows = {row[0]: row for row in tables(results)[0].rows}
    assert rows["Adam"][6:8] == ("3.0 ± 0.0 (30)", "1.5")
    assert rows["NAG"][6:8] == ("–", "–")


def test_results_without_the_number_of_steps():
    table = tables(comparison(LADDER).drop_vars("epoch_steps"))[0]
    assert all("(" not in row[6] for row in table.rows)


def test_methods_that_diverged_are_last_and_without_a_group():
    once = np.array([0.99, np.nan, 0.99, 0.99, 0.99])
    found = standings(comparison(LADDER | {"Adam": once, "SGD": NEVER}), "a model", TUNED)
    assert {one.optimizer for one in found[-2:]} == {"Adam", "SGD"}
    assert {one.diverged for one in found[-2:]} == {1, 5}
    assert all(one.group == "" for one in found[-2:])
    assert found[0].optimizer == "RMSprop"


@pytest.mark.parametrize("tracks", [(TUNED,), (DEFAULT,), (TUNED, DEFAULT)])
@pytest.mark.parametrize(
    "test",
    [LADDER, {name: one[:1] for name, one in LADDER.items()}, dict.fromkeys(NAMES, NEVER), {"Adam": around(0.9)}],
    ids=["ladder", "one seed", "all diverged", "one method"],
)
def test_tables_are_whole(test, tracks):
    results = comparison(test, tracks=tracks, models=("one", "two"))
    made = tables(results)
    assert len(made) == 2 * len(tracks)
    for table in made:
        assert sorted(row[0] for row in table.rows) == sorted(test)
        for row in table.rows:
            assert len(row) == len(table.columns)
            assert not any("nan" in cell or "inf" in cell for cell in row)


def test_what_is_not_known_is_a_dash():
    row = tables(comparison({name: one[:1] for name, one in LADDER.items()}, tracks=(DEFAULT,)))[0].rows[1]
    assert row[3] == row[5] == row[8] == "–"


def test_groups_are_those_of_paired_tests():
    """Seeds differ by far more than methods, and the same seeds help all."""
    luck = 0.02 * np.random.default_rng(0).normal(size=5)
    made = noisy({"SGD": 0.9, "NAG": 0.901, "Adam": 0.9}, 0.0001)
    found = {
        one.optimizer: one.group
        for one in standings(comparison({n: v + luck for n, v in made.items()}), "a model", TUNED)
    }
    assert found["NAG"] == "a"
    assert found["SGD"] == found["Adam"] == "b"


def test_costs():
    results = comparison(LADDER, models=("one", "two"))
    results.validation_accuracy[:] = 0.96
    results.validation_accuracy.loc[{"optimizer": "SGD", "model": "two"}] = np.array([0.1, 0.96, 1, 1, 1, 1])
    results.epoch_seconds.loc[{"model": "two"}] = 3.0
    found = costs(results)
    assert dict(found.sizes) == {"problem": 10, "optimizer": 7}
    two = found.sel(problem="two, seed 100")
    assert two.sel(optimizer="Adam") == np.inf  # the target is SGD's now
    assert two.sel(optimizer="SGD") == 3
    assert two.seconds.sel(optimizer="SGD") == 9
    assert found.sel(problem="one, seed 104", optimizer="SGD") == 1
    assert np.isinf(costs(comparison(dict.fromkeys(NAMES, NEVER)))).all()


def test_the_target_is_of_the_best_that_never_diverged():
    once = np.array([0.99, np.nan, 0.99, 0.99, 0.99])
    with_it, without = comparison(LADDER | {"Adam": once}), comparison({n: v for n, v in LADDER.items() if n != "Adam"})
    assert readings.TARGET < 1
    for name in NAMES[:-1]:
        first, second = (
            next(one for one in standings(made, "a model", TUNED) if one.optimizer == name)
            for made in (with_it, without)
        )
        assert first.epochs_to_target.mean == second.epochs_to_target.mean
