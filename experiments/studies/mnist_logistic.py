"""Do tuned optimizers differ on a convex problem? Softmax regression on MNIST (the study's figure 8)."""

from experiments.models import softmax_regression
from experiments.studies.study import Study, Tier
from experiments.tuning import Grid

STUDY = Study(
    name="mnist-logistic",
    question="Do optimizers with tuned learning rates differ on softmax regression, which is convex?",
    data="mnist",
    models={"softmax regression": softmax_regression(28 * 28, 10)},
    tiers={
        "smoke": Tier(epochs=3, seeds=3, batch_size=128, grid=Grid(-6, 0), estimate="20 seconds", train_size=4000),
        "cpu": Tier(epochs=30, seeds=5, batch_size=128, grid=Grid(-7, 0), estimate="5 minutes"),
    },
)
