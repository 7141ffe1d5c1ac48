"""Each option of `run` changes just what it names, and is refused where a study does not depend on it."""

import dataclasses
from typing import Any

import pytest

from experiments.changes import Changes
from experiments.comparison import DEFAULT, TUNED
from experiments.errors import ExperimentError
from experiments.studies import STUDIES

STUDY = STUDIES["cifar-resnet"]
TIER = STUDY.tiers["cpu"]

EXPECTED: dict[str, tuple[Changes, dict[str, Any], str]] = {
    "nothing": (Changes(), {}, ""),
    "seeds": (Changes(seeds=2), {"seeds": 2}, "--seeds 2"),
    "budget": (Changes(budget=3), {"grid": TIER.grid.resized(3)}, "--budget 3"),
    "default rates": (Changes(defaults=True), {"defaults": True, "tracks": [TUNED, DEFAULT]}, "--defaults"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_option_changes_what_it_names(name):
    changes, expected, words = EXPECTED[name]
    changed = changes.apply(STUDY, TIER)
    assert {key: getattr(changed, key) for key in expected} == expected
    fields = {key: value for key, value in expected.items() if key != "tracks"}
    assert changed == dataclasses.replace(TIER, **fields)
    assert " ".join(changes.words()) == words


def test_a_recipe_is_said_in_the_scale():
    changes = Changes(augment=True, l2=5e-4, cosine=True)
    assert changes.apply(STUDY, TIER).scale == f"{TIER.scale}; with crops and flips, L2 of 0.0005, cosine to 0"
    assert " ".join(changes.words()) == "--augment --l2 0.0005 --cosine"


@pytest.mark.parametrize("option", ["augment", "cosine", "defaults"])
def test_surfaces_have_no_training_options(option):
    saddle = STUDIES["saddle"]
    with pytest.raises(ExperimentError, match=f"study 'saddle' has no --{option}: what it runs is fixed"):
        Changes(**{option: True}).apply(saddle, saddle.tiers["cpu"])


def test_what_tunes_nothing_has_no_budget():
    published = STUDIES["cifar-3c3d"]
    with pytest.raises(ExperimentError, match="study 'cifar-3c3d' has no --budget: it tunes nothing"):
        Changes(budget=3).apply(published, published.tiers["cpu"])
