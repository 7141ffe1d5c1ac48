"""Does a learned optimizer beat the hand-made ones (the study's last section)? And where nobody trained it?

After Andrychowicz et al., 2016: random quadratics, a small network on MNIST, a small convolutional one on CIFAR-10.
Hand-made optimizers are tuned for the same problems with the same number of trials. `Learned MLP`, which the claims
are about, begins meta-training as tuned Momentum or tuned Adam, which of them does better on validation problems:
asked is what learning adds to tuning.

The recipes (meta-rate, iterations, weights of losses, where to begin) were chosen by pilot runs with seed 0 on the
uniform quadratics and on MNIST; the tiers have another seed. The rules below were written before the tiers ran.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.handmade import Trials
from experiments.learning import HeldOut, Home, Learner, LearnToLearn, expected, run
from experiments.learning_pictures import PICTURES
from experiments.learning_readings import (
    MNIST,
    TO_MEET,
    UNIFORM,
    beats_hand_made,
    is_not_worse_on_mnist,
    keeps_its_lead,
    meets_the_figure,
    tables,
)
from experiments.meta import Recipe
from experiments.study import Claim, Study, TierName
from experiments.tasks import Task, conv_task, mlp_task, quadratic

SEED = 2016

QUADRATICS, GAUSSIAN, LARGER = quadratic("uniform"), quadratic("gaussian"), quadratic("uniform", 20)
NETWORK = mlp_task(MNIST)
CONVOLUTIONS = conv_task("CIFAR-10, small convolutions", channels=8, layers=3, batch_size=32)
DIGITS = mlp_task("digits, 20 units", data="digits")
ELSEWHERE = {
    "40 units": mlp_task("MNIST, 40 units", (40,)),
    "two layers": mlp_task("MNIST, two layers", (20, 20)),
    "ReLU": mlp_task("MNIST, ReLU", relu=True),
    "digits": DIGITS,
}

FINE, COARSE = Trials(-3, 0.5, 16, 1024), Trials(-3, 1, 16, 16)
"""Of quadratics and of networks, where a trial costs a thousand times as much."""

MLP = Recipe("mlp", iterations=300, problems=128, window=100, rate=1e-4, last=10, tuned=True)
SCRATCH = replace(MLP, iterations=160, rate=3e-4, tuned=False)
LSTM = Recipe("lstm", iterations=240, problems=128, window=20, rate=3e-3, clip=1.0)
OF_NETWORKS = Recipe("mlp", iterations=120, problems=4, window=20, rate=1e-3, tuned=True, every=10, validation=64)
LSTM_OF_NETWORKS = replace(LSTM, iterations=80, problems=1, every=20, validation=16)

AT_UNIFORM = (
    Learner("Learned MLP", UNIFORM, MLP),
    Learner("Learned LSTM", UNIFORM, LSTM),
    Learner("MLP from scratch", UNIFORM, SCRATCH),
    Learner("MLP, windows of 20", UNIFORM, replace(SCRATCH, window=20, last=0.0)),
    Learner("MLP by evolution", UNIFORM, replace(SCRATCH, iterations=100, window=20, problems=32, pairs=16)),
    Learner("MLP, scaled", UNIFORM, replace(SCRATCH, scaling=1.0)),
    Learner("MLP, curriculum", UNIFORM, replace(SCRATCH, curriculum=((40, 20), (80, 50)))),
)


HELD_OUT = 1024
"""Problems at home."""


def _tier(learners: tuple[Learner, ...], transfers: int, estimate: str, scale: str = "") -> LearnToLearn:
    """`transfers`: held-out problems of a transfer to or from a network, which cost the most."""

    def at_home(task: Task, longer: int) -> HeldOut:
        return HeldOut(task.name, task.name, task, 100, HELD_OUT, longer)

    def away(name: str, home: str, task: Task, problems: int, steps: int = 100) -> HeldOut:
        return HeldOut(name, home, task, steps, problems)

    return LearnToLearn(
        homes=(Home(QUADRATICS, FINE), Home(GAUSSIAN, FINE), Home(NETWORK, COARSE)),
        learners=learners,
        tests=(
            at_home(QUADRATICS, 400),
            at_home(GAUSSIAN, 400),
            at_home(NETWORK, 200),
            away("uniform: 200 steps", UNIFORM, QUADRATICS, HELD_OUT, 200),
            away("uniform: to Gaussian", UNIFORM, GAUSSIAN, HELD_OUT),
            away("uniform: to 20 dimensions", UNIFORM, LARGER, HELD_OUT),
            away("uniform: to MNIST", UNIFORM, NETWORK, transfers),
            away("MNIST: 200 steps", MNIST, NETWORK, transfers, 200),
            *(away(f"MNIST: to {name}", MNIST, task, transfers) for name, task in ELSEWHERE.items()),
        ),
        seed=SEED,
        estimate=estimate,
        scale=scale,
    )


SMALL = replace(SCRATCH, iterations=4, problems=8, every=2, validation=8, window=5, horizon=10)
TIERS: dict[TierName, LearnToLearn] = {
    "smoke": LearnToLearn(
        homes=(
            Home(QUADRATICS, Trials(-2, -1, 2, 8), 10),
            Home(DIGITS, Trials(-2, 0, 2, 2), 10),
        ),
        learners=(
            Learner("Learned MLP", UNIFORM, replace(SMALL, tuned=True)),
            Learner("Learned MLP", DIGITS.name, replace(SMALL, tuned=True, problems=2, validation=2)),
        ),
        tests=(
            HeldOut(UNIFORM, UNIFORM, QUADRATICS, 10, 24, 20),
            HeldOut(MNIST, DIGITS.name, DIGITS, 10, 3),
            HeldOut("uniform to Gaussian", UNIFORM, GAUSSIAN, 10, 24),
        ),
        seed=SEED,
        estimate="30 seconds",
        scale="10 steps; digits in place of MNIST",
    ),
    "cpu": _tier(
        (
            *AT_UNIFORM,
            Learner("Learned MLP", GAUSSIAN.name, replace(MLP, iterations=240)),
            Learner("Learned LSTM", GAUSSIAN.name, LSTM),
            Learner("Learned MLP", MNIST, OF_NETWORKS),
            Learner("Learned LSTM", MNIST, LSTM_OF_NETWORKS),
        ),
        transfers=64,
        estimate="an hour",
        scale="meta-training of 80 to 300 iterations, thousands are usual; transfers to and from MNIST on 64 problems",
    ),
    "accelerator": _tier(
        tuple(
            Learner(name, home, recipe)
            for home, many in ((UNIFORM, 128), (GAUSSIAN.name, 128), (MNIST, 8))
            for name, recipe in (
                ("Learned MLP", replace(MLP, iterations=5000, problems=many)),
                ("Learned LSTM", replace(LSTM, iterations=10_000, problems=many)),
            )
        ),
        transfers=HELD_OUT,
        estimate="not measured",
    ),
}

_PAIRED = "paired 95 % intervals over held-out problems"
CLAIMS = (
    Claim(
        "C12",
        "A learned optimizer beats the hand-made ones.",
        f"Compared is the loss after the last step on held-out problems of the family that it was trained for. "
        f"Supported if Learned MLP's mean is lower than that of each of the six hand-made optimizers on every family "
        f"({_PAIRED}). Refuted if one of them has a lower one on some family (95 % for all of them together, by "
        f"Bonferroni's correction). Else inconclusive.",
        beats_hand_made,
    ),
    Claim(
        "L1",
        f"On the uniform quadratics log10 of its mean loss is at most {TO_MEET:g}, as of tuned NAG.",
        f"Supported if the 95 % interval over held-out problems lies at or below {TO_MEET:g}; refuted if it lies "
        "above. Else inconclusive.",
        meets_the_figure,
    ),
    Claim(
        "L2",
        "On MNIST it is not worse than tuned Adam.",
        f"Supported if its mean loss after the last step is not higher than Adam's ({_PAIRED}); refuted if it is "
        "higher. Else inconclusive.",
        is_not_worse_on_mnist,
    ),
    Claim(
        "L3",
        "It keeps its lead on problems that it was not trained for.",
        f"Compared is the loss after the last step, with that of Adam tuned for these problems. Supported if it is "
        f"lower in every transfer ({_PAIRED}). Refuted if it is higher in one (95 % for all of them together, by "
        "Bonferroni's correction). Else inconclusive.",
        keeps_its_lead,
    ),
)

STUDY = Study(
    name="learn-to-learn",
    question="Does an optimizer that is a trained network beat tuned hand-made ones, at home and elsewhere?",
    figures="the section on learning to learn",
    data="mnist",
    tiers=TIERS,
    run=run,
    tables=tables,
    pictures=PICTURES,
    claims=CLAIMS,
    expected=expected,
    others=("digits",),
)


def _of_convolutions(
    recipe: Recipe, trials: Trials, problems: int, longer: int, estimate: str, scale: str = ""
) -> LearnToLearn:
    name = CONVOLUTIONS.name
    return LearnToLearn(
        homes=(Home(CONVOLUTIONS, trials),),
        learners=(Learner("Learned MLP", name, recipe),),
        tests=(HeldOut(name, name, CONVOLUTIONS, 100, problems, longer),),
        seed=SEED,
        estimate=estimate,
        scale=scale,
    )


CIFAR = Study(
    name="learn-to-learn-cifar",
    question="Does a learned optimizer beat tuned hand-made ones on a small convolutional network?",
    figures="the section on learning to learn",
    data="cifar10",
    tiers={
        # The programs of convolutions take minutes to compile: a smoke test has the quadratics.
        "smoke": LearnToLearn(
            homes=TIERS["smoke"].homes[:1],
            learners=TIERS["smoke"].learners[:1],
            tests=TIERS["smoke"].tests[:1],
            seed=SEED,
            estimate="15 seconds",
            scale="10 steps; quadratics in place of the network",
        ),
        "cpu": _of_convolutions(
            replace(OF_NETWORKS, iterations=60, problems=2, validation=16),
            Trials(-3, 1, 8, 4),
            128,
            150,
            "8 minutes",
            "128 held-out problems, 60 iterations of meta-training, 24 trials on 4 problems; 3 layers of 8 channels",
        ),
        "accelerator": _of_convolutions(
            replace(MLP, iterations=5000, problems=8, last=1), Trials(-3, 1, 8, 64), 1024, 400, "not measured"
        ),
    },
    run=run,
    tables=tables,
    pictures=(PICTURES[0], PICTURES[2]),
    claims=(
        replace(
            CLAIMS[0],
            name="L4",
            says="A learned optimizer beats the hand-made ones on a small convolutional network.",
        ),
    ),
    expected=expected,
)
