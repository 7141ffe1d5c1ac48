"""Every rule can come out in three ways, and errs no more often than it says."""

import itertools
from typing import Any

import numpy as np
import pytest
import xarray as xr

from experiments.studies import STUDIES, deepobs, mnist_logistic, mnist_mlp
from experiments.verdicts import alike_but, best
from tests.experiments.synthetic import NAMES, around, comparison, noisy

OTHERS = [name for name in NAMES if name != "Adam"]
NEVER = np.full(5, np.nan)


def with_adam(adam: float, others: float, spread: float = 0.0003) -> dict[str, np.ndarray]:
    return noisy({**dict.fromkeys(OTHERS, others), "Adam": adam}, spread)


@pytest.mark.parametrize(
    ("accuracies", "outcome"),
    [
        (with_adam(0.98, 0.97), "supported"),
        (with_adam(0.97, 0.98), "refuted"),
        (with_adam(0.98, 0.98), "inconclusive"),
        (with_adam(0.98, 0.97) | {"SGD": around(0.985, 0.0001)}, "refuted"),
        (with_adam(0.98, 0.97) | {"SGD": around(0.98, 0.002)}, "inconclusive"),
        (with_adam(0.98, 0.97) | {"SGD": NEVER}, "supported"),
        (with_adam(0.98, 0.97) | {"Adam": NEVER}, "refuted"),
        (with_adam(0.98, 0.97) | {"Adam": np.array([0.98, np.nan, 0.98, 0.98, 0.98])}, "inconclusive"),
        (dict.fromkeys(NAMES, NEVER), "inconclusive"),
        ({name: values[:1] for name, values in with_adam(0.98, 0.97).items()}, "inconclusive"),
    ],
    ids=["ahead", "behind", "alike", "one ahead", "one near", "other diverged", "diverged", "once", "all", "one seed"],
)
def test_best(accuracies, outcome):
    verdict = best(accuracies, ["Adam"])
    assert verdict.outcome == outcome
    assert mnist_mlp.adam_is_best(comparison(accuracies, models=[mnist_mlp.NAME])) == verdict


@pytest.mark.parametrize(
    ("nag", "outcome"), [(0.979, "supported"), (0.97, "inconclusive"), (0.96, "refuted")], ids=["both", "one", "behind"]
)
def test_two_champions_are_no_rivals_of_each_other(nag, outcome):
    assert best(with_adam(0.98, 0.97) | {"NAG": around(nag, 0.0002)}, ["Adam", "NAG"]).outcome == outcome


def test_five_seeds_can_support_best():
    """Noise of .03 points a run, and a lead of .4: the strictest of Holm's levels asks for 6.9 standard errors."""
    made = [noisy(dict.fromkeys(OTHERS, 0.97) | {"Adam": 0.974}, 0.0003, key=key) for key in range(20)]
    assert {best(one, ["Adam"]).outcome for one in made} == {"supported"}


BEHIND = ("SGD", "Adadelta")
FAST = [name for name in NAMES if name not in BEHIND]
MARGIN = 0.005


def but(alike: float, behind: float, spread: float = 0.0003) -> dict[str, np.ndarray]:
    return noisy(dict.fromkeys(FAST, alike) | dict.fromkeys(BEHIND, behind), spread)


@pytest.mark.parametrize(
    ("accuracies", "outcome"),
    [
        (but(0.99, 0.97), "supported"),
        (but(0.99, 0.99), "refuted"),
        (but(0.99, 0.9875), "refuted"),  # significantly behind, but by less than the margin: alike
        (but(0.99, 0.995), "refuted"),
        (but(0.99, 0.97) | {"Adam": around(0.98, 0.0003)}, "refuted"),
        (but(0.99, 0.97) | {"Adam": NEVER}, "refuted"),
        (but(0.99, 0.97) | {"SGD": NEVER}, "supported"),
        (but(0.99, 0.97) | {"Adam": around(0.985, 0.001)}, "inconclusive"),
        (but(0.99, 0.97) | {"SGD": around(0.98, 0.02)}, "inconclusive"),
        ({name: values[:1] for name, values in but(0.99, 0.97).items()}, "inconclusive"),
    ],
    ids=[
        "as said", "none behind", "hardly behind", "ahead", "one is not alike", "one diverged", "one behind diverged",
        "one may be alike", "one may be behind", "one seed",
    ],
)  # fmt: skip
def test_alike_but(accuracies, outcome):
    assert alike_but(accuracies, BEHIND, MARGIN).outcome == outcome


def errors(decide, means: Any, outcome: str, draws: int = 300, spread: float = 0.002) -> float:
    """How often a rule has this outcome, for methods whose true accuracies are these."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(draws):
        luck = rng.normal(0, 0.002, 5)
        found += (
            decide({name: mean + luck + rng.normal(0, spread, 5) for name, mean in means.items()}).outcome == outcome
        )
    return found / draws


AT_MOST = 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("place", [0.0, MARGIN], ids=["all as far as can be", "two groups"])
def test_alike_but_errs_seldom_at_its_boundary(place):
    """Half of the alike are the margin away from the other half: where refuting is a mistake at its likeliest."""
    half = {name: 0.99 + MARGIN * (i % 2) for i, name in enumerate(FAST)}
    means = half | dict.fromkeys(BEHIND, 0.9 + place)
    assert errors(lambda made: alike_but(made, BEHIND, MARGIN), means, "refuted") <= AT_MOST
    assert errors(lambda made: alike_but(made, BEHIND, MARGIN), means, "supported") <= AT_MOST


def test_best_errs_seldom_where_all_are_equal():
    means = dict.fromkeys(NAMES, 0.98)
    assert errors(lambda made: best(made, ["Adam"]), means, "refuted") <= AT_MOST
    assert errors(lambda made: best(made, ["Adam"]), means, "supported") <= AT_MOST


def convex(accuracies, excess=0.01):
    return mnist_logistic.same_optimum(comparison(accuracies, models=[mnist_logistic.NAME], excess=excess))


@pytest.mark.parametrize(
    ("accuracies", "excess", "outcome"),
    [
        (with_adam(0.926, 0.925), 0.01, "supported"),
        (with_adam(0.926, 0.915), 0.01, "refuted"),
        (with_adam(0.926, 0.92, 0.002), 0.01, "inconclusive"),
        (with_adam(0.926, 0.925), 0.08, "refuted"),
        (with_adam(0.926, 0.925), 0.049, "inconclusive"),
        (with_adam(0.926, 0.925), dict.fromkeys(NAMES, 0.01) | {"SGD": 0.2}, "refuted"),
        (with_adam(0.926, 0.925) | {"SGD": NEVER}, 0.01, "refuted"),
        (with_adam(0.926, 0.925) | {"SGD": np.array([0.925, 0.925, np.nan, 0.925, 0.925])}, 0.01, "refuted"),
        # Best and worst mean are near; between them is one of which too little is known.
        (with_adam(0.926, 0.925) | {"SGD": around(0.9255, 0.02)}, 0.01, "inconclusive"),
        ({name: values[:1] for name, values in with_adam(0.926, 0.925).items()}, 0.01, "inconclusive"),
    ],
    ids=["same", "apart", "not known", "far", "near", "one far", "diverged", "once", "one not known", "one seed"],
)
def test_c5(accuracies, excess, outcome):
    verdict = convex(accuracies, excess)
    assert verdict.outcome == outcome
    assert "Best " in verdict.effect


@pytest.mark.slow
def test_c5_errs_seldom_at_its_boundary():
    means = {name: 0.925 + mnist_logistic.SPREAD * (i % 2) for i, name in enumerate(NAMES)}
    assert errors(convex, means, "refuted", draws=150) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)
    assert errors(convex, means, "supported", draws=150) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


PUBLISHED = {1: (0.85, 0.006), 2: (0.88, 0.003)}
"""So the bounds are 83.8 % and 87.4 %."""


@pytest.mark.parametrize(
    ("after_one", "after_two", "outcome"),
    [
        (around(0.84), around(0.876), "supported"),
        (around(0.84), around(0.90), "supported"),
        (around(0.84), around(0.86), "refuted"),
        (around(0.82), around(0.88), "refuted"),
        (around(0.84), around(0.8735, 0.002), "inconclusive"),
        (around(0.84), NEVER, "inconclusive"),
        (around(0.84, seeds=1), around(0.86, seeds=1), "inconclusive"),
    ],
    ids=["reached", "ahead", "missed", "missed at first", "not known", "diverged", "one seed"],
)
def test_published_figures(after_one, after_two, outcome):
    parts = [comparison({deepobs.ADAM: values}, tracks=[deepobs.DEFAULT]) for values in (after_one, after_two)]
    parts = [one[["test_accuracy"]].assign_coords(tested_epoch=[i]) for i, one in enumerate(parts, 1)]
    made = xr.concat(parts, "tested_epoch")
    verdict = deepobs.reproduced(PUBLISHED, made)
    assert verdict.outcome == outcome
    assert verdict.effect.startswith(f"After 1 epoch {100 * after_one.mean():.2f} %")
    unpublished = made.sel(tested_epoch=[2]).assign_coords(tested_epoch=[3])
    assert deepobs.reproduced(PUBLISHED, unpublished).outcome == "inconclusive"


def test_claims_say_their_rule():
    for study, claim in itertools.chain.from_iterable([(s, c) for c in s.claims] for s in STUDIES.values()):
        assert claim.rule.endswith("."), (study.name, claim.name)
        for outcome in ("supported", "refuted", "inconclusive"):
            assert outcome in claim.rule.lower(), (study.name, claim.name)
