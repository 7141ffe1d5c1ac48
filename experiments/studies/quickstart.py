"""Which optimizer is best on a small problem, once each has a tuned learning rate? Needs no network."""

from experiments.models import mlp, softmax_regression
from experiments.studies.study import Study, Tier
from experiments.tuning import Grid

PIXELS, CLASSES = 64, 10

STUDY = Study(
    name="quickstart",
    question="Which optimizer is best on small handwritten digits, with a tuned learning rate?",
    data="digits",
    models={
        "softmax regression": softmax_regression(PIXELS, CLASSES),
        "MLP 64-96-10": mlp(PIXELS, (96,), CLASSES),
    },
    tiers={
        "smoke": Tier(epochs=4, seeds=3, batch_size=32, grid=Grid(-4, 1), estimate="20 seconds", train_size=400),
        "cpu": Tier(epochs=30, seeds=5, batch_size=32, grid=Grid(-6, 2), estimate="1 minute"),
    },
)
