"""The pictures of a comparison can be drawn of whatever came out, and show it."""

import numpy as np
import pytest
import xarray as xr

from experiments import curves, picture
from experiments.comparison import DEFAULT, TUNED
from experiments.looks import DARK, LIGHT
from experiments.statistics import mean_interval
from tests.experiments.synthetic import NAMES, around, comparison

LADDER = {name: around(0.9 + 0.01 * i, 0.003) for i, name in enumerate(NAMES)}
MADE = {
    "ladder": comparison(LADDER, models=("one", "two")),
    "default only": comparison(LADDER, tracks=(DEFAULT,)),
    "one seed": comparison({name: one[:1] for name, one in LADDER.items()}, tracks=(TUNED,)),
    "all diverged": comparison(dict.fromkeys(NAMES, np.full(5, np.nan))),
    "one diverged": comparison(LADDER | {"SGD": np.full(5, np.nan), "NAG": np.array([0.9, np.nan, 0.9, 0.9, 0.9])}),
    "one method": comparison({"Adam": around(0.9)}),
    "perfect": comparison(dict.fromkeys(NAMES, np.ones(5))),
    "strangers": comparison({f"Method {i}": around(0.9 + i / 100) for i in range(9)}),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("one", curves.PICTURES, ids=lambda one: one.name)
def test_can_be_drawn(one, name):
    with picture.styled(LIGHT):
        figure = one.draw(MADE[name])
        figure.draw_without_rendering()
    assert figure.axes or figure.texts


@pytest.mark.parametrize("one", curves.PICTURES, ids=lambda one: one.name)
def test_is_a_file_in_dark_too(one):
    assert picture.render_png(one, MADE["default only"], DARK, dpi=40).startswith(b"\x89PNG")


def test_a_method_that_diverged_has_no_line_and_is_in_the_legend():
    figure = curves.training(MADE["one diverged"])
    shown = {line.get_label() for line in figure.axes[0].lines}
    assert "SGD" not in shown
    assert "Adam" in shown
    assert [text.get_text() for text in figure.legends[0].get_texts()] == NAMES


def test_bands_are_intervals_of_the_mean():
    figure = curves.training(MADE["ladder"])
    last = 100 * (1 - MADE["ladder"].validation_accuracy.sel(model="one", track=TUNED, optimizer="Adam").isel(epoch=-1))
    mean, low, high = mean_interval(last.values)
    errors = figure.axes[1]
    assert mean in [np.asarray(line.get_ydata(), float)[-1] for line in errors.lines]
    corners = np.concatenate([path.vertices for band in errors.collections for path in band.get_paths()])
    assert {round(low, 9), round(high, 9)} <= set(corners[:, 1].round(9).tolist())


def test_seeds_of_tuning_are_shown_and_few_have_no_interval():
    made = MADE["ladder"]
    for count, ticks, bands in ((1, 0, 0), (2, 2 * len(NAMES), 0), (3, 3 * len(NAMES), len(NAMES))):
        seeds = xr.concat([made.isel(tuning_seed=[0])] * count, "tuning_seed", data_vars="minimal")
        axes = curves.sensitivity(seeds).axes[0]
        assert sum(line.get_marker() == "_" for line in axes.lines) == ticks
        assert len(axes.collections) == bands


def test_the_profile_is_the_one_of_the_costs():
    figure = curves.profile(MADE["ladder"])
    epochs, seconds = figure.axes
    lines = {str(line.get_label()): line for line in epochs.lines}
    assert set(lines) == set(NAMES)
    heights = np.array([np.asarray(line.get_ydata(), float) for line in lines.values()])
    assert heights[:, 0].max() == 100  # someone is quickest in each run
    assert (np.diff(heights) >= 0).all()
    # An epoch takes all methods as long here, so that both panels agree.
    np.testing.assert_array_equal(heights, [np.asarray(line.get_ydata(), float) for line in seconds.lines])


def test_the_ring_is_at_the_chosen_rate():
    axes = curves.sensitivity(MADE["ladder"]).axes[0]
    rings = [line for line in axes.lines if line.get_fillstyle() == "none"]
    assert len(rings) == len(NAMES)
    assert all(np.asarray(ring.get_xdata()).tolist() == [0.1] for ring in rings)
    # A rate with which a seed diverged is left out.
    assert max(np.asarray(line.get_xdata()).max() for line in axes.lines) == 0.1
