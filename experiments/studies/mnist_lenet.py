"""Are all optimizers alike on LeNet-5 but SGD and Adadelta? (The study's figure 10.)"""

import xarray as xr

from experiments import verdicts
from experiments.comparison import TUNED, Stage, Training
from experiments.methods import METHODS
from experiments.models import lenet5
from experiments.readings import final_accuracies
from experiments.studies.training import training_study
from experiments.study import Claim, Verdict
from experiments.tuning import Grid

NAME = "LeNet-5"
MODELS = {NAME: lenet5()}
BEHIND = ("SGD", "Adadelta")
ALIKE = ("Momentum", "NAG", "Adagrad", "RMSprop", "Adam")
MARGIN = 0.003
"""Of test accuracy: 30 of 10,000 digits. Within it methods count as alike."""


def alike_but_two(results: xr.Dataset) -> Verdict:
    """Decide C7."""
    return verdicts.alike_but(final_accuracies(results, NAME, TUNED), BEHIND, MARGIN)


STUDY = training_study(
    name="mnist-lenet",
    question="Do all optimizers end alike on a convolutional network, but for plain SGD and Adadelta?",
    figures="figure 10",
    data="mnist",
    tiers={
        "smoke": Training(
            MODELS, methods=METHODS[::2], epochs=2, seeds=2, batch_size=128, grid=Grid(-4, -3),
            tuning=Stage(epochs=1, seeds=1), mode="map", estimate="1 minute", train_size=384, test_size=256,
            scale="4 of 7 methods, 384 images, 2 epochs",
        ),
        "cpu": Training(
            MODELS, epochs=5, seeds=5, batch_size=128, grid=Grid(-6, -1), tuning=Stage(epochs=3, seeds=2), mode="map",
            estimate="15 minutes", scale="5 epochs; learning rates tuned with 2 seeds over 3 of them",
        ),
        "accelerator": Training(
            MODELS, epochs=20, seeds=10, batch_size=128, grid=Grid(-8, 0), tuning=Stage(epochs=20, seeds=3),
            mode="map", estimate="not measured", defaults=True,
        ),
    },
    claims=[
        Claim(
            "C7",
            "All optimizers converge at a similar rate on LeNet-5 and end alike, except original SGD and Adadelta.",
            verdicts.ALIKE_RULE.format(
                alike=", ".join(ALIKE), behind=" and ".join(BEHIND), margin=100 * MARGIN
            ),
            alike_but_two,
        )
    ],
)  # fmt: skip
