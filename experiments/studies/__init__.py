"""All studies, by name. To add one, write its file and list it here."""

from __future__ import annotations

import difflib
from typing import Any

from experiments.errors import ExperimentError
from experiments.studies import (
    batching,
    bowl_adaptive,
    bowl_momentum,
    bowl_rates,
    cifar_resnet,
    conventions,
    deepobs,
    learn_to_learn,
    mnist_lenet,
    mnist_logistic,
    mnist_mlp,
    quickstart,
    resnet_solvers,
    saddle,
    second_order,
    surface,
)
from experiments.study import TIERS as TIERS
from experiments.study import Study as Study
from experiments.study import TierName as TierName

STUDIES: dict[str, Study[Any]] = {
    study.name: study
    for study in (
        quickstart.STUDY,
        bowl_rates.STUDY,
        bowl_momentum.STUDY,
        bowl_adaptive.STUDY,
        saddle.STUDY,
        mnist_logistic.STUDY,
        mnist_mlp.STUDY,
        mnist_lenet.STUDY,
        cifar_resnet.STUDY,
        resnet_solvers.STUDY,
        deepobs.FASHION_2C2D,
        deepobs.CIFAR_3C3D,
        batching.STUDY,
        conventions.STUDY,
        second_order.STUDY,
        surface.STUDY,
        learn_to_learn.STUDY,
        learn_to_learn.CIFAR,
    )
}


def find(name: str) -> Study[Any]:
    """The study of that name. Raises ExperimentError with the nearest name, if there is none."""
    if name not in STUDIES:
        close = difflib.get_close_matches(name, STUDIES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(STUDIES)}"
        raise ExperimentError(f"unknown study {name!r}; {hint}")
    return STUDIES[name]


def find_tier(study: Study[Any], name: str) -> tuple[TierName, Any]:
    """The tier of that name. Raises ExperimentError if the study has none such."""
    for tier_name, tier in study.tiers.items():
        if tier_name == name:
            return tier_name, tier
    raise ExperimentError(f"study {study.name!r} has no tier {name!r}; it has {', '.join(study.tiers)}")
