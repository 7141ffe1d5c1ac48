"""Does Adam train as well with its state in 8 bits? Curves on MNIST, in pairs: one seed, the same start and batches.

Each codec is compared with float32 within seeds, epoch by epoch, by the mean difference and its 95 % interval. As a
measure of what a difference means, the last rows of each network compare each seed of float32 with the next one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import gradtx
from experiments import data
from experiments.bench.goals import Goal, at_most
from experiments.bench.report import Report, new_table
from experiments.bench.timing import Ratio
from experiments.errors import ExperimentError
from experiments.models import Classifier, lenet5, mlp
from experiments.statistics import Interval, paired
from experiments.train import Curves, Problem, train

LEARNING_RATE, BATCH, SEEDS, EPOCHS = 1e-3, 128, 5, 3
MARGIN = 0.003
"""Margin of validation accuracy: 30 of 10,000 digits, as in the study of LeNet-5."""
EXACT, OTHER_SEEDS = "float32", "other seeds"


def networks() -> dict[str, Classifier]:
    """The networks of the studies, by what `--only` calls them."""
    return {"mlp": mlp(28 * 28, (500, 500), 10), "lenet": lenet5()}


def methods() -> dict[str, Any]:
    """Adam in each precision."""
    adam = gradtx.adam(LEARNING_RATE)
    return {EXACT: adam, "int8": gradtx.quantize_state(adam)}


Stacked = Mapping[str, np.ndarray]
"""Curves by name, of all seeds: (seeds, epochs)."""


@dataclass(frozen=True)
class Row:
    """One run."""

    network: str
    method: str
    seed: int
    train_loss: list[float]
    validation_loss: list[float]
    validation_accuracy: list[float]


def codec(console: Console, *, smoke: bool, only: tuple[str, ...]) -> Report:
    """Train and compare."""
    known = networks()
    unknown = [name for name in only if name not in known]
    if unknown:
        raise ExperimentError(f"unknown network {unknown[0]!r}; there are {', '.join(known)}")
    chosen = {name: known[name] for name in only or known}
    dataset = data.load("mnist").subset(*((512, 256) if smoke else (None, None)))
    epochs, seeds = (2, 2) if smoke else (EPOCHS, SEEDS)
    rows = [row for name, model in chosen.items() for row in _runs(console, name, model, dataset, epochs, seeds)]
    tables, goals = [], []
    for name in chosen:
        exact = _curves(rows, name, EXACT)
        compared = {method: _curves(rows, name, method) for method in methods() if method != EXACT}
        compared[OTHER_SEEDS] = {what: np.roll(curve, 1, axis=0) for what, curve in exact.items()}
        tables.append(_table(name, exact, compared))
        goals += _goals(name, exact, compared)
    notes = [
        f"Adam at {LEARNING_RATE:g}, batches of {BATCH}, {seeds} seeds. Differences are codec minus float32 of the "
        "same seed, mean [95 % interval]; state leaves of fewer than 4,096 entries are float32.",
    ]
    settings = {"epochs": epochs, "seeds": seeds, "learning_rate": LEARNING_RATE, "batch_size": BATCH}
    return Report("codec", settings, list(rows), tables, goals, notes)


def _runs(console: Console, name: str, model: Classifier, dataset: data.Dataset, epochs: int, seeds: int) -> list[Row]:
    problem = Problem(model, BATCH, dataset.train, dataset.validation)
    run = jax.jit(lambda problem, tx, key: train(problem, tx, key, epochs)[1])
    rows = []
    for method, tx in methods().items():
        for seed in range(seeds):
            with console.status(f"{name}, {method}, seed {seed}"):
                curves = run(problem, tx, jax.random.key(seed))
            rows.append(Row(name, method, seed, *(np.asarray(curve, float).tolist() for curve in curves)))
    return rows


def _curves(rows: list[Row], network: str, method: str) -> Stacked:
    found = [row for row in rows if (row.network, row.method) == (network, method)]
    return {what: np.asarray([getattr(row, what) for row in found]) for what in Curves._fields}


def _differences(curves: np.ndarray, exact: np.ndarray) -> list[Interval]:
    """After each epoch; all intervals hold together at 95 %."""
    return [paired(curves[:, epoch], exact[:, epoch], tests=exact.shape[1]) for epoch in range(exact.shape[1])]


def _all_differences(curves: Stacked, exact: Stacked) -> list[list[Interval]]:
    """Differences of each curve from the exact one."""
    return [_differences(curves[what], exact[what]) for what in Curves._fields]


def _table(name: str, exact: Stacked, compared: Mapping[str, Stacked]) -> Table:
    columns = ("train loss", "validation loss", "validation accuracy, %", "told apart")
    table = new_table(f"{name}: float32 after each epoch, and differences from it", "", *columns)
    for epoch in range(exact["train_loss"].shape[1]):
        means = [exact[what][:, epoch].mean() for what in Curves._fields]
        table.add_row(f"float32, {epoch + 1}", f"{means[0]:.4f}", f"{means[1]:.4f}", f"{100 * means[2]:.2f}", "")
    for method, curves in compared.items():
        for epoch, row in enumerate(zip(*_all_differences(curves, exact), strict=True)):
            apart = [what for what, one in zip(("train", "loss", "accuracy"), row, strict=True) if one.beyond(0)]
            texts = [_text(one, unit) for one, unit in zip(row, (1, 1, 100), strict=True)]
            table.add_row(f"{method}, {epoch + 1}", *texts, ", ".join(apart) or "no")
    return table


def _text(one: Interval, unit: float) -> str:
    return f"{unit * one.mean:+.4f} [{unit * one.low:+.4f}, {unit * one.high:+.4f}]"


def _goals(name: str, exact: Stacked, compared: Mapping[str, Stacked]) -> list[Goal]:
    found = []
    for method in [name for name in compared if name != OTHER_SEEDS]:
        ours, theirs = (curves["validation_accuracy"][:, -1] for curves in (compared[method], exact))
        last = paired(ours, theirs)
        far = max(abs(last.low), abs(last.high))
        claim = f"{name}, {method}: accuracy apart, far end of the interval"
        found.append(at_most(claim, MARGIN, {name: Ratio.exact(far)}))
        apart = sum(one.beyond(0) for curve in _all_differences(compared[method], exact) for one in curve)
        found.append(at_most(f"{name}, {method}: points of curves told apart", 0, {name: Ratio.exact(float(apart))}))
    return found
