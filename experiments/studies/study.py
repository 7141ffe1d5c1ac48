"""What a study is, as data: a question, real data, models, and the tiers it can run in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from experiments.models import Classifier
from experiments.tuning import Grid

TierName = Literal["smoke", "cpu"]
TIERS: tuple[TierName, ...] = get_args(TierName)


@dataclass(frozen=True)
class Tier:
    """How much of a study is run.

    Attributes:
        train_size: Training images used; None for all. Validation takes a quarter as many.
        estimate: How long it takes on 2 CPU cores, measured.
    """

    epochs: int
    seeds: int
    batch_size: int
    grid: Grid
    estimate: str
    train_size: int | None = None


@dataclass(frozen=True)
class Study:
    """A question about optimizers, and all that is needed to answer it.

    Attributes:
        data: A name in `experiments.data.DATASETS`.
        models: By the names that tables and pictures give them.
    """

    name: str
    question: str
    data: str
    models: Mapping[str, Classifier]
    tiers: Mapping[TierName, Tier]
