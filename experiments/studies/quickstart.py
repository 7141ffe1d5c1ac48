"""Which optimizer is best on a small problem, once each has a tuned learning rate? Needs no network."""

from experiments.comparison import Stage, Training
from experiments.models import mlp, softmax_regression
from experiments.studies.training import training_study
from experiments.tuning import Grid

PIXELS, CLASSES = 64, 10
MODELS = {
    "softmax regression": softmax_regression(PIXELS, CLASSES),
    "MLP 64-96-10": mlp(PIXELS, (96,), CLASSES),
}
CPU = Training(
    MODELS, epochs=30, seeds=5, batch_size=32, grid=Grid(-6, 2), tuning=Stage(epochs=30, seeds=3), mode="vmap",
    estimate="1 minute",
)  # fmt: skip

STUDY = training_study(
    name="quickstart",
    question="Which optimizer is best on small handwritten digits, with a tuned learning rate?",
    figures="",
    data="digits",
    tiers={
        "smoke": Training(
            MODELS, epochs=4, seeds=3, batch_size=32, grid=Grid(-4, 1), tuning=Stage(epochs=4, seeds=2), mode="vmap",
            estimate="30 seconds", train_size=400, scale="400 images, 4 epochs",
        ),
        "cpu": CPU,
        "accelerator": CPU,
    },
)  # fmt: skip
