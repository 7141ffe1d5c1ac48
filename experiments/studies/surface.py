"""What does the loss of a network look like between its solutions, and what does batch norm do to it?

The study's figures 12 and 13 are taken from Im et al., 2016; here they are made anew, of LeNet-5 on MNIST.

Measured are two planes of every seed: the one that figure 13 shows, between the weights that four optimizers reach from
one start and half a side beyond, and one around a solution along two random directions whose filters are as long as the
solution's, which is how networks that differ are compared. What a plateau is and what roughness is stands in
`experiments/landscape/roughness.py`; it was written, with the rules below, before the runs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from experiments.landscape import pictures, readings
from experiments.landscape.roughness import FLAT, HIGH, plateau_share, roughness
from experiments.landscape.views import MEASURED
from experiments.landscape.work import NORMALIZED, PLAIN, Landscape, expected, run
from experiments.statistics import mean_interval
from experiments.study import Claim, Study, TierName, Verdict


def shrinks(results: xr.Dataset, what: str, measure: Callable[[np.ndarray], np.ndarray]) -> Verdict:
    """Whether batch norm makes a measure smaller in all planes."""
    told = []
    for plane in MEASURED:
        without, with_norm = (
            100 * mean_interval(readings.by_seed(results, plane, network, measure)).mean
            for network in (PLAIN, NORMALIZED)
        )
        difference = readings.points(readings.change(results, plane, measure))
        told.append(
            f"{readings.PLANE_NAMES[plane]}: {without:.1f} % without, {with_norm:.1f} % with, {difference} points"
        )
    effect = f"{what}, {'; '.join(told)}."
    if any(readings.change(results, plane, measure, tests=len(MEASURED)).low > 0 for plane in MEASURED):
        return Verdict("refuted", effect)
    shrunk = all(readings.change(results, plane, measure).high < 0 for plane in MEASURED)
    return Verdict("supported" if shrunk else "inconclusive", effect)


def plateaus_shrink(results: xr.Dataset) -> Verdict:
    """Decide C10."""
    return shrinks(results, "Plateau", plateau_share)


def surface_is_smoother(results: xr.Dataset) -> Verdict:
    """Decide V1."""
    return shrinks(results, "Roughness", roughness)


_RULE = (
    "Compared within seeds, in two planes: between the weights that four optimizers reach from one start (bilinear, "
    "from -0.5 to 1.5), and along two random filter-normalized directions (from -1 to 1) around one of them; "
    "statistics of batch norm recomputed at each point. Supported if {it} is smaller with batch norm in both planes "
    "(paired 95 % intervals over seeds). Refuted if it is larger in one of them (95 % for both together, by "
    "Bonferroni's correction). Else inconclusive."
)
CLAIMS = (
    Claim(
        "C10",
        "Batch norm greatly reduces the plateaus of the loss surface.",
        f"On a plateau are points of a square whose loss is at least {HIGH:g} ln 10 (half of what guessing costs) and "
        f"the slope of whose logarithm is below {FLAT:g} a side. " + _RULE.format(it="their share"),
        plateaus_shrink,
    ),
    Claim(
        "V1",
        "Batch norm makes the loss surface smoother: it has fewer ups and downs.",
        "Roughness is the share of the total variation of the loss's logarithm, along rows and columns, that is more "
        "than that of one valley in each. " + _RULE.format(it="it"),
        surface_is_smoother,
    ),
)

TIERS: dict[TierName, Landscape] = {
    "smoke": Landscape(
        train_size=200, epochs=1, batch_size=20, moments=5, seeds=3, shown_images=40, shown_side=4, line_points=9,
        measured_images=40, measured_side=4, rates={"SGD": 0.32, "Adam": 0.0032}, estimate="40 seconds",
        scale="2 of 4 optimizers, 200 images, 1 epoch, 4 x 4 points",
    ),
    "cpu": Landscape(
        train_size=5000, epochs=2, batch_size=50, moments=5, seeds=20, shown_images=500, shown_side=31,
        line_points=81, measured_images=250, measured_side=17, estimate="half an hour",
        scale="LeNet-5, 5,000 of the 50,000 training images, 2 epochs; surfaces on 500 of them, measured ones on 250",
    ),
    "accelerator": Landscape(
        train_size=50_000, epochs=20, batch_size=100, moments=5, seeds=30, shown_images=10_000, shown_side=101,
        line_points=201, measured_images=10_000, measured_side=41, estimate="not measured",
    ),
}  # fmt: skip

STUDY = Study(
    name="surface",
    question="What does the loss look like between solutions of a network, and what does batch norm do to it?",
    figures="figures 12 and 13",
    data="mnist",
    tiers=TIERS,
    run=run,
    tables=readings.tables,
    pictures=pictures.PICTURES,
    claims=CLAIMS,
    expected=expected,
)
