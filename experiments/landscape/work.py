"""The work of the study of loss surfaces: train, then evaluate planes, in parts.

Two networks that differ in batch normalisation alone; the same seeds, hence the same initial kernels and batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from experiments.comparison import FINAL_SEEDS_FROM
from experiments.data import Dataset, Examples
from experiments.landscape import coordinates, evaluate, planes, views
from experiments.landscape.training import train
from experiments.landscape.views import MEASURED, SHOWN, STARTS
from experiments.methods import METHODS, Method
from experiments.models import Classifier, Variables, lenet5
from experiments.store import Checkpoint
from experiments.study import Context
from experiments.train import Problem

PLAIN, NORMALIZED = "without batch norm", "with batch norm"
NETWORKS: Mapping[str, Classifier] = {PLAIN: lenet5(), NORMALIZED: lenet5(normalized=True)}

RATES = {"SGD": 0.32, "Momentum": 0.032, "RMSprop": 0.0032, "Adam": 0.0032}
"""What `mnist-lenet` chose for LeNet-5 on validation data. The network with batch norm gets the same."""
METHOD_OF: Mapping[str, Method] = {method.name: method for method in METHODS}


@dataclass(frozen=True)
class Landscape:
    """A tier.

    Attributes:
        train_size: Training images; the first of them are those that surfaces are evaluated on.
        epochs, batch_size: Of each training.
        moments: An epoch, at which weights are kept.
        seeds: How many are measured; at least three are trained.
        shown_images: On which the shown planes are evaluated.
        shown_side: Points along a side of the shown planes.
        line_points: Along the line between two solutions.
        measured_images: On which the measured planes are evaluated.
        measured_side: Points along a side of these.
        rates: The optimizers, by name, and their learning rates: four, or fewer of which some are two corners.
    """

    train_size: int
    epochs: int
    batch_size: int
    moments: int
    seeds: int
    shown_images: int
    shown_side: int
    line_points: int
    measured_images: int
    measured_side: int
    estimate: str = field(repr=False)
    scale: str = field(default="", repr=False)
    rates: Mapping[str, float] = field(default_factory=lambda: RATES)

    @property
    def numbers(self) -> range:
        """The seeds."""
        return range(FINAL_SEEDS_FROM, FINAL_SEEDS_FROM + max(self.seeds, STARTS))


def expected(tier: Landscape) -> Mapping[str, float]:
    """The parts, and about how many images each computes the loss of; a training step counts three times."""
    shown = float(tier.shown_side**2 * tier.shown_images)
    measured = float(tier.measured_side**2 * tier.measured_images)
    costs: dict[str, float] = {}
    for network in NETWORKS:
        trained = float(3 * len(tier.numbers) * tier.epochs * tier.train_size)
        costs |= {_trained(network, name): trained for name in tier.rates}
        costs |= {f"{network}/line/{how}": float(tier.line_points * tier.shown_images) for how in _ways(network)}
        costs |= {f"{network}/{plane}": shown for plane in SHOWN}
        costs |= {f"{network}/{plane}/{seed}": measured for plane in MEASURED for seed in tier.numbers}
    return costs


def _trained(network: str, optimizer: str) -> str:
    return f"{network}/training/{optimizer}"


def _ways(network: str) -> tuple[str, ...]:
    """How statistics come about: a network without them has one way."""
    return ("recomputed", "interpolated") if network == NORMALIZED else ("recomputed",)


def run(tier: Landscape, context: Context) -> xr.Dataset:
    """The labelled results.

    Returns:
        `line` (network, statistics, place); `surface`, `x` and `y` (plane, network, row or column), `marks` (plane,
        network, mark, axis), padded with NaN, and `explained` (network, axis) of the trajectory's plane; `measured`
        (measure, network, seed, row, column); `loss`, `accuracy` and `diverged` (network, optimizer, seed).
    """
    assert context.dataset is not None
    dataset = context.dataset.subset(tier.train_size)
    for cost in expected(tier).values():
        context.progress.expect(cost)
    return xr.concat(
        [_Network(tier, context, dataset, name).results() for name in NETWORKS],
        xr.IndexVariable("network", list(NETWORKS)),
    )


@dataclass(frozen=True)
class _Network:
    """One network's part of the work."""

    tier: Landscape
    context: Context
    dataset: Dataset
    name: str

    @property
    def model(self) -> Classifier:
        return NETWORKS[self.name]

    def results(self) -> xr.Dataset:
        trained = {name: self._train(name) for name in self.tier.rates}
        ends = xr.concat(
            [one[["loss", "accuracy", "diverged"]] for one in trained.values()],
            xr.IndexVariable("optimizer", list(trained)),
        )
        return self._line(trained).assign(self._shown(trained)).assign(self._measured(trained)).assign(ends)

    def _train(self, optimizer: str) -> xr.Dataset:
        tier, method = self.tier, METHOD_OF[optimizer]
        problem = Problem(self.model, tier.batch_size, self.dataset.train, self._images(tier.shown_images))
        name, progress = _trained(self.name, optimizer), self.context.progress
        cost = expected(tier)[name] / tier.epochs

        def compute(checkpoint: Checkpoint) -> xr.Dataset:
            return train(
                problem,
                method,
                tier.rates[optimizer],
                list(tier.numbers),
                tier.epochs,
                tier.moments,
                checkpoint,
                lambda epochs: progress.advance(cost * epochs),
            )

        return self._part(name, compute)

    def _line(self, trained: Mapping[str, xr.Dataset]) -> xr.Dataset:
        places = np.linspace(*planes.OUTSIDE, self.tier.line_points)
        ends = planes.stacked(self.model, next(iter(trained.values())).weights.values[:2])
        coefficients = planes.padded(coordinates.line(places))
        found = {
            way: self._evaluate(f"line/{way}", ends, coefficients, self.tier.shown_images, way == "recomputed")
            for way in _ways(self.name)
        }
        ways = _ways(NORMALIZED)
        rows = [found.get(way, np.full(len(places), np.nan, np.float32)) for way in ways]
        return xr.Dataset(
            {"line": (("statistics", "place"), np.stack(rows))}, coords={"statistics": list(ways), "place": places}
        )

    def _shown(self, trained: Mapping[str, xr.Dataset]) -> xr.Dataset:
        made = views.shown(self.model, trained)
        side = self.tier.shown_side
        found: list[xr.Dataset] = []
        for name, plane in made.items():
            corners = planes.stacked(self.model, plane.corners)
            losses = self._evaluate(name, corners, plane.grid(side), self.tier.shown_images)
            x, y = plane.axes(side)
            found.append(
                xr.Dataset(
                    {
                        "surface": (("row", "column"), losses.reshape(side, side)),
                        "x": ("column", x),
                        "y": ("row", y),
                        "marks": (("mark", "axis"), plane.marks),
                    },
                    coords={"mark": np.arange(len(plane.marks))},
                )
            )
        joined = xr.concat(found, xr.IndexVariable("plane", list(made)), join="outer")
        return joined.assign(explained=("axis", views.explained(self.model, trained)))

    def _measured(self, trained: Mapping[str, xr.Dataset]) -> xr.Dataset:
        side, images = self.tier.measured_side, self.tier.measured_images

        def surface(name: str, seed: int) -> np.ndarray:
            plane = MEASURED[name](self.model, trained, seed)
            corners = planes.stacked(self.model, plane.corners)
            return self._evaluate(f"{name}/{seed}", corners, plane.grid(side), images).reshape(side, side)

        found = [[surface(name, seed) for seed in self.tier.numbers] for name in MEASURED]
        return xr.Dataset(
            {"measured": (("measure", "seed", "measured_row", "measured_column"), np.array(found))},
            coords={"measure": list(MEASURED), "seed": list(self.tier.numbers)},
        )

    def _evaluate(
        self, what: str, corners: Variables, coefficients: np.ndarray, images: int, recompute: bool = True
    ) -> np.ndarray:
        examples, progress = self._images(images), self.context.progress

        def compute(checkpoint: Checkpoint) -> xr.Dataset:
            found = evaluate.losses(
                self.model,
                corners,
                coefficients,
                examples,
                recompute=recompute,
                checkpoint=checkpoint,
                on_points=lambda points: progress.advance(float(points * images)),
            )
            return xr.Dataset({"loss": ("point", found)})

        return self._part(f"{self.name}/{what}", compute).loss.values

    def _part(self, name: str, compute: Callable[[Checkpoint], xr.Dataset]) -> xr.Dataset:
        return self.context.part(name, expected(self.tier)[name], compute)

    def _images(self, count: int) -> Examples:
        return Examples(*(part[:count] for part in self.dataset.train))
