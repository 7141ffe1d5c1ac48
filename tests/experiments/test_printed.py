"""The rules as coded in 2016 against the listings themselves, in NumPy; and what their mistakes change."""

import numpy as np
import pytest
import xarray as xr

from experiments.formulas import FORMULAS
from experiments.printed import PRINTED, WIRED, nesterov, stop_step, stopped
from experiments.surfaces import BOWL, trajectories


def listing(name, step, count, x=(7.0, 5.0), discount=0.9):
    """The listing of the study, without its stop."""
    x = np.array(x)
    first, second = np.zeros(2), np.zeros(2)
    points = [x.copy()]
    for _ in range(count):
        ahead = x - step * discount * first if name == "NAG" else x
        grad = np.array([2.0, 20.0]) * ahead
        if name == "SGD":
            x = x - grad * step
        elif name == "Momentum":
            first = first * discount + grad
            x = x - first * step
        elif name == "NAG":
            first = first * 0.7 + grad
            x = x - first * step
        elif name == "Adagrad":
            first = first + grad * grad
            x = x - step * grad / (np.sqrt(first) + 1e-8)
        elif name == "Adadelta":
            first = 0.9 * first + (1 - 0.9) * grad * grad
            diff = np.sqrt((second + 1e-1) / (first + 1e-1)) * grad
            x = x - step * diff
            second = 0.9 * second + (1 - 0.9) * (diff * diff)
        elif name == "RMSprop":
            first = 0.9 * first + (1 - 0.9) * grad * grad
            x = x - step * grad / (np.sqrt(first) + 1e-8)
        elif name == "Adam":
            first = 0.9 * first + (1 - 0.9) * grad
            second = 0.999 * second + (1 - 0.999) * grad * grad
            x = x - step * first / (np.sqrt(second + 1e-8))
        points.append(x.copy())
    return np.stack(points)


@pytest.mark.parametrize("name", PRINTED)
def test_the_rules_are_the_listings(name):
    path = trajectories(BOWL, PRINTED[name], 50, learning_rate=0.05).squeeze()
    np.testing.assert_allclose(np.stack([path.x, path.y], -1), listing(name, 0.05, 50), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Momentum", {}),
        ("Adagrad", {"eps_in_sqrt": False}),
        ("RMSprop", {"eps_in_sqrt": False}),
        ("Adadelta", {"eps": 0.1}),
    ],
)
def test_mistakes_that_the_library_can_be_set_to(name, changes):
    coded = trajectories(BOWL, PRINTED[name], 50, learning_rate=0.05)
    set_so = trajectories(BOWL, FORMULAS[name].replace(**changes), 50, learning_rate=0.05)
    xr.testing.assert_allclose(coded[["x", "y"]], set_so[["x", "y"]], rtol=1e-12)


def test_nesterov_hardly_reads_its_momentum():
    coded = trajectories(BOWL, nesterov(1.0), 50, learning_rate=0.01, discount=[0.5, WIRED, 0.9]).squeeze()
    right = trajectories(BOWL, FORMULAS["NAG"], 50, learning_rate=0.01, momentum=[0.5, WIRED, 0.9]).squeeze()
    np.testing.assert_allclose(coded.loss[2, -1], 0.029, rtol=0.02)
    np.testing.assert_allclose(coded.x[1], right.x[1], rtol=1e-12)
    assert not np.allclose(coded.x[0], right.x[0])


def test_the_epsilon_of_adadelta_sets_its_pace():
    right = trajectories(BOWL, FORMULAS["Adadelta"], 50, learning_rate=1.0).loss.squeeze()[-1]
    coded = trajectories(BOWL, PRINTED["Adadelta"], 50, learning_rate=1.0).loss.squeeze()[-1]
    assert round(float(right)) == 278
    assert 1e-23 < float(coded) < 1e-21


@pytest.mark.parametrize(("step", "ratio"), [(1, 3.16), (12, 6.57)])
def test_adam_without_correction_takes_longer_steps(step, ratio):
    # With a start so far away that the gradient hardly changes, the ratio of the steps is that of the corrections.
    paths = [trajectories(BOWL, table["Adam"], step, (1e9, 1e9), learning_rate=1e-2) for table in (PRINTED, FORMULAS)]
    coded, right = (float(np.diff(path.x.values.ravel())[-1]) for path in paths)
    np.testing.assert_allclose(coded / right, ratio, rtol=2e-3)


def test_the_stop_is_taken_in_by_parts_that_cancel():
    path = trajectories(BOWL, PRINTED["SGD"], 10, (10.0, -1.0), learning_rate=0.01)
    assert stop_step(path).values.tolist() == [1]
    short = stopped(path).squeeze()
    np.testing.assert_allclose(short.x, [10] + [9.8] * 10)
    np.testing.assert_allclose(short.loss[0], 110)
    assert float(short.loss[-1]) > 100


def test_a_path_that_does_not_stop_is_left_alone():
    path = trajectories(BOWL, PRINTED["SGD"], 10, learning_rate=[0.01, 0.05])
    assert stop_step(path).isnull().all()
    xr.testing.assert_equal(stopped(path), path)
