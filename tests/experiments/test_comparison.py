"""A comparison is labelled, fair, and reads the test split only when all is chosen."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import gradtx
from experiments import comparison, netcdf, results, sealed, status, sweep
from experiments.changes import Changes
from experiments.comparison import DEFAULT, TUNED, Stage, Training, compare, expected
from experiments.methods import METHODS, Method
from experiments.models import softmax_regression
from experiments.progress import Progress
from experiments.store import Store, file_name, opened
from experiments.study import Context
from experiments.tuning import Grid
from tests.experiments import made_up
from tests.experiments.conftest import CLASSES, PIXELS, dataset, stamps

SGD = METHODS[0]
TWIN = Method("Twin", lambda rate: gradtx.sgd(rate), 0.1)
"""SGD by another name; its default is in the grid."""
TIER = Training(
    {"a model": softmax_regression(PIXELS, CLASSES)}, epochs=2, seeds=2, batch_size=8, grid=Grid(-2, 0),
    tuning=Stage(epochs=2, seeds=2), mode="map", estimate="no time", methods=(SGD, TWIN), defaults=True,
    tested_at=(1, 2),
)  # fmt: skip


def compared(place, tier=TIER, data=None) -> tuple[xr.Dataset, Context]:
    context = Context(Store(place), Progress(), data or dataset(), say=lambda line: None)
    return compare(tier, context), context


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    place = tmp_path_factory.mktemp("parts")
    return *compared(place), place


def test_labels(found):
    results, _, _ = found
    assert dict(results.sizes) == {
        "model": 1, "optimizer": 2, "track": 2, "seed": 2, "epoch": 2, "tested_epoch": 2,
        "tuning_seed": 2, "tuning_epoch": 2, "learning_rate": results.sizes["learning_rate"],
    }  # fmt: skip
    assert results.optimizer.values.tolist() == ["SGD", "Twin"]
    assert results.track.values.tolist() == [TUNED, DEFAULT]
    assert results.seed.values.tolist() == [100, 101]
    assert results.tuning_seed.values.tolist() == [0, 1]
    assert results.tested_epoch.values.tolist() == [1, 2]
    finals = ("model", "optimizer", "track", "seed")
    for name, ending in {
        "train_loss": "epoch",
        "test_accuracy": "tested_epoch",
        "full_train_loss": "tested_epoch",
    }.items():
        assert set(results[name].dims) == {*finals, ending}
        assert np.isfinite(results[name]).all()
    assert set(results.diverged.dims) == set(finals)
    assert not results.diverged.any()
    assert set(results.used_learning_rate.dims) == {"model", "optimizer", "track"}
    assert set(results.seconds.dims) == {"model", "optimizer"}
    xr.testing.assert_equal(results.used_learning_rate.sel(track=TUNED, drop=True), results.chosen_learning_rate)
    assert results.used_learning_rate.sel(track=DEFAULT).values.tolist() == [[0.01, 0.1]]
    assert (
        results.tuning_validation_loss.isnull()
        .any("tuning_epoch")
        .broadcast_equals(~results.tried.broadcast_like(results.tuning_diverged))
    )
    xr.testing.assert_identical(netcdf.decode(bytes(netcdf.encode(results))), results)


def test_equal_methods_meet_equal_numbers(found):
    """Common random numbers: tuning and final runs of SGD by two names are the same to the bit."""
    results, _, _ = found
    one, other = (results.sel(optimizer=name, track=TUNED, drop=True) for name in ("SGD", "Twin"))
    times = ["seconds", "epoch_seconds"]
    xr.testing.assert_equal(one.drop_vars(times), other.drop_vars(times))


def test_a_part_that_is_done_is_not_trained_again(found, monkeypatch):
    results, context, place = found
    assert context.progress.done == context.progress._bar.tasks[0].total
    monkeypatch.setattr(sweep, "run", lambda *_: pytest.fail("trained again"))
    again, _ = compared(place)
    xr.testing.assert_identical(again, results)


def test_a_default_that_is_chosen_is_trained_once(found, tmp_path):
    results, _, _ = found
    chosen = float(results.chosen_learning_rate.sel(optimizer="SGD", model="a model"))
    tier = dataclasses.replace(TIER, methods=(dataclasses.replace(SGD, default=chosen),))
    again, context = compared(tmp_path, tier)
    assert len([name for name in context.store.names() if "final" in name]) == 1
    xr.testing.assert_equal(again.isel(track=0, drop=True), again.isel(track=1, drop=True))


def test_what_is_expected_is_what_is_trained(found):
    _, context, _ = found
    known = [file_name(name) for name in expected(TIER) if not name.endswith("/tuned")]
    assert set(known) <= set(context.store.names())
    # Two methods: the grid of 3 rates, and two final runs, each with 2 seeds for 2 epochs.
    assert sum(expected(TIER).values()) == 2 * (3 * 2 * 2 + 2 * 2 * 2)


def test_the_test_split_decides_nothing(found, tmp_path):
    """Other test labels, other test accuracies; all else is the same to the bit."""
    results, _, _ = found
    data = dataset()
    wrong = data.test._replace(labels=(data.test.labels + jnp.asarray(1, jnp.int32)) % CLASSES)
    others, _ = compared(tmp_path, data=dataclasses.replace(data, test=wrong))
    tests, times = ["test_accuracy", "test_loss"], ["seconds", "epoch_seconds"]
    assert not others.test_accuracy.equals(results.test_accuracy)
    xr.testing.assert_equal(others.drop_vars(tests + times), results.drop_vars(tests + times))


@pytest.mark.slow
def test_a_method_that_always_diverges_is_kept_in_the_table(tmp_path):
    model = dataclasses.replace(TIER.models["a model"], l2=1e-3)
    wild = Method("Wild", lambda rate: gradtx.chain(gradtx.sgd(rate), gradtx.scale(1e30)), 1.0)
    tier = dataclasses.replace(TIER, models={"a model": model}, methods=(SGD, wild), defaults=False)
    results, context = compared(tmp_path, tier)
    lost, sound = (results.sel(optimizer=name) for name in ("Wild", "SGD"))
    assert np.isnan(lost.chosen_learning_rate).all()
    assert (lost.edge == "low").all()
    assert lost.tried.sum() == 9
    assert lost.diverged.all()
    assert np.isnan(lost.test_accuracy).all()
    assert not sound.diverged.any()
    assert not [name for name in context.store.names() if "nan" in name]
    assert context.progress.done == context.progress._bar.tasks[0].total


def test_without_tuning_there_is_the_default_track_alone(tmp_path):
    tier = dataclasses.replace(TIER, tuning=None, methods=(SGD,), tested_at=())
    results, _ = compared(tmp_path, tier)
    assert results.track.values.tolist() == [DEFAULT]
    assert "chosen_learning_rate" not in results
    assert results.tested_epoch.values.tolist() == [2]


def test_status_tells_what_is_done(tmp_path, found, monkeypatch):
    *_, place = found
    study = made_up.study("fake", tiers={"smoke": TIER}, expected=comparison.expected)
    assert status.of(study, TIER, tmp_path, "smoke") is None
    parts = tmp_path / "fake" / "smoke.parts"
    parts.mkdir(parents=True)
    half = sorted(place.glob("*SGD*"))
    for file in half:
        (parts / file.name).write_bytes(file.read_bytes())
    state, done, work, to_go = status.of(study, TIER, tmp_path, "smoke") or ("", "", "", "")
    assert (state, done, work) == ("interrupted", f"{len(half)} of about 6", "50 %")
    assert "second" in to_go
    Store(parts).checkpoint("a model/Twin/tuning/0.1-1").save({}, 1, 2)
    assert (status.of(study, TIER, tmp_path, "smoke") or "")[2] == "65 %"  # 20 + 12 / 2 of 40
    Changes(budget=1).keep(parts)
    assert (status.of(study, TIER, tmp_path, "smoke") or "")[1] == f"{len(half)} of about 6"
    for options in ('{"seeds": 0}', '{"seeds": "many"}', '{"seeds"', "[]", '{"unknown": 1}'):
        (parts / "options.json").write_text(options)
        assert (status.of(study, TIER, tmp_path, "smoke") or "")[2] == "65 %"


def test_finished_is_what_has_results_of_its_own(tmp_path):
    study = made_up.study("fake", tiers={"smoke": TIER}, expected=comparison.expected)
    place, parts = results.directory(tmp_path, "fake", "smoke"), results.parts(tmp_path, "fake", "smoke")

    def state() -> str:
        return (status.of(study, TIER, tmp_path, "smoke") or ("",))[0]

    place.mkdir(parents=True)
    assert state() == "damaged"
    results.write(made_up.dataset(spec=sealed.checksum(b"mine")), place)
    assert state() == "finished"
    for spec, told in {"another's": "interrupted", "mine": "finished"}.items():
        with opened(parts, spec, lambda line: None):
            assert state() == "running"
        assert state() == told
    (place / results.RESULTS).write_bytes(b"half")
    assert state() == "interrupted"


def test_asking_for_the_status_leaves_a_file_alone_that_is_being_written(tmp_path):
    study = made_up.study("fake", tiers={"smoke": TIER}, expected=comparison.expected)
    parts = tmp_path / "fake" / "smoke.parts"
    parts.mkdir(parents=True)
    for name in (".a.part.x1.part", "a_model_SGD_tuning_0.1-1.part"):
        (parts / name).write_text("half")
    before = stamps(tmp_path)
    state, done, *_ = status.of(study, TIER, tmp_path, "smoke") or ("", "")
    assert (state, done) == ("interrupted", "1 of about 6")
    assert stamps(tmp_path) == before
