"""Is Adam the best optimizer of an MLP on MNIST? (The study's figure 9.)"""

import xarray as xr

from experiments import verdicts
from experiments.comparison import TUNED, Stage, Training
from experiments.methods import METHODS
from experiments.models import mlp
from experiments.readings import final_accuracies
from experiments.studies.training import training_study
from experiments.study import Claim, Verdict
from experiments.tuning import Grid

NAME = "MLP 784-500-500-10"
MODELS = {NAME: mlp(28 * 28, (500, 500), 10)}
CHAMPION = "Adam"


def adam_is_best(results: xr.Dataset) -> Verdict:
    """Decide C6."""
    return verdicts.best(final_accuracies(results, NAME, TUNED), [CHAMPION])


STUDY = training_study(
    name="mnist-mlp",
    question="Is Adam the best optimizer of a multi-layer perceptron, when all have a tuned learning rate?",
    figures="figure 9",
    data="mnist",
    tiers={
        "smoke": Training(
            MODELS, epochs=2, seeds=2, batch_size=128, grid=Grid(-5, -3), tuning=Stage(epochs=1, seeds=1), mode="map",
            estimate="1 minute", methods=METHODS[::3], train_size=2000, scale="3 of 7 methods, 2,000 images, 2 epochs",
        ),
        "cpu": Training(
            MODELS, epochs=20, seeds=5, batch_size=128, grid=Grid(-6, -1), tuning=Stage(epochs=10, seeds=2),
            mode="map", estimate="90 minutes", scale="learning rates tuned with 2 seeds over 10 of the 20 epochs",
        ),
        "accelerator": Training(
            MODELS, epochs=20, seeds=10, batch_size=128, grid=Grid(-8, 0), tuning=Stage(epochs=20, seeds=3),
            mode="vmap", estimate="not measured", defaults=True,
        ),
    },
    claims=[
        Claim(
            "C6",
            "Adam performs best out of all optimizers on the MLP.",
            verdicts.BEST_RULE.format(champions=CHAMPION),
            adam_is_best,
        )
    ],
)  # fmt: skip
