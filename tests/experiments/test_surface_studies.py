"""The four studies of surfaces: each runs, is read back and drawn; and each claim's rule can say all three things."""

import io
import pathlib

import matplotlib
import matplotlib.style
import numpy as np
import pytest
import xarray as xr

from experiments import netcdf, race
from experiments.formulas import ADAPTIVE, FORMULAS
from experiments.looks import LOOKS, look
from experiments.progress import Progress
from experiments.store import Checkpoint, Store
from experiments.studies import bowl_adaptive, bowl_momentum, bowl_rates, saddle
from experiments.study import Context

STUDIES = {study.STUDY.name: study.STUDY for study in (bowl_rates, bowl_momentum, bowl_adaptive, saddle)}
NAN = np.nan


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, tuple[Store, xr.Dataset]]:
    """The smoke run of each study, as it is read from disk."""
    made = {}
    for name, study in STUDIES.items():
        store = Store(tmp_path_factory.mktemp(name))
        results = study.run(study.tiers["smoke"], Context(store, Progress()))
        made[name] = store, netcdf.decode(bytes(netcdf.encode(results)))
    return made


@pytest.mark.parametrize("name", STUDIES)
def test_parts_are_as_expected_and_are_not_computed_again(name, runs, monkeypatch):
    store, results = runs[name]
    study = STUDIES[name]
    expected = study.expected(study.tiers["smoke"])
    assert sorted(store.names()) == sorted(part.replace(" ", "_") for part in expected)
    monkeypatch.setattr(Checkpoint, "remove", lambda self: pytest.fail("a part was computed again"))
    again = study.run(study.tiers["smoke"], Context(store, Progress()))
    xr.testing.assert_identical(again, results)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_pictures_are_drawn_in_any_style(name, style, runs):
    with matplotlib.style.context(style):
        for picture in STUDIES[name].pictures:
            buffer = io.BytesIO()
            picture.draw(runs[name][1]).savefig(buffer, dpi=40)
            assert buffer.tell() > 2000
            assert picture.caption.endswith(".")


@pytest.mark.parametrize("name", STUDIES)
def test_tables_are_rectangular(name, runs):
    tables = STUDIES[name].tables(runs[name][1])
    assert tables
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert "nan" not in " ".join(cell for row in table.rows for cell in row)


@pytest.mark.parametrize("name", STUDIES)
def test_claims_decide_on_a_smoke_run(name, runs):
    for claim in STUDIES[name].claims:
        verdict = claim.decide(runs[name][1])
        assert verdict.outcome in ("supported", "refuted", "inconclusive")
        assert verdict.effect.endswith(".")
        assert "nan" not in verdict.effect


def test_black_follows_the_style():
    with matplotlib.style.context("dark_background"):
        assert look("SGD").colour == "white"
    with matplotlib.style.context("default"):
        assert look("SGD").colour == "black"
    assert look("Adam") == LOOKS["Adam"]
    assert look("of no study").marker == "."


# C1 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("diverges", "limit", "outcome"),
    [
        ([False, False, True], (0.09999999, 0.10000001), "supported"),
        ([False, False, True], (0.0899999, 0.0900001), "refuted"),  # there is a limit, elsewhere
        ([True, False, True], (0.09999999, 0.10000001), "refuted"),  # no limit
        ([False, False, False], (NAN, NAN), "inconclusive"),  # nothing to separate
        ([False, False, True], (0.09, 0.12), "inconclusive"),  # not found closely
    ],
)
def test_c1(diverges, limit, outcome):
    results = xr.Dataset(
        {"diverges": ("probe", diverges), "limit": ("end", list(limit)), "two_over_l": 0.1},
        coords={"probe": [0.05, 0.09, 0.11], "end": ["converges", "diverges"]},
    )
    assert bowl_rates.C1.decide(results).outcome == outcome


# C2 ---------------------------------------------------------------------------------------------------------------

FAST, SLOW, NEVER = [200.0, 100, 50, 90], [50.0, 60, 70, 80], [NAN] * 4
RISING, FLAT, FALLING, HALF = [0.0, 0, 1, 2], [1.0] * 4, [3.0, 2, 1, 1], [0.0, 0, 0.5, 1]


@pytest.mark.parametrize(
    ("steps", "ball", "nag", "outcome"),
    [
        ([FAST, FAST], RISING, HALF, "supported"),
        ([SLOW, SLOW], RISING, HALF, "refuted"),  # no momentum is best
        ([FAST, FAST], FALLING, HALF, "refuted"),  # less overshoot with momentum
        ([FAST, FAST], HALF, RISING, "refuted"),  # NAG rises more
        ([NEVER, NEVER], RISING, HALF, "inconclusive"),  # nobody arrives
        ([FAST, SLOW], RISING, HALF, "inconclusive"),  # the rates differ
        ([FAST, FAST], RISING, RISING, "inconclusive"),  # NAG and the ball are alike
        ([FAST, FAST], FLAT, [0.5] * 4, "inconclusive"),  # momentum changes nothing
    ],
)
def test_c2(steps, ball, nag, outcome):
    shape = ("optimizer", "learning_rate", "momentum")
    results = xr.Dataset(
        {
            "arrival": (shape, np.array([steps] * 3)),
            "rise": (shape, np.array([[ball] * 2, [nag] * 2, [FLAT] * 2])),
        },
        coords={
            "optimizer": list(bowl_momentum.METHODS),
            "learning_rate": [0.01, 0.02],
            "momentum": [0.0, 0.5, 0.9, 0.99],
        },
    )
    assert bowl_momentum.C2.decide(results).outcome == outcome


# C3 ---------------------------------------------------------------------------------------------------------------


def _race(adam, other, optimizers, variable):
    """Steps over two rates: Adam's and everybody else's, alike in both versions."""
    steps = np.array([[adam if name == "Adam" else other for name in optimizers]] * 2, float)
    return xr.DataArray(
        steps,
        dims=("version", "optimizer", "learning_rate"),
        coords={"version": ["as written", "as coded"], "optimizer": list(optimizers), "learning_rate": [0.01, 0.1]},
        name=variable,
    )


@pytest.mark.parametrize(
    ("adam", "other", "outcome"),
    [
        ([50, 20], [90, 30], "supported"),
        ([90, 30], [50, 20], "refuted"),
        ([50, 20], [50, 20], "inconclusive"),  # ties
        ([NAN, NAN], [NAN, NAN], "inconclusive"),  # nobody arrives
        ([50, 40], [90, 30], "refuted"),  # a tie at equal rates; another's best is better
        ([NAN, 20], [NAN, NAN], "supported"),  # only Adam arrives
    ],
)
def test_c3(adam, other, outcome):
    arrival = _race(adam, other, ADAPTIVE, "arrival").expand_dims(target=[1e-3, 1e-6])
    assert bowl_adaptive.C3.decide(arrival.to_dataset()).outcome == outcome


def test_c3_is_open_where_the_readings_differ():
    arrival = _race([50, 20], [90, 30], ADAPTIVE, "arrival").expand_dims(target=[1e-3])
    other = _race([90, 30], [50, 20], ADAPTIVE, "arrival").expand_dims(target=[1e-6])
    assert bowl_adaptive.C3.decide(xr.concat([arrival, other], "target").to_dataset()).outcome == "inconclusive"


# C4 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adam", "other", "sgd", "outcome"),
    [
        ([50, 20], [90, 30], [NAN, NAN], "supported"),
        ([50, 20], [90, 30], [200, 90], "refuted"),  # SGD leaves
        ([90, 30], [50, 20], [NAN, NAN], "refuted"),  # Adam is not first
        ([50, 20], [50, 20], [NAN, NAN], "inconclusive"),  # ties
        ([50, 20], [90, 30], [NAN, 90], "inconclusive"),  # SGD leaves at some rates
    ],
)
def test_c4(adam, other, sgd, outcome):
    escape = _race(adam, other, FORMULAS, "escape")
    escape.loc[{"optimizer": "SGD"}] = sgd
    results = escape.to_dataset().assign(contained=xr.ones_like(escape, bool))
    assert saddle.C4.decide(results).outcome == outcome


def test_own_best_rates_on_the_saddle_are_those_that_stay_inside():
    escape = _race([50, 1], [90, 30], FORMULAS, "escape")
    contained = xr.ones_like(escape, bool)
    contained.loc[{"optimizer": "Adam", "learning_rate": 0.1}] = False
    reading = race.at_own_best(escape.where(contained).sel(version="as written"), "Adam")
    assert reading.answer == "no"
    assert "Adam 50" in reading.numbers


def test_best_rates():
    steps = _race([50, 20], [NAN, NAN], ADAPTIVE, "arrival").sel(version="as written")
    assert race.best_rate(steps).sel(optimizer="Adam") == 0.1
    assert np.isnan(race.best_rate(steps).sel(optimizer="RMSprop"))
    assert race.count(float(race.best_steps(steps).sel(optimizer="RMSprop"))) == "never"


def test_no_file_of_a_study_names_a_page_colour():
    for module in (bowl_rates, bowl_momentum, bowl_adaptive, saddle):
        source = pathlib.Path(str(module.__file__)).read_text()
        assert '"black"' not in source
        assert '"white"' not in source
