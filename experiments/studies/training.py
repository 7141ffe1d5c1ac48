"""A study that trains models: `comparison` runs it, `readings` and `curves` show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments import comparison, curves, readings
from experiments.comparison import Training
from experiments.study import Claim, Study, TierName


def training_study(
    *,
    name: str,
    question: str,
    figures: str,
    data: str,
    tiers: Mapping[TierName, Training],
    claims: Sequence[Claim] = (),
) -> Study[Training]:
    """The study; what is tuned in any tier has a picture of the sensitivity."""
    tuned = any(tier.tuning for tier in tiers.values())
    return Study(
        name=name,
        question=question,
        figures=figures,
        data=data,
        tiers=tiers,
        run=comparison.compare,
        tables=readings.tables,
        pictures=curves.PICTURES if tuned else (curves.TRAINING, curves.ACCURACY),
        claims=claims,
        expected=comparison.expected,
    )
