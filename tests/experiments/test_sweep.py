"""A sweep is its lanes, one by one, however they share the machine; and it goes on where it was stopped."""

import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr

import gradtx
from experiments import sweep as sweeps
from experiments.checkpoint import Checkpoint
from experiments.data import load
from experiments.lanes import Plan
from experiments.methods import COSINE, METHODS, Method
from experiments.models import mlp
from experiments.sweep import Sweep, run
from experiments.train import Problem, evaluate, train
from tests.experiments.conftest import examples

ONE = jax.devices()[:1]
RATES, SEEDS = [0.01, 0.1], [3, 7]
SGD = METHODS[0]
MODES = pytest.mark.parametrize("mode", ["vmap", pytest.param("map", marks=pytest.mark.slow)])
LANES = [method.with_schedule(COSINE) for method in METHODS if method.name == "NAG"] + list(METHODS)


@pytest.fixture(scope="module")
def tiny(tiny: Problem) -> Problem:
    """With a penalty: a rate of 1e30 makes it overflow at once."""
    return dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, l2=1e-3))


def close(a: xr.Dataset, b: xr.Dataset, rtol: float, atol: float = 0.0) -> None:
    """Equal labels and `diverged`, and figures that differ by rounding."""
    assert a.diverged.identical(b.diverged)
    assert a.keys() == b.keys()
    for name in a.drop_vars("diverged"):
        np.testing.assert_allclose(a[name], b[name], rtol, atol, err_msg=str(name))


def same(a: xr.Dataset, b: xr.Dataset) -> None:
    """Equal to the bit, but for the times they took."""
    xr.testing.assert_identical(a.drop_attrs(), b.drop_attrs())


def sweep_of(problem: Problem, method: Method = SGD, **other) -> Sweep:
    """Few tests ask for more than two seeds and four rates on one device: they share its program."""
    made = Sweep(problem, method, RATES, SEEDS, 2, "map", width=4, devices=ONE)
    return dataclasses.replace(made, **other)


def measured(problem: Problem, **other) -> Sweep:
    return sweep_of(problem, **{"test": examples(36, 2), "tested_at": (1, 2), **other})


def one_by_one(sweep: Sweep) -> xr.Dataset:
    """The curves by single runs of `train`, each compiled without any mapping."""
    alone = jax.jit(train, static_argnames="epochs")
    steps = sweep.problem.steps * sweep.epochs
    txs = sweep.method.lanes(np.asarray(sweep.rates, np.float32), steps)
    grid = []
    for seed in sweep.seeds:
        key = jax.random.fold_in(jax.random.key(sweeps.ROOT_SEED), seed)
        each = [jax.tree.map(lambda leaf, i=i: leaf[i], txs) for i in range(len(sweep.rates))]
        grid.append([alone(sweep.problem, tx, key, sweep.epochs)[1] for tx in each])
    curves = jax.tree.map(lambda *lanes: np.stack(lanes), *[jax.tree.map(lambda *c: np.stack(c), *row) for row in grid])
    return xr.Dataset({name: (("seed", "learning_rate", "epoch"), c) for name, c in curves._asdict().items()})


@pytest.mark.slow
def test_lanes_in_any_mode_are_single_runs(tiny):
    check_modes(sweep_of(tiny))


@pytest.mark.slow
@pytest.mark.parametrize("method", LANES, ids=repr)
def test_lanes_of_every_method_in_any_mode_are_single_runs(method):
    digits = load("digits").subset(200)
    problem = Problem(mlp(64, (8,), 10), 50, digits.train, digits.validation)
    check_modes(sweep_of(problem, method, test=digits.test, tested_at=(2,)))


def check_modes(sweep: Sweep) -> None:
    mapped, expected = run(sweep), one_by_one(sweep)
    # Products of all lanes at once round differently from single ones; 8 to 12 steps of training carry it on.
    close(run(dataclasses.replace(sweep, mode="vmap")), mapped, rtol=1e-4)
    for name in expected:
        np.testing.assert_allclose(mapped[name], expected[name], rtol=1e-4, err_msg=str(name))


def test_the_plan_covers_all_lanes_with_all_devices():
    assert len(jax.devices()) == 8
    for seeds, rates, least in [(1, 1, 1), (2, 5, 1), (3, 9, 1), (8, 2, 9), (12, 7, 1)]:
        plan = Plan.of("vmap", seeds, rates, least)
        assert plan.mesh.size == 8
        assert plan.block == (plan.height / plan.mesh.shape["seed"], plan.width / plan.mesh.shape["learning_rate"])
        assert seeds <= plan.height < seeds + 8
        assert max(rates, least) <= plan.width < max(rates, least) + 8
        assert plan.wanted.sum() == seeds * rates
    assert "on one device" in str(Plan.of("map", 2, 5, devices=ONE))
    assert str(Plan.of("vmap", 2, 5)) == (
        "2 x 5 lanes (seeds x learning rates), side by side (vmap), on 8 devices with 1 x 2 each"
    )


@pytest.mark.parametrize(
    ("mode", "lanes", "devices", "load"),
    [
        ("map", (2, 6, 6), 2, 6),
        ("map", (5, 1, 1), 2, 3),  # a device has three seeds, the other two and padding
        ("map", (1, 1, 6), 4, 1),
        ("map", (2, 1, 6), 2, 1),
        ("vmap", (1, 1, 6), 2, 3),  # padding is trained side by side with what is wanted
        ("vmap", (5, 7, 1), 4, 10),
        ("vmap", (5, 7, 1), 3, 14),
    ],
)
def test_the_busiest_device_has_as_few_lanes_as_can_be(mode, lanes: tuple[int, int, int], devices, load):
    assert Plan.of(mode, *lanes, jax.devices()[:devices]).load == load


@pytest.mark.slow
@MODES
def test_seeds_are_padded_where_devices_ask_for_it(tiny, mode):
    sweep = measured(tiny, mode=mode, seeds=[7, 4, 9], rates=[0.1], width=1)
    halves = dataclasses.replace(sweep, devices=jax.devices()[:2])
    assert (halves.plan.seeds, halves.plan.height) == (3, 4)
    close(run(halves), run(sweep), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@MODES
def test_spread_over_devices_is_the_same(tiny, mode):
    """8 devices, 2 x 3 lanes: two along the seeds, four along the rates, of which one is padding."""
    sweep = sweep_of(tiny, mode=mode, rates=[1e-2, 0.1, 1e30])
    whole = run(dataclasses.replace(sweep, devices=()))
    assert whole.learning_rate.values.tolist() == sweep.rates
    close(whole, run(sweep), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@MODES
def test_padding_changes_nothing_and_is_never_trained(tiny, mode, monkeypatch):
    sweep, kept = sweep_of(tiny, mode=mode), []
    plain = run(dataclasses.replace(sweep, width=1))
    monkeypatch.setattr(sweeps, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    padded = run(sweep, Spy(kept))
    close(padded, plain, rtol=1e-6)
    runs = kept[-1].runs
    np.testing.assert_array_equal(runs.diverged, [[False, False, True, True]] * 2)
    weights = runs.params["layers"][0]["kernel"]
    np.testing.assert_array_equal(weights[:, 2:], np.repeat(weights[:, 2:3], 2, 1))
    assert all(np.all(leaf[:, 2:] == 0) for leaf in jax.tree.leaves(runs.state))  # the count of steps


class Spy(Checkpoint):
    """Keeps what it is given in a list, and nothing on disk."""

    def __init__(self, kept: list):
        self.kept = kept

    def load(self, like):
        return None

    def save(self, tree, done, total):
        self.kept.append(tree)


def test_one_program_serves_all_rates_seeds_and_extensions(tiny, monkeypatch):
    problem = dataclasses.replace(tiny, batch_size=6)  # a program that no other test has compiled
    traced, advance = [], sweeps.advance

    def counted(*arguments, **options):
        traced.append(1)
        return advance(*arguments, **options)

    monkeypatch.setattr(sweeps, "advance", counted)
    grid = sweep_of(problem, rates=[0.1, 0.2, 0.3], width=3)
    for changes in ({}, {"rates": [0.5, 0.7]}, {"rates": [9.0]}, {"seeds": [11, 12]}, {"epochs": 5, "tested_at": (5,)}):
        run(dataclasses.replace(grid, **changes))
    assert len(traced) == 1


@MODES
def test_a_lane_that_diverges_leaves_its_neighbours_alone(tiny, mode):
    sweep = measured(tiny, mode=mode, rates=[0.1, 1e30, 0.2])
    found = run(sweep)
    assert found.diverged.values.tolist() == [[False, True, False]] * 2
    lost = found.sel(learning_rate=1e30)
    assert np.isnan(lost.test_accuracy).all()
    assert np.isnan(lost.validation_accuracy.isel(epoch=-1)).all()
    sound = run(dataclasses.replace(sweep, rates=[0.1, 0.15, 0.2]))
    beside = {"learning_rate": [0.1, 0.2]}
    same(found.sel(beside), sound.sel(beside))


@pytest.mark.slow
def test_a_seed_means_the_same_whatever_else_is_trained(tiny):
    """Common random numbers: momentum of 0 is plain gradient descent, on the same start and batches."""
    coasting = Method("Momentum of 0", lambda rate: gradtx.sgd(rate, momentum=0.0), 0.1)
    sgd = run(sweep_of(tiny))
    close(run(sweep_of(tiny, coasting)), sgd, rtol=1e-6)
    other = run(sweep_of(tiny, seeds=[4, 7]))
    close(other.sel(seed=[7]), sgd.sel(seed=[7]), rtol=1e-6)
    assert not np.array_equal(other.train_loss.isel(seed=0), sgd.train_loss.isel(seed=0))


@pytest.mark.slow
def test_tests_are_of_the_right_epoch_and_split(tiny):
    sweep = measured(tiny)
    found, alone = run(sweep), jax.jit(train, static_argnames="epochs")
    for epoch in (1, 2):
        key = jax.random.fold_in(jax.random.key(sweeps.ROOT_SEED), 7)
        after, _ = alone(tiny, SGD.make(0.1), key, epoch)
        lane = found.sel(learning_rate=0.1, seed=7, tested_epoch=epoch)
        assert sweep.test is not None
        loss, accuracy = evaluate(tiny.model, after.params, after.stats, sweep.test)
        assert float(lane.test_loss) == pytest.approx(float(loss), rel=1e-5)
        assert float(lane.test_accuracy) == pytest.approx(float(accuracy))
        loss, _ = evaluate(tiny.model, after.params, after.stats, tiny.train)
        assert float(lane.full_train_loss) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize(("epochs", "tests", "stride"), [(1, (), 1), (13, (), 1), (20, (), 2), (40, (30,), 2)])
def test_calls_are_equal_and_end_where_tests_are(tiny, epochs, tests, stride):
    assert sweep_of(tiny, mode="vmap", epochs=epochs, tested_at=tests).stride == stride
    assert sweep_of(tiny, mode="map", epochs=epochs, tested_at=tests).stride == 1


@MODES
def test_interrupted_after_any_call_it_ends_the_same(tiny, mode, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    sweep = measured(tiny, mode=mode, rates=[0.01, 0.1, 1e30], epochs=4, tested_at=(2, 4))
    counts: list[int] = []
    uninterrupted = run(sweep, Checkpoint(tmp_path / "whole", print), counts.append)
    assert sum(counts) == 4
    keep, done = Checkpoint(tmp_path / "pieces", print), 0

    def stop(epochs: int) -> None:
        nonlocal done
        done += epochs
        if done not in stopped:
            stopped.add(done)
            raise KeyboardInterrupt

    stopped: set[int] = {4}
    for _ in range(3):
        done = 0
        with pytest.raises(KeyboardInterrupt):
            run(sweep, keep, stop)
    assert keep.done() == (3, 4)
    done = 0
    same(run(sweep, keep, stop), uninterrupted)
    assert stopped == {1, 2, 3, 4}


@pytest.mark.slow
def test_without_a_rate_nothing_is_trained(tiny):
    lost, found = sweeps.untrained(measured(tiny, rates=[np.nan])), run(measured(tiny, rates=[0.1]))
    assert lost.sizes == found.sizes
    assert lost.keys() == found.keys()
    assert lost.diverged.all()
    assert np.isnan(lost.test_accuracy).all()
    assert lost.attrs.keys() == found.attrs.keys()
