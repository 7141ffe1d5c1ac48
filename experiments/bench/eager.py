"""An optimizer's update without `jax.jit`, as it runs when the jit is forgotten, or while debugging.

Nearly all of it is the cost of dispatch, so the leaves are small: 62 of 32 x 32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
from rich.console import Console

from experiments.bench import trees
from experiments.bench.goals import at_most
from experiments.bench.optimizers import LIBRARIES, OPTIMIZERS, Optimizer
from experiments.bench.report import Report, new_table, ratio_text, time_text
from experiments.bench.timing import Run, Spread, interleave, paired


@dataclass(frozen=True)
class Row:
    """One optimizer's un-jitted update in both libraries."""

    optimizer: str
    leaves: int
    gradtx: Spread
    optax: Spread


def eager(console: Console, *, smoke: bool, rounds: int, optimizers: Sequence[str]) -> Report:
    """Each optimizer's `update`, un-jitted, in turns."""
    shapes = trees.SMOKE_EAGER_TREE if smoke else trees.EAGER_TREE
    rows: list[Row] = []
    for name in optimizers:
        with console.status(name):
            runs = {label: _run(library, OPTIMIZERS[name], shapes) for label, library in LIBRARIES.items()}
            times = interleave(runs, rounds=rounds, block_seconds=0.001 if smoke else 0.05)
        rows.append(Row(name, len(shapes), times["gradtx"], times["optax"]))

    table = new_table(f"update without jit, {len(shapes)} leaves, ms", "", "gradtx", "optax", "gradtx/optax")
    ratios = {row.optimizer: paired(row.gradtx, row.optax) for row in rows}
    for row in rows:
        table.add_row(row.optimizer, time_text(row.gradtx), time_text(row.optax), ratio_text(ratios[row.optimizer]))
    adam = {name: ratio for name, ratio in ratios.items() if name == "adam"}
    goals = [at_most("Adam's un-jitted update, against optax", 0.25, adam)] if adam else []
    return Report("eager", {"rounds": rounds}, rows, [table], goals)


def _run(library: ModuleType, optimizer: Optimizer, shapes: trees.Shapes) -> Run:
    tx = optimizer.build(library)
    params, grads = trees.arrays(shapes, seed=0), trees.arrays(shapes, seed=1)
    state: Any = tx.init(params)

    def run(steps: int) -> None:
        nonlocal state
        updates = None
        for _ in range(steps):
            updates, state = tx.update(grads, state, params)
        jax.block_until_ready((updates, state))

    return run
