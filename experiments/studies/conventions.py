"""How much does it matter which paper's or library's definition of an optimizer one takes?

The same optimizer by several conventions: where eps stands, where an accumulator starts, whether and where a
correction is made. First single numbers that show the difference, then training: at each library's default rate, and
at tuned rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import xarray as xr

from experiments import comparison, convention_pictures
from experiments.comparison import DEFAULT, TUNED, Stage, Training
from experiments.convention_readings import MARGIN, differences
from experiments.conventions import BASE, VARIANTS, bites, full_name, methods
from experiments.models import mlp
from experiments.readings import final_accuracies
from experiments.readings import tables as rankings
from experiments.study import Claim, Context, Study, Table, TierName, Verdict
from experiments.tuning import Grid
from experiments.verdicts import DIVERGED, points

NAME = "MLP 64-96-10"
MODELS = {NAME: mlp(64, (96,), 10)}


def run(tier: Training, context: Context) -> xr.Dataset:
    """The comparison, and the single numbers."""
    context.progress.describe("single numbers")
    single = context.store.part("bites", lambda _: bites())
    return comparison.compare(tier, context).assign(single.data_vars).assign_coords(single.coords)


def expected(tier: Training) -> Mapping[str, float]:
    """The comparison's parts, and one."""
    return {"bites": 0.0, **comparison.expected(tier)}


def tables(results: xr.Dataset) -> list[Table]:
    """The single numbers, the differences, then the ranking that every comparison has."""
    rows = []
    for what in dict.fromkeys(results.what.values.tolist()):
        here = results.where(results.what == what, drop=True)
        found = ", ".join(
            f"{name} {float(value):.3g}" for name, value in zip(here.convention.values, here.value.values, strict=True)
        )
        rows.append((str(what), found))
    return [
        Table("Single numbers in which a convention shows", ("", "by convention"), rows),
        *(_differences(results, str(track)) for track in results.track.values),
        *rankings(results),
    ]


def _differences(results: xr.Dataset, track: str) -> Table:
    gaps, accuracies = differences(results, NAME, track), final_accuracies(results, NAME, track)
    rows = []
    for optimizer, variants in VARIANTS.items():
        for convention in variants:
            name = full_name(optimizer, convention)
            rate = float(results.used_learning_rate.sel(model=NAME, optimizer=name, track=track))
            mean = 100 * float(np.mean(accuracies[name]))
            told = points(gaps[name]) if name in gaps else "–"
            rows.append(
                (name, f"{rate:g}" if np.isfinite(rate) else "–", f"{mean:.2f}" if np.isfinite(mean) else "–", told)
            )
    note = f"Paired over seeds, with the 95 % interval. {DIVERGED}"
    return Table(
        f"Conventions at {track} rates", ("convention", "learning rate", "test, %", f"minus {BASE}'s"), rows, note
    )


def _within(results: xr.Dataset, track: str) -> tuple[str, bool, bool]:
    """What was found, whether all differences are within the margin, and whether one is beyond it."""
    gaps = differences(results, NAME, track)
    joint = differences(results, NAME, track, tests=len(gaps))
    widest = max(gaps, key=lambda name: np.nan_to_num(abs(gaps[name].mean)))
    inside = sum(gap.within(MARGIN) for gap in gaps.values())
    beyond = [name for name, gap in joint.items() if gap.beyond(MARGIN)]
    effect = (
        f"Of {len(gaps)} variants {inside} are within {100 * MARGIN:g} points of {BASE}'s, {len(beyond)} beyond"
        f"{': ' * bool(beyond)}{', '.join(beyond)}. Widest: {widest} {points(gaps[widest])}."
    )
    return effect, inside == len(gaps), bool(beyond)


def no_matter_when_tuned(results: xr.Dataset) -> Verdict:
    """Decide N1."""
    effect, within, beyond = _within(results, TUNED)
    return Verdict("refuted" if beyond else "supported" if within else "inconclusive", effect)


def matters_by_default(results: xr.Dataset) -> Verdict:
    """Decide N2."""
    effect, within, beyond = _within(results, DEFAULT)
    return Verdict("supported" if beyond else "refuted" if within else "inconclusive", effect)


_COMPARED = (
    f"Compared is the test accuracy of each variant with that of the same optimizer by {BASE}'s convention, paired "
    "over seeds. {}"
)
_WITHIN = f"all 95 % intervals of the differences lie within {100 * MARGIN:g} points"
_BEYOND = (
    f"one differs by more than {100 * MARGIN:g} points (whole interval, 95 % for all of them together by Bonferroni's "
    "correction)"
)
CLAIMS = (
    Claim(
        "N1",
        "The convention does not matter once the learning rate is tuned.",
        _COMPARED.format(f"Supported if {_WITHIN}. Refuted if {_BEYOND}. Else inconclusive. {DIVERGED}"),
        no_matter_when_tuned,
    ),
    Claim(
        "N2",
        "At the libraries' default learning rates the convention does matter.",
        _COMPARED.format(f"Supported if {_BEYOND}. Refuted if {_WITHIN}. Else inconclusive. {DIVERGED}"),
        matters_by_default,
    ),
)

_tier = partial(Training, MODELS, batch_size=32, mode="vmap", methods=methods(), defaults=True)
CPU = _tier(epochs=30, seeds=10, grid=Grid(-6, 1), tuning=Stage(epochs=30, seeds=3), estimate="4 minutes")
TIERS: dict[TierName, Training] = {
    "smoke": _tier(
        epochs=3, seeds=3, grid=Grid(-4, 0), tuning=Stage(epochs=2, seeds=1), estimate="1 minute", train_size=400,
        scale="400 images, 3 epochs",
    ),
    "cpu": CPU,
    "accelerator": CPU,
}  # fmt: skip

STUDY = Study(
    name="conventions",
    question="Does it matter whose definition of an optimizer one takes: the paper's, a library's, the study's code?",
    figures="",
    data="digits",
    tiers=TIERS,
    run=run,
    tables=tables,
    pictures=convention_pictures.PICTURES,
    claims=CLAIMS,
    expected=expected,
)
