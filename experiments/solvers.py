r"""The solver settings of the study's table 1 as they were published, a fair form of them, and how both are run.

The table's numbers are of M. Wilber's torch-residual-networks, whose README has them and those of ResNet-20; four of
them are in the Torch blog. The study calls them training errors; both sources call them testing errors. Each is of a
single run. What the code says (`train-cifar.lua`, and Torch's `optim` for what it leaves open):

- batches of 128, 200 epochs; images shifted by up to 4 pixels and flipped;
- the rate is divided by 10 after 80 epochs and again after 120 (the README's text says 80 and 160; the blog's other
  code, fb.resnet.torch, begins its 81st and 122nd with a lower rate). Adadelta has no rate, and so no schedule;
- weight decay of 1e-4, added to the gradient of every parameter, for Nesterov's momentum alone;
- RMSprop: decay 0.9, $\epsilon = 10^{-8}$ outside the root. Adagrad: sums from 0, $\epsilon = 10^{-10}$ outside the
  root. Adadelta: $\rho = 0.3$, $\epsilon = 10^{-6}$.

Differs: 5,000 of the 50,000 training images are for validation, each image is seen once an epoch (there they were drawn
with replacement), channels are standardised (there pixels were centred, and all divided by one number), convolutions
have no bias, kernels are drawn from a truncated normal, scales of normalisation begin at 1 (there in blocks at
1 ± 0.002), and Nesterov's method is evaluated at its iterate (`eval_params`), not at the look-ahead point.

Sources: https://github.com/gcr/torch-residual-networks; Gross and Wilber, "Training and investigating residual nets",
Torch blog, 4 February 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import gradtx
from experiments import comparison
from experiments.augment import CropAndFlip
from experiments.comparison import Stage, Training
from experiments.data import Dataset, Examples
from experiments.lanes import Mode
from experiments.methods import Make, Method, Schedule
from experiments.models import Classifier
from experiments.study import Context
from experiments.tuning import Grid

WEIGHT_DECAY = 1e-4
BATCH_SIZE = 128
DROPS = (0.4, 0.6)
"""80 and 120 of 200 epochs, as parts of the training."""


def _dropping(peak: Any, steps: int) -> Any:
    return gradtx.piecewise_constant_schedule(peak, [(drop * steps, 0.1) for drop in DROPS])


DROPPING = Schedule("a tenth after 40 % of the training, and again after 60 %", _dropping)

nesterov = partial(gradtx.sgd, momentum=0.9, nesterov=True)
rmsprop = partial(gradtx.rmsprop, decay=0.9, eps=1e-8, eps_in_sqrt=False)
adagrad = partial(gradtx.adagrad, initial_accumulator_value=0.0, eps=1e-10, eps_in_sqrt=False)
adadelta = partial(gradtx.adadelta, rho=0.3, eps=1e-6)


@dataclass(frozen=True)
class Decayed:
    """An optimizer with weight decay as an L2 penalty has it: added to the gradient of every parameter."""

    make: Make

    def __call__(self, rate: Any) -> gradtx.GradientTransformation:
        """At a learning rate."""
        return gradtx.chain(gradtx.add_decayed_weights(WEIGHT_DECAY), self.make(rate))


SETTINGS = (
    Method("Nesterov (1e-1)", Decayed(nesterov), 1e-1, DROPPING),
    Method("RMSprop (1e-4)", rmsprop, 1e-4, DROPPING),
    Method("RMSprop (1e-3)", rmsprop, 1e-3, DROPPING),
    Method("RMSprop (1e-2)", rmsprop, 1e-2, DROPPING),
    Method("RMSprop (1e-1)", rmsprop, 1e-1, DROPPING),
    Method("Adadelta", adadelta, 1.0),
    Method("Adagrad (1e-3)", adagrad, 1e-3, DROPPING),
    Method("Adagrad (1e-2)", adagrad, 1e-2, DROPPING),
    Method("Adagrad (1e-1)", adagrad, 1e-1, DROPPING),
)
"""In the table's order."""

FAIR = (
    Method("Nesterov", Decayed(nesterov), 1e-1, DROPPING),
    Method("RMSprop", Decayed(rmsprop), 1e-2, DROPPING),
    Method("Adadelta", Decayed(adadelta), 1.0, DROPPING),
    Method("Adagrad", Decayed(adagrad), 1e-1, DROPPING),
)
"""All have the weight decay and the schedule, and their rates are tuned."""


class Published(NamedTuple):
    """Testing errors of single runs, as parts of 1; NaN where there is none."""

    resnet110: float
    resnet20: float


PUBLISHED: Mapping[str, Published] = {
    "Nesterov (1e-1)": Published(0.0697, 0.0829),
    "RMSprop (1e-4)": Published(0.1482, 0.1677),
    "RMSprop (1e-3)": Published(0.0821, 0.1055),
    "RMSprop (1e-2)": Published(0.0768, 0.0945),
    "RMSprop (1e-1)": Published(0.1098, np.nan),
    "Adadelta": Published(0.0888, 0.1093),
    "Adagrad (1e-3)": Published(0.3022, 0.3536),
    "Adagrad (1e-2)": Published(0.1321, 0.1603),
    "Adagrad (1e-1)": Published(0.1145, 0.1255),
}


@dataclass(frozen=True)
class Solvers:
    """A tier: the settings as published, then the fair form, on the same networks and data.

    Attributes:
        models: By name, the one that decides first.
        epochs, seeds: Of the final runs.
        grid, tuning: Of the fair form.
        mode: "shard" trains over all devices together.
        shrink: Images become the means of squares of so many pixels.
        scale: What is smaller than published, in a few words.
    """

    models: Mapping[str, Classifier]
    epochs: int
    seeds: int
    grid: Grid
    tuning: Stage
    mode: Mode
    estimate: str = field(repr=False)
    scale: str = field(default="", repr=False)
    train_size: int | None = None
    test_size: int | None = None
    shrink: int = 1
    settings: tuple[Method, ...] = SETTINGS
    methods: tuple[Method, ...] = FAIR

    @property
    def published(self) -> Training:
        """Each setting at its one rate; nothing is tuned."""
        return Training(
            self.models, self.epochs, self.seeds, BATCH_SIZE, self.grid, None, self.mode, self.estimate,
            methods=self.settings, defaults=True, train_size=self.train_size, test_size=self.test_size,
            augment=CropAndFlip(),
        )  # fmt: skip

    @property
    def fair(self) -> Training:
        """The four methods, tuned."""
        return replace(self.published, methods=self.methods, tuning=self.tuning, defaults=False)


def trainings(tier: Solvers) -> Sequence[Training]:
    """What a tier trains."""
    return tier.published, tier.fair


def expected(tier: Solvers) -> dict[str, float]:
    """The parts that are known before the run, and their epochs."""
    return {name: cost for one in trainings(tier) for name, cost in comparison.expected(one).items()}


def run(tier: Solvers, context: Context) -> xr.Dataset:
    """What `comparison.compare` returns of both; `published` and `fair` take them apart again."""
    if tier.shrink > 1 and context.dataset is not None:
        context = replace(context, dataset=_shrunk(context.dataset, tier.shrink))
    made = {"published": comparison.compare(tier.published, context), "fair": comparison.compare(tier.fair, context)}
    return xr.merge([_prefixed(one, f"{name}_") for name, one in made.items()], combine_attrs="drop")


def published(results: xr.Dataset) -> xr.Dataset:
    """The comparison of the nine settings."""
    return _part(results, "published_")


def fair(results: xr.Dataset) -> xr.Dataset:
    """The comparison of the four tuned methods."""
    return _part(results, "fair_")


def _shrunk(dataset: Dataset, by: int) -> Dataset:
    """Each image as the means of squares of `by` times `by` pixels."""

    def smaller(examples: Examples) -> Examples:
        n, height, width, channels = examples.images.shape
        squares = examples.images.reshape(n, height // by, by, width // by, by, channels)
        return examples._replace(images=squares.mean((2, 4)))

    return replace(
        dataset,
        train=smaller(dataset.train),
        validation=smaller(dataset.validation),
        test=smaller(dataset.test),
    )


def _prefixed(results: xr.Dataset, prefix: str) -> xr.Dataset:
    return results.rename({name: f"{prefix}{name}" for name in {*results.variables, *results.dims}})


def _part(results: xr.Dataset, prefix: str) -> xr.Dataset:
    one = results[[name for name in results.data_vars if str(name).startswith(prefix)]]
    return one.rename({name: str(name).removeprefix(prefix) for name in {*one.variables, *one.dims}})
