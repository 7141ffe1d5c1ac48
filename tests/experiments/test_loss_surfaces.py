"""The study of loss surfaces: its claims can come out in three ways, and it runs in parts."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from experiments.landscape import work
from experiments.landscape.readings import change, tables, wall
from experiments.landscape.roughness import GUESSING, plateau_share, roughness
from experiments.landscape.views import MEASURED, SHOWN
from experiments.looks import DARK
from experiments.methods import METHODS
from experiments.picture import render_png
from experiments.progress import Progress
from experiments.store import file_name, opened
from experiments.studies.surface import STUDY, plateaus_shrink, surface_is_smoother
from experiments.study import Context
from tests.experiments.conftest import dataset
from tests.experiments.test_landscape import MODEL

NETWORKS = [work.PLAIN, work.NORMALIZED]
SIDE = 17


def surface(plateau, bump):
    """Level and high on the left `plateau` of the square; then a slope down, with a hill on it."""
    x = np.linspace(0, 1, SIDE)
    row = np.log(GUESSING) - 6 * np.maximum(x - plateau, 0) + bump * np.exp(-200 * (x - 0.85) ** 2)
    return np.exp(np.broadcast_to(row, (SIDE, SIDE)))


def made(plateau=(0.6, 0.2), bump=(4.0, 2.0), spread=0.05, seeds=6, key=0):
    """For networks without and with batch norm, or for each plane a pair; the seeds differ by about `spread`."""
    rng = np.random.default_rng(key)
    measured = np.empty((len(MEASURED), 2, seeds, SIDE, SIDE))
    for i in range(len(MEASURED)):
        for j in range(2):
            share, hill = (np.broadcast_to(one, (len(MEASURED), 2))[i, j] for one in (plateau, bump))
            for k in range(seeds):
                off = spread * rng.normal()
                measured[i, j, k] = surface(share + off, hill * (1 + off))
    grid = np.linspace(-0.5, 1.5, 7)
    shown = np.exp(grid[:, None] ** 2 + grid - 2)
    place = np.linspace(-0.5, 1.5, 9)
    line = np.stack(
        [np.stack([1 + place**2, np.full(9, np.nan)]), np.stack([np.full(9, 0.5), 1 - place * (place - 1)])]
    )
    marks = np.full((len(SHOWN), 2, 11, 2), np.nan)
    marks[:, :, :4] = [[0, 0], [1, 0], [0, 1], [1, 1]]
    marks[SHOWN.index("solutions"), :, 3] = np.nan
    marks[SHOWN.index("random"), :, 1:] = np.nan
    marks[SHOWN.index("polygon"), :, 4] = 0.5
    marks[SHOWN.index("path")] = rng.normal(size=(2, 11, 2))
    ends = ("network", "optimizer", "seed")
    return xr.Dataset(
        {
            "measured": (("measure", "network", "seed", "measured_row", "measured_column"), measured),
            "surface": (("plane", "network", "row", "column"), np.broadcast_to(shown, (len(SHOWN), 2, 7, 7)).copy()),
            "x": (("plane", "network", "column"), np.broadcast_to(grid, (len(SHOWN), 2, 7)).copy()),
            "y": (("plane", "network", "row"), np.broadcast_to(grid, (len(SHOWN), 2, 7)).copy()),
            "marks": (("plane", "network", "mark", "axis"), marks),
            "explained": (("network", "axis"), [[0.7, 0.2], [0.6, 0.1]]),
            "line": (("network", "statistics", "place"), line),
            "loss": (ends, np.full((2, 4, seeds), 0.2)),
            "accuracy": (ends, np.full((2, 4, seeds), 0.9)),
            "diverged": (ends, np.zeros((2, 4, seeds), bool)),
        },
        coords={
            "measure": list(MEASURED), "network": NETWORKS, "seed": np.arange(seeds), "plane": list(SHOWN),
            "statistics": ["recomputed", "interpolated"], "place": place, "optimizer": list(work.RATES),
        },
    )  # fmt: skip


def lost(results, network):
    """One of its seeds has no loss."""
    measured = results.measured.copy()
    measured.loc[{"network": network, "seed": 0}] = np.nan
    return results.assign(measured=measured)


@pytest.mark.parametrize(
    ("decide", "results", "outcome"),
    [
        (plateaus_shrink, made(), "supported"),
        (plateaus_shrink, made(seeds=24), "supported"),  # by the bootstrap
        (plateaus_shrink, made(plateau=[(0.6, 0.2), (0.2, 0.6)]), "refuted"),
        (plateaus_shrink, made(plateau=[(0.6, 0.2), (0.4, 0.4)]), "inconclusive"),
        (plateaus_shrink, made(plateau=(0.4, 0.4), spread=0.1, key=1), "inconclusive"),
        (plateaus_shrink, made(plateau=[(0.6, 0.2), (0.0, 0.0)], spread=0.0), "inconclusive"),  # nothing to shrink
        (plateaus_shrink, lost(made(), work.NORMALIZED), "inconclusive"),
        (surface_is_smoother, made(), "supported"),
        (surface_is_smoother, made(bump=[(4, 2), (2, 4)]), "refuted"),
        (surface_is_smoother, made(plateau=(0.4, 0.4), bump=(4, 4), spread=0.1), "inconclusive"),
        (surface_is_smoother, lost(made(), work.PLAIN), "inconclusive"),
    ],
)
def test_claims(decide, results, outcome):
    assert decide(results).outcome == outcome


def test_readings():
    results = made(spread=0.0)
    found = change(results, "random", plateau_share)
    assert found.low == found.high == pytest.approx(-0.4, abs=1.5 / SIDE)
    assert change(results, "optimizers", roughness).mean < 0
    assert wall(results, work.NORMALIZED, "recomputed") == (0.5, 0.5)
    assert wall(results, work.NORMALIZED, "interpolated") == pytest.approx((1, 1.25))
    assert wall(results, work.PLAIN, "recomputed") == pytest.approx((2, 2))
    assert np.isnan(wall(results, work.PLAIN, "interpolated")).all()


@pytest.mark.slow
@pytest.mark.parametrize("results", [made(), lost(made(), work.PLAIN), made(seeds=1)], ids=["whole", "lost", "one"])
def test_tables(results):
    for table in tables(results):
        assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["measured", "measures", "walls"])
def test_pictures_of_trainings_that_diverged(name):
    """The others are drawn by the smoke run."""
    results = lost(made(), work.PLAIN)
    for what in ("surface", "line"):
        results[what] = results[what].where(results.network != work.PLAIN)
    (picture,) = (one for one in STUDY.pictures if one.name == name)
    assert render_png(picture, results, DARK, dpi=20).startswith(b"\x89PNG")


@pytest.mark.slow
def test_runs_in_parts_and_goes_on(tmp_path, monkeypatch):
    """On a network, a method and data that are quick; the real ones are those of the smoke tier."""
    monkeypatch.setattr(work, "METHOD_OF", dict.fromkeys(work.RATES, METHODS[0]))
    monkeypatch.setattr(work, "NETWORKS", {work.PLAIN: MODEL, work.NORMALIZED: MODEL})
    tier = dataclasses.replace(
        STUDY.tiers["smoke"], train_size=48, epochs=3, batch_size=8, moments=2, shown_images=20, measured_images=20,
        seeds=2, rates={"SGD": 0.1, "Momentum": 0.01, "RMSprop": 0.01, "Adam": 0.01},
    )  # fmt: skip

    def run():
        with opened(tmp_path / "parts", "a spec") as store, Progress() as progress:
            return STUDY.run(tier, Context(store, progress, dataset())), store.names(), progress.done

    first, parts, done = run()
    assert sorted(map(file_name, work.expected(tier))) == parts
    assert done == pytest.approx(sum(work.expected(tier).values()))
    for name in ("with_batch_norm_path", "without_batch_norm_training_Adam"):
        (tmp_path / "parts" / f"{name}.part").unlink()
    second, again, _ = run()
    assert parts == again
    xr.testing.assert_identical(first, second)
    assert first.sizes["seed"] == 3  # corners of the triangle
    assert first.surface.notnull().all()
    twice = first.isel(network=0).drop_vars("network"), first.isel(network=1).drop_vars("network")
    xr.testing.assert_identical(twice[0].surface, twice[1].surface)  # the same network, by the same seeds
    for claim in STUDY.claims:
        assert claim.decide(first).outcome == "inconclusive"
