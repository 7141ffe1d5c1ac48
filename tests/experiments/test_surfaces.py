"""Paths over the surfaces against closed forms, and golden iterates that an independent program computed."""

import math

import numpy as np
import pytest
import xarray as xr

import gradtx
from experiments.formulas import FORMULAS
from experiments.surfaces import BOWL, SADDLE, first_step, grows, settled_step, stability_limit, trajectories

STEPS = np.arange(51)
RATES = [0.01, 0.05, 0.099, 0.101, 0.11]


def test_gradient_descent_follows_its_closed_form():
    path = trajectories(BOWL, FORMULAS["SGD"], 50, learning_rate=RATES)
    rates = np.array(RATES)[:, None]
    np.testing.assert_allclose(path.x, 7 * (1 - 2 * rates) ** STEPS, rtol=1e-12)
    np.testing.assert_allclose(path.y, 5 * (1 - 20 * rates) ** STEPS, rtol=1e-12, atol=1e-15)
    assert path.x.dtype == np.float64
    np.testing.assert_allclose(path.loss[:, -1], [6.498358, 0.00130151, 33.15, 1811.16, 2.07e10], rtol=3e-4)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("name", ["Momentum", "NAG"])
def test_momentum_follows_its_recurrence_in_each_direction(name, momentum):
    path = trajectories(BOWL, FORMULAS[name], 50, learning_rate=0.01, momentum=momentum).squeeze()
    for values, q in ((path.x.values, 2.0), (path.y.values, 20.0)):
        ahead, a = 1 - 0.01 * q, values
        if name == "Momentum":
            expected = (momentum + ahead) * a[1:-1] - momentum * a[:-2]
        else:
            expected = ahead * ((1 + momentum) * a[1:-1] - momentum * a[:-2])
        np.testing.assert_allclose(a[2:], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "losses"),
    [("Momentum", [0.75342, 0.013752, 0.500410, 85.0674]), ("NAG", [0.82523, 0.025170, 0.105946, 5.54908])],
)
def test_momentum_after_50_steps(name, losses):
    path = trajectories(BOWL, FORMULAS[name], 50, learning_rate=0.01, momentum=[0.5, 0.7, 0.9, 0.99])
    np.testing.assert_allclose(path.loss.squeeze()[:, -1], losses, rtol=1e-4)


def test_reformulated_nag_is_recorded_at_its_iterates():
    tx = gradtx.sgd(1.0, momentum=0.9, nesterov=True)
    rates = [0.01, 0.02]
    reformulated, nag = (trajectories(BOWL, each, 50, learning_rate=rates) for each in (tx, FORMULAS["NAG"]))
    xr.testing.assert_allclose(reformulated[["x", "y"]], nag[["x", "y"]], rtol=1e-11)


# eps is outside the root for Adagrad and RMSprop here: gradients are large, so that 1e-8 is below the digits given.
GOLDEN = [
    ("SGD", 0.01, [(6.86, 4), (6.7228, 3.2), (6.588344, 2.56)]),
    ("Momentum", 0.01, [(6.86, 4), (6.5968, 2.3), (6.227984, 0.31)]),
    ("NAG", 0.01, [(6.86, 4), (6.59932, 2.48), (6.23741384, 0.8896)]),
    ("Adagrad", 1.0, [(6, 4), (5.349208628, 3.375304953), (4.847359067, 2.908991768)]),
    ("Adadelta", 1.0, [(6.996837722, 4.996837722), (6.993593989, 4.993594266)]),
    ("RMSprop", 0.1, [(6.683772235, 4.683772234), (6.45944518, 4.461584606)]),
    ("Adam", 0.1, [(6.9, 4.9), (6.800040092, 4.800057757), (6.700147706, 4.700213291)]),
]


@pytest.mark.parametrize(("name", "rate", "points"), GOLDEN, ids=[row[0] for row in GOLDEN])
def test_first_iterates(name, rate, points):
    path = trajectories(BOWL, FORMULAS[name], len(points), learning_rate=rate).squeeze()
    np.testing.assert_allclose(np.stack([path.x, path.y], -1)[1:], points, rtol=0, atol=2e-9)


def _escape(name, rate, **grid):
    path = trajectories(SADDLE, FORMULAS[name].replace(**grid), 400, learning_rate=rate)
    return first_step(np.abs(path.y) > 1).values.tolist()


def test_gradient_descent_leaves_the_saddle_when_its_closed_form_does():
    rates = [0.01, 0.05, 0.1, 0.5]
    assert _escape("SGD", rates) == [349, 73, 38, 10]
    assert _escape("SGD", rates) == [math.ceil(math.log(1000) / math.log(1 + 2 * rate)) for rate in rates]


@pytest.mark.parametrize(
    ("name", "rate", "steps"),
    [("Momentum", 0.01, 72), ("NAG", 0.01, 68), ("RMSprop", 0.1, 4), ("Adam", 0.1, 11), ("Adagrad", 0.1, 17)],
)
def test_steps_to_leave_the_saddle(name, rate, steps):
    assert _escape(name, rate) == [steps]


def test_the_sum_of_adagrad_that_does_not_begin_at_0_holds_it_on_the_saddle():
    assert _escape("Adagrad", 0.1, initial_accumulator_value=0.1) == [28]


def test_rmsprop_ends_in_a_cycle():
    loss = trajectories(BOWL, FORMULAS["RMSprop"], 100, learning_rate=1.0).loss.squeeze()
    np.testing.assert_allclose(loss[20], 1.9e-21, rtol=0.05)
    np.testing.assert_allclose(loss[100], 4.17, rtol=0.01)


@pytest.mark.parametrize("name", ["Adagrad", "RMSprop", "Adam"])
def test_scaling_the_loss_changes_nothing_for_methods_that_divide_by_the_gradient(name):
    scaled = type(BOWL)("scaled", "", 1000 * BOWL.a, 1000 * BOWL.b, BOWL.start)
    own, other = (trajectories(s, FORMULAS[name], 50, learning_rate=0.1) for s in (BOWL, scaled))
    # Not to 1e-12: epsilon is 1e-8.
    np.testing.assert_allclose(own.x, other.x, rtol=1e-6)
    np.testing.assert_allclose(own.y, other.y, rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_limits_of_stability(momentum):
    for name, exact in (("Momentum", 2 * (1 + momentum) / 20), ("NAG", 2 * (1 + momentum) / (1 + 2 * momentum) / 20)):
        low, high = stability_limit(BOWL, FORMULAS[name].replace(momentum=momentum), 0.01, 1.0, 1e-6, 2000)
        assert low - 1e-6 <= exact <= high + 1e-6
        assert high - low <= 1e-6


def test_limits_that_are_not_enclosed():
    with pytest.raises(ValueError, match=r"no limit between 0.01 and 0.02: the lower must converge"):
        stability_limit(BOWL, FORMULAS["SGD"], 0.01, 0.02, 1e-6, 300)


def test_a_grid_combines_its_values_and_overflow_stays_in_its_lane():
    path = trajectories(BOWL, FORMULAS["Momentum"], 500, momentum=[0.5, 0.9], learning_rate=[0.01, 10.0])
    assert path.loss.dims == ("momentum", "learning_rate", "step")
    assert np.isfinite(path.loss.sel(learning_rate=0.01)).all()
    assert not np.isfinite(path.loss.sel(learning_rate=10.0).isel(step=-1)).any()
    assert grows(path).values.tolist() == [[False, True]] * 2


def test_first_and_settled_steps():
    below = xr.DataArray(
        [[0, 1, 0, 1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0, 0, 0, 1], [0] * 9, [1] * 9],
        dims=("path", "step"),
        coords={"step": np.arange(9)},
    ).astype(bool)
    np.testing.assert_array_equal(first_step(below), [1, 1, np.nan, 0])
    np.testing.assert_array_equal(settled_step(below), [3, np.nan, np.nan, 0])
