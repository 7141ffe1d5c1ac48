"""A sweep in one program equals its lanes, one by one."""

import jax
import numpy as np
import pytest

import gradtx
from experiments import sweep as sweeps
from experiments.data import load
from experiments.models import mlp
from experiments.optimizers import OPTIMIZERS
from experiments.sweep import stride_of, sweep
from experiments.sweep import test_accuracy as accuracy_on
from experiments.train import Problem, advance, evaluate, train

RATES = [0.01, 0.1]
KEYS = jax.random.split(jax.random.key(0), 2)


@pytest.fixture(scope="module")
def problem() -> Problem:
    digits = load("digits").subset(200)
    return Problem(mlp(64, (8,), 10), 50, digits.train, digits.validation)


@pytest.mark.parametrize("name", ["NAG", "Adam"])
def test_equals_a_loop_of_single_runs(problem, name):
    swept = sweep(problem, OPTIMIZERS[name], RATES, KEYS, 2)
    alone = jax.jit(train, static_argnames="epochs")
    for s, key in enumerate(KEYS):
        for rate in RATES:
            run, curves = alone(problem, OPTIMIZERS[name].replace(learning_rate=rate), key, 2)
            lane = swept.curves.sel(learning_rate=rate, seed=s)
            for field, values in curves._asdict().items():
                # One product of all lanes rounds differently from many; 8 steps of training carry it on.
                np.testing.assert_allclose(lane[field], values, rtol=1e-4, err_msg=field)
            mine = jax.tree.map(lambda leaf, s=s: leaf[s], swept.at(rate))
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), mine, run.params)


def test_one_program_serves_all_rates_and_epochs(problem, monkeypatch):
    traced = []

    def counted(*arguments):
        traced.append(1)
        return advance(*arguments)

    monkeypatch.setattr(sweeps, "advance", counted)
    for rates, epochs in (RATES, 2), ([0.5, 0.7], 4):
        sweep(problem, gradtx.adagrad(1.0), rates, KEYS, epochs)
    assert len(traced) == 1


def test_diverged_lanes_are_marked_and_leave_others_alone(problem):
    swept = sweep(problem, gradtx.sgd(1.0), [0.1, 1e30], KEYS, 2)
    assert swept.curves.diverged.sel(learning_rate=0.1).values.tolist() == [False, False]
    assert swept.curves.diverged.sel(learning_rate=1e30).values.tolist() == [True, True]
    alone = sweep(problem, gradtx.sgd(1.0), [0.1, 0.1001], KEYS, 2)
    np.testing.assert_allclose(
        swept.curves.train_loss.sel(learning_rate=0.1), alone.curves.train_loss.sel(learning_rate=0.1), rtol=1e-5
    )


def test_progress_adds_up_to_all_epochs(problem):
    done = []
    sweep(problem, gradtx.sgd(1.0), RATES, KEYS, 3, done.append)
    assert sum(done) == 3


@pytest.mark.parametrize(("epochs", "stride"), [(1, 1), (4, 1), (13, 1), (20, 2), (30, 3), (35, 1), (40, 4)])
def test_calls_are_equal_and_many(epochs, stride):
    assert stride_of(epochs) == stride


def test_accuracy_of_each_seed(problem):
    swept = sweep(problem, gradtx.sgd(1.0), RATES, KEYS, 2)
    params = swept.at(0.1)
    accuracies = accuracy_on(problem.model, params, problem.validation)
    for s, accuracy in enumerate(accuracies):
        one = jax.tree.map(lambda leaf, s=s: leaf[s], params)
        assert accuracy == pytest.approx(float(evaluate(problem.model, one, problem.validation)[1]))
