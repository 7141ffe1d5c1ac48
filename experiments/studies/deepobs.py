"""Do DeepOBS's published baselines come out again? Its two convolutional test problems, with Adam as DeepOBS tuned it.

Nothing is tuned here: the learning rates are the published ones, so there is only the default track.
Source: Schneider, Balles and Hennig, DeepOBS, ICLR 2019; means and standard deviations over ten seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import xarray as xr

import gradtx
from experiments.augment import CropAndFlip
from experiments.comparison import DEFAULT, Training
from experiments.methods import Method
from experiments.models import Classifier, net_2c2d, net_3c3d
from experiments.readings import final_accuracies
from experiments.statistics import mean_interval
from experiments.studies.training import training_study
from experiments.study import Claim, Study, Verdict
from experiments.tuning import Grid
from experiments.verdicts import percent

ADAM = "Adam"
DEVIATIONS = 2
"""Published standard deviations by which a mean may fall short."""

Published = Mapping[int, tuple[float, float]]
"""Mean and standard deviation of the test accuracy after so many epochs."""


def reproduced(published: Published, results: xr.Dataset) -> Verdict:
    """Whether every published mean is reached, up to its own spread."""
    (model,) = (str(name) for name in results.model.values)
    told, reached, missed = [], [], []
    for epoch, (mean, deviation) in published.items():
        if epoch not in results.tested_epoch.values:
            continue
        ours = mean_interval(final_accuracies(results, model, DEFAULT, epoch)[ADAM])
        bound = mean - DEVIATIONS * deviation
        reached.append(ours.mean >= bound)
        missed.append(ours.high < bound)
        told.append(
            f"After {epoch} epoch{'s' * (epoch > 1)} {percent(ours.mean)} [{percent(ours.low)}, {percent(ours.high)}], "
            f"published {percent(mean)} ± {percent(deviation)}"
        )
    effect = ". ".join(told) + "."
    if told and all(reached):
        return Verdict("supported", effect)
    return Verdict("refuted" if any(missed) else "inconclusive", effect)


def _study(
    name: str,
    data: str,
    net: tuple[str, Classifier],
    rate: float,
    published: Published,
    claim: str,
    estimate: str,
    **more: object,
) -> Study[Training]:
    methods = (Method(ADAM, partial(gradtx.adam), rate),)
    common = {
        "models": dict([net]), "methods": methods, "tuning": None, "defaults": True, "grid": Grid(-6, 0),
        "batch_size": 128, "mode": "map", **more,
    }  # fmt: skip
    last = max(published)
    return training_study(
        name=name,
        question=f"Does DeepOBS's published baseline for {net[0]} come out again?",
        figures="",
        data=data,
        tiers={
            "smoke": Training(
                epochs=1, seeds=2, train_size=256, test_size=256, scale="256 images, 1 epoch", estimate="1 minute",
                **common,
            ),
            "cpu": Training(
                epochs=last, seeds=5, tested_at=tuple(published), estimate=estimate,
                scale=f"{last} of 100 epochs", **common,
            ),
            "accelerator": Training(
                epochs=100, seeds=10, tested_at=(*published, 100), estimate="not measured", **common
            ),
        },
        claims=[
            Claim(
                claim,
                f"Adam at the published learning rate of {rate:g} reaches DeepOBS's test accuracy.",
                f"Supported if after each epoch that has a published figure the mean test accuracy is at least the "
                f"published mean less {DEVIATIONS} published standard deviations. Refuted if the upper end of the 95 % "
                "interval is below that after one of them. Else inconclusive.",
                partial(reproduced, published),
            )
        ],
    )  # fmt: skip


FASHION_2C2D = _study(
    "fashion-2c2d",
    "fashion_mnist",
    ("2c2d", net_2c2d()),
    2.5e-4,
    {1: (0.853, 0.006), 2: (0.876, 0.003)},
    "D1",
    "15 minutes",
)
CIFAR_3C3D = _study(
    "cifar-3c3d", "cifar10", ("3c3d", net_3c3d()), 4e-4, {1: (0.542, 0.013), 5: (0.720, 0.009)}, "D2", "90 minutes",
    augment=CropAndFlip(margin=2),
)  # fmt: skip
