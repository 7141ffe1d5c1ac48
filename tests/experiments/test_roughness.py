"""Plateau and roughness are what their definitions say on surfaces of which both are known."""

import numpy as np
import pytest

from experiments.landscape.roughness import FLAT, GUESSING, HIGH, on_plateau, plateau_share, roughness

SIDE = np.linspace(-1, 1, 41)
X, Y = np.meshgrid(SIDE, SIDE)
BOWL = np.exp(X**2 + 3 * Y**2 - 4)


@pytest.mark.parametrize(
    ("loss", "share"),
    [
        (np.full_like(X, GUESSING), 1),
        (np.full_like(X, 0.99 * HIGH * GUESSING), 0),  # flat, but low
        (GUESSING * np.exp(0.49 * FLAT * X), 1),  # over a side of 2, this is just flat: X runs from -1 to 1
        (GUESSING * np.exp(0.51 * FLAT * X), 0),
        (GUESSING * np.exp(0.4 * FLAT * (X + Y)), 0),  # each direction is flat, but not both together
        (np.full_like(X, np.inf), 0),
    ],
)
def test_a_plateau_is_high_and_flat(loss, share):
    np.testing.assert_allclose(plateau_share(loss), np.nan if np.isinf(loss).all() else share)


def test_a_plateau_of_half_the_square():
    loss = np.where(X < 0, GUESSING, GUESSING * np.exp(-5 * X))
    assert plateau_share(loss) == pytest.approx(0.5, abs=1.5 / len(SIDE))
    assert not on_plateau(loss)[:, 22:].any()


def test_what_is_not_finite_is_on_no_plateau_and_nothing_beside_it():
    loss = np.full_like(X, GUESSING)
    loss[20, 20] = np.nan
    loss[5, 5] = np.inf
    flat = on_plateau(loss)
    for row, column in ((20, 20), (20, 21), (19, 20), (5, 5), (5, 4)):
        assert not flat[row, column]
    assert flat.sum() == flat.size - 10
    assert np.isnan(roughness(loss))


@pytest.mark.parametrize("loss", [BOWL, np.exp(X), np.full_like(X, 0.3), BOWL**7], ids=["bowl", "slope", "flat", "7"])
def test_one_valley_is_not_rough(loss):
    assert roughness(loss) == pytest.approx(0, abs=1e-12)


def test_roughness_is_the_share_of_variation_beyond_a_valley():
    """Down by 2, up by 1, down by 1, up by 2 along each row: of 6 the valley takes 4; columns are level."""
    row = np.array([2.0, 0.0, 1.0, 0.0, 2.0])
    np.testing.assert_allclose(roughness(np.exp(np.tile(row, (5, 1)))), 1 / 3)
    np.testing.assert_allclose(roughness(np.exp(np.tile(row, (5, 1)).T)), 1 / 3)


def test_a_hill_between_two_valleys_is_rough_and_a_higher_one_more_so():
    found = [float(roughness(BOWL + height * np.exp(-20 * X**2))) for height in (0, 0.1, 0.5)]
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert 0.01 < found[1] < found[2] < 1


def test_units_and_finer_grids_change_neither():
    wavy = np.exp(np.sin(5 * X) + Y)
    np.testing.assert_allclose(roughness(100 * wavy), roughness(wavy))
    fine = np.linspace(-1, 1, 161)
    x, y = np.meshgrid(fine, fine)
    assert roughness(np.exp(np.sin(5 * x) + y)) == pytest.approx(float(roughness(wavy)), abs=0.01)
    assert plateau_share(GUESSING * np.exp(-np.maximum(x, 0) * 5)) == pytest.approx(0.5, abs=0.01)


def test_surfaces_may_be_stacked():
    stack = np.stack([BOWL, np.exp(np.sin(5 * X)), np.full_like(X, GUESSING)])
    np.testing.assert_allclose(roughness(stack), [roughness(one) for one in stack])
    np.testing.assert_allclose(plateau_share(stack), [plateau_share(one) for one in stack])
