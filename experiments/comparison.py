"""Compare methods on models: tune each on one set of seeds, then train with what was chosen on fresh ones.

Common random numbers: a seed means the same initial parameters and the same order of examples for each method.
The test split is read after the final runs only. Two tracks: `tuned`, and `default`, every method at the rate that
its paper or the common libraries start with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import xarray as xr

from experiments import data_parallel
from experiments import sweep as sweeps
from experiments.augment import CropAndFlip
from experiments.data import Dataset
from experiments.lanes import Mode
from experiments.methods import COSINE, METHODS, Method
from experiments.models import Classifier
from experiments.study import Context
from experiments.sweep import Sweep
from experiments.train import Problem
from experiments.tuning import Grid, Tuned, tune

FINAL_SEEDS_FROM = 100
"""Seeds below it tune, seeds from it on are for the final runs: a rate is not judged by what it was chosen on."""

TUNED, DEFAULT = "tuned", "default"


@dataclass(frozen=True)
class Stage:
    """How much tuning trains."""

    epochs: int
    seeds: int


@dataclass(frozen=True)
class Training:
    """A tier of a study that trains models.

    Attributes:
        models: By the names that tables and pictures give them.
        epochs, seeds: Of the final runs.
        grid: Learning rates to begin with, the same for every method.
        tuning: None leaves the tuned track out.
        defaults: Whether there is the default track.
        tested_at: Epochs after which the test split is read; none: after the last.
        train_size: Training images used; None for all. Validation takes a quarter as many.
        test_size: Test images used; None for all.
        scale: What is smaller than in the study, in a few words.
    """

    models: Mapping[str, Classifier]
    epochs: int
    seeds: int
    batch_size: int
    grid: Grid
    tuning: Stage | None
    mode: Mode
    estimate: str = field(repr=False)
    scale: str = field(default="", repr=False)
    methods: tuple[Method, ...] = METHODS
    defaults: bool = False
    tested_at: tuple[int, ...] = ()
    train_size: int | None = None
    test_size: int | None = None
    augment: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        """As a dataclass has it, without options that are off: a new option leaves former runs what they were."""
        values = ((one.name, getattr(self, one.name)) for one in fields(self) if one.repr)
        shown = ", ".join(f"{name}={value!r}" for name, value in values if value not in (None, False, ()))
        return f"{type(self).__name__}({shown})"

    def with_recipe(self, *, augment: bool, l2: float, cosine: bool) -> Training:
        """The same with what people add to reach the best figures.

        Args:
            augment: Random crops and flips of the training images.
            l2: Weight of the penalty on the kernels' squares; its gradient is weight decay as SGD has it.
            cosine: Lets the learning rate fall to 0 over the training, along a cosine.
        """
        added = ["crops and flips"] * augment + [f"L2 of {l2:g}"] * bool(l2) + [COSINE.name] * cosine
        return replace(
            self,
            models={name: replace(model, l2=l2) if l2 else model for name, model in self.models.items()},
            methods=tuple(method.with_schedule(COSINE) if cosine else method for method in self.methods),
            augment=CropAndFlip() if augment else self.augment,
            scale="; ".join([*[self.scale] * bool(self.scale), *[f"with {', '.join(added)}"] * bool(added)]),
        )

    @property
    def tests(self) -> tuple[int, ...]:
        """Epochs after which the test split is read."""
        return self.tested_at or (self.epochs,)

    @property
    def tracks(self) -> list[str]:
        """What there is of the two."""
        return [TUNED] * (self.tuning is not None) + [DEFAULT] * self.defaults


def expected(tier: Training) -> dict[str, float]:
    """The parts that are known before the run, and the epochs of one training that each takes.

    Which rate is chosen is not known: its final run has the name `.../final/tuned` here.
    """
    costs: dict[str, float] = {}
    for model in tier.models:
        for method in tier.methods:
            if tier.tuning:
                lanes = len(tier.grid.rates) * tier.tuning.seeds
                costs[_name(model, method, "tuning", tier.grid.rates)] = float(lanes * tier.tuning.epochs)
                costs[f"{model}/{method.name}/final/{TUNED}"] = float(tier.seeds * tier.epochs)
            if tier.defaults:
                costs[_name(model, method, "final", [method.default])] = float(tier.seeds * tier.epochs)
    return costs


def compare(tier: Training, context: Context) -> xr.Dataset:
    """The labelled results.

    Returns:
        Of tuning, and of the final runs:

        - `tuning_train_loss`, `tuning_validation_loss`, `tuning_validation_accuracy` (model, optimizer, tuning_seed,
          learning_rate, tuning_epoch), NaN where a rate was not tried; `tuning_diverged`, `tried`, `edge`;
        - `chosen_learning_rate` (model, optimizer);
        - `train_loss`, `validation_loss`, `validation_accuracy` (model, optimizer, track, seed, epoch), `diverged`
          (model, optimizer, track, seed), `used_learning_rate` (model, optimizer, track);
        - `test_accuracy`, `test_loss`, `full_train_loss` (model, optimizer, track, seed, tested_epoch);
        - `seconds` (model, optimizer), all that was trained, compilation included, and `epoch_seconds` (model,
          optimizer, track), of one epoch of one final run; `epoch_steps` (model), how many steps an epoch has.
    """
    assert context.dataset is not None, "a comparison needs a data set"
    dataset = context.dataset.subset(tier.train_size, tier.test_size)
    for cost in expected(tier).values():
        context.progress.expect(cost)
    models, steps = [], []
    for name, model in tier.models.items():
        problem = Problem(model, tier.batch_size, dataset.train, dataset.validation, tier.augment)
        steps.append(problem.steps)
        models.append([_method(tier, context, dataset, name, problem, method) for method in tier.methods])
    labelled = _stack(models).assign(epoch_steps=("model", steps))
    return labelled.assign_coords(model=list(tier.models), optimizer=[method.name for method in tier.methods])


def _method(
    tier: Training, context: Context, dataset: Dataset, model: str, problem: Problem, method: Method
) -> xr.Dataset:
    """All there is to know of a method on a model."""
    parts: list[xr.Dataset] = []
    used = {DEFAULT: method.default}
    if tier.tuning:
        tuned = _tuned(tier, tier.tuning, context, model, problem, method)
        used[TUNED] = np.nan if tuned.chosen is None else tuned.chosen
        parts.append(_label_tuning(tuned))
    finals = {}
    for track in tier.tracks:
        train = Sweep(
            problem, method, [used[track]], _seeds(FINAL_SEEDS_FROM, tier.seeds), tier.epochs, tier.mode,
            test=dataset.test, tested_at=tier.tests,
        )  # fmt: skip
        finals[track] = _part(context, _name(model, method, "final", [used[track]]), train, known=True)
    seconds = sum(part.attrs["seconds"] for part in [*parts, *{used[t]: finals[t] for t in finals}.values()])
    final = xr.concat([finals[track].isel(learning_rate=0, drop=True) for track in tier.tracks], "track")
    final = final.assign_coords(track=tier.tracks).assign(
        used_learning_rate=("track", [used[track] for track in tier.tracks]),
        epoch_seconds=("track", [finals[track].attrs["epoch_seconds"] for track in tier.tracks]),
        seconds=seconds,
    )
    return xr.merge([*parts, final], combine_attrs="drop")


def _tuned(tier: Training, stage: Stage, context: Context, model: str, problem: Problem, method: Method) -> Tuned:
    def train(rates: Sequence[float]) -> xr.Dataset:
        one = Sweep(problem, method, rates, _seeds(0, stage.seeds), stage.epochs, tier.mode, len(tier.grid.rates))
        return _part(context, _name(model, method, "tuning", rates), one, known=list(rates) == tier.grid.rates)

    return tune(tier.grid, train)


def _part(context: Context, name: str, one: Sweep, *, known: bool) -> xr.Dataset:
    """The result of a sweep that is kept, or trained now."""
    progress = context.progress
    if not known:
        progress.expect(one.cost)
    if np.isnan(one.rates).any():  # no rate is left to train with
        progress.advance(one.cost)
        return sweeps.untrained(one)

    def on_epochs(epochs: float) -> None:
        progress.advance(one.cost / one.epochs * epochs)

    if one.mode == "shard":
        context.plan(data_parallel.plan(one))
        return context.sharded_part(name, one.cost, lambda kept: data_parallel.run(one, kept, on_epochs))
    context.plan(str(one.plan))
    return context.part(name, one.cost, lambda kept: sweeps.run(one, kept, on_epochs))


def _name(model: str, method: Method, stage: str, rates: Sequence[float]) -> str:
    span = f"{rates[0]:g}" if len(rates) == 1 else f"{rates[0]:g}-{rates[-1]:g}"
    return f"{model}/{method.name}/{stage}/{span}"


def _seeds(first: int, count: int) -> list[int]:
    return list(range(first, first + count))


def _label_tuning(tuned: Tuned) -> xr.Dataset:
    names = ("train_loss", "validation_loss", "validation_accuracy", "diverged")
    curves = tuned.curves[list(names)].rename({name: f"tuning_{name}" for name in names})
    labelled = curves.rename(seed="tuning_seed", epoch="tuning_epoch")
    labelled.attrs = {"seconds": tuned.curves.attrs["seconds"]}
    return labelled.assign(
        tried=("learning_rate", np.ones(labelled.sizes["learning_rate"], bool)),
        chosen_learning_rate=np.nan if tuned.chosen is None else tuned.chosen,
        edge=tuned.edge or "none",
    )


def _stack(models: list[list[xr.Dataset]]) -> xr.Dataset:
    """One data set of all; the grids, extended by different amounts, are brought to their union."""
    if "learning_rate" in models[0][0].dims:
        rates = np.unique([rate for row in models for one in row for rate in one.learning_rate.values])
        empty = {"tried": False, "tuning_diverged": False}
        models = [[one.reindex(learning_rate=rates, fill_value=empty | _NAN) for one in row] for row in models]
    return xr.concat([xr.concat(row, "optimizer") for row in models], "model")


_NAN = dict.fromkeys((f"tuning_{name}" for name in ("train_loss", "validation_loss", "validation_accuracy")), np.nan)
