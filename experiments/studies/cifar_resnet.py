"""Do momentum and NAG end with the best accuracy on a residual network? (The study's figure 11.)

The study tells neither augmentation nor weight decay nor a schedule, so the default is without. The figures that people
publish for ResNet-18 have all three: `--augment --l2 5e-4 --cosine`. On a CPU the default track is an option too,
`--defaults`: it takes half of an hour more.
"""

from __future__ import annotations

import xarray as xr

from experiments import verdicts
from experiments.comparison import TUNED, Stage, Training
from experiments.methods import METHODS
from experiments.models import resnet18, resnet_6n2
from experiments.readings import final_accuracies
from experiments.studies.training import training_study
from experiments.study import Claim, Verdict
from experiments.tuning import Grid

CHAMPIONS = ("Momentum", "NAG")


def momentum_is_best(results: xr.Dataset) -> Verdict:
    """Decide C8."""
    (model,) = (str(name) for name in results.model.values)
    return verdicts.best(final_accuracies(results, model, TUNED), CHAMPIONS)


STUDY = training_study(
    name="cifar-resnet",
    question="Do momentum and NAG end with the best accuracy on a deep residual network?",
    figures="figure 11",
    data="cifar10",
    tiers={
        "smoke": Training(
            # ResNet-18's programs take twice as long to compile; a test of its own trains it.
            {"ResNet-8, width 2": resnet_6n2(8, 2)}, methods=METHODS[:3], epochs=1, seeds=2, batch_size=64,
            grid=Grid(-4, -3), tuning=Stage(epochs=1, seeds=1), mode="map", estimate="1 minute",
            train_size=128, test_size=128, scale="3 of 7 methods, ResNet-8 of width 2, 128 images, 1 epoch",
        ),
        "cpu": Training(
            {"ResNet-18, width 8": resnet18(8)}, epochs=8, seeds=6, batch_size=128, grid=Grid(-6, -1),
            tuning=Stage(epochs=3, seeds=1), mode="map", estimate="an hour", train_size=4000,
            scale="width 8 of 64, 4,000 of 45,000 images, 8 epochs; learning rates tuned with 1 seed over 3 of them",
        ),
        "accelerator": Training(
            {"ResNet-18": resnet18(64, dtype="bfloat16")}, epochs=200, seeds=5, batch_size=128, grid=Grid(-8, 0),
            tuning=Stage(epochs=50, seeds=1), mode="map", estimate="not measured", defaults=True,
            scale="learning rates tuned with 1 seed over 50 of the 200 epochs",
        ),
    },
    claims=[
        Claim(
            "C8",
            "Momentum and NAG achieve the best accuracy on ResNet-18 when optimization has converged.",
            verdicts.BEST_RULE.format(champions=" and ".join(CHAMPIONS)),
            momentum_is_best,
        )
    ],
)  # fmt: skip
