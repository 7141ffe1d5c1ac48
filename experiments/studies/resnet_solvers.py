"""Does the order of solvers in table 1 come out again, and does it stay when all are tuned alike? (Table 1.)

`experiments.solvers` says what was published and how. The accelerator tier is the published size, each training over
all devices together; the cpu tier trains the same settings on a narrow network, as lanes.
"""

from __future__ import annotations

import xarray as xr

from experiments import solver_pictures, verdicts
from experiments.comparison import TUNED, Stage
from experiments.models import resnet_6n2
from experiments.readings import final_accuracies
from experiments.solver_readings import errors, orders_alike, tables
from experiments.solvers import FAIR, SETTINGS, Solvers, expected, fair, run, trainings
from experiments.study import Claim, Study, TierName, Verdict
from experiments.tuning import Grid

ALIKE = 0.5
"""Kendall's tau above which two orders are called alike: three of four pairs are in the same order."""
BEST = ("Nesterov",)


def same_order(results: xr.Dataset) -> Verdict:
    """Decide C9."""
    model = str(results.published_model.values[0])
    found = errors(results, model)
    taus, tau = orders_alike(found)
    order = ", ".join(sorted(found, key=lambda name: float(found[name].mean())))
    effect = (
        f"Kendall's tau with the published order on {model}: {tau.mean:+.2f} [{tau.low:+.2f}, {tau.high:+.2f}] over "
        f"{len(taus)} seeds. Ours, the best first: {order}."
    )
    if tau.low > ALIKE:
        return Verdict("supported", effect)
    return Verdict("refuted" if tau.high < ALIKE else "inconclusive", effect)


def nesterov_is_best(results: xr.Dataset) -> Verdict:
    """Decide R1."""
    model = str(results.fair_model.values[0])
    return verdicts.best(final_accuracies(fair(results), model, TUNED), BEST)


CLAIMS = (
    Claim(
        "C9",
        "On CIFAR-10 the solvers of table 1 end in its order (of testing errors; the study says training errors).",
        "Compared are the orders of the nine settings by testing error on the tier's first network: table 1's, and "
        "that of each seed's runs, by Kendall's tau-b. Supported if the 95 % interval of its mean over seeds "
        f"(Student's t) is above {ALIKE:g}, which is three of four pairs in the same order. Refuted if it is below "
        f"{ALIKE:g}. Else inconclusive. A run that diverged has an error of 100 %.",
        same_order,
    ),
    Claim(
        "R1",
        "SGD with Nesterov's momentum is still the best of the four solvers when all have the same weight decay and "
        "tuned rates.",
        verdicts.BEST_RULE.format(champions=BEST[0]).replace(" each have", " has"),
        nesterov_is_best,
    ),
)

TIERS: dict[TierName, Solvers] = {
    "smoke": Solvers(
        {"ResNet-8, width 2": resnet_6n2(8, 2)}, settings=SETTINGS[:3], methods=FAIR[:2], epochs=1, seeds=2,
        grid=Grid(-2, 0, per_decade=1), tuning=Stage(epochs=1, seeds=1), mode="map", estimate="1 minute",
        train_size=128, test_size=128,
        scale="3 of 9 settings, 2 of 4 methods, ResNet-8 of width 2, 128 images, 1 epoch",
    ),
    "cpu": Solvers(
        {"ResNet-20, width 8": resnet_6n2(20, 8)}, epochs=10, seeds=5, grid=Grid(-2, 0, per_decade=2),
        tuning=Stage(epochs=4, seeds=1), mode="map", estimate="45 minutes", train_size=10_240, shrink=2,
        scale="ResNet-20 of width 8 of 16, 10,240 of 50,000 images, of 16x16 pixels, for 10 of 200 epochs (the rate "
        "drops after 40 % and 60 % of them, as in the original); rates of the fair form tuned on 1 seed, 4 epochs",
    ),
    "accelerator": Solvers(
        {"ResNet-110": resnet_6n2(110, dtype="bfloat16"), "ResNet-20": resnet_6n2(20, dtype="bfloat16")}, epochs=200,
        seeds=5, grid=Grid(-6, 0), tuning=Stage(epochs=50, seeds=1), mode="shard", estimate="not measured",
        scale="45,000 of 50,000 training images; rates of the fair form tuned with 1 seed over 50 epochs",
    ),
}  # fmt: skip

STUDY = Study(
    name="resnet-solvers",
    question="Do the solvers of table 1 end in its order on a residual network, and still when tuned alike?",
    figures="table 1",
    data="cifar10",
    tiers=TIERS,
    run=run,
    tables=tables,
    pictures=solver_pictures.PICTURES,
    claims=CLAIMS,
    expected=expected,
    trainings=trainings,
)
