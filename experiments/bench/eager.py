"""Costs in Python: an optimizer's update without `jax.jit`, its making, and its trace.

Nearly all of it is the cost of dispatch, so the leaves are small: one of 32 x 32, and 62 of them. A scheduled optimizer
has a warm-up and a cosine decay. A trace is of `update` on one leaf, its second and later ones: what JAX has traced
before of its own functions, and gradtx of its kernels, it knows. (`bench step` traces from empty caches.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
from rich.console import Console

import gradtx
from experiments.bench import trees
from experiments.bench.goals import Goal, at_most
from experiments.bench.optimizers import LIBRARIES, OPTIMIZERS, Optimizer
from experiments.bench.report import Report, new_table, ratio_text, time_text
from experiments.bench.timing import Ratio, Run, Spread, interleave, paired

MICROSECONDS = 1e6


@dataclass(frozen=True)
class Scheduled(Optimizer):
    """The same with a warm-up and a cosine decay, each library's own."""

    def build(self, library: ModuleType) -> Any:
        """As gradtx or optax has it."""
        rate = library.warmup_cosine_decay_schedule(0.0, self.learning_rate, 100, 1000)
        return getattr(library, self.factory)(rate, **self.arguments)


SCHEDULED = {
    f"{name}, scheduled": Scheduled(OPTIMIZERS[name].factory, OPTIMIZERS[name].slots, OPTIMIZERS[name].torch_class)
    for name in ("adam", "adamw")
}


@dataclass(frozen=True)
class Row:
    """One optimizer in both libraries: `update` without jit, or a trace of it."""

    what: str
    optimizer: str
    leaves: int
    gradtx: Spread
    optax: Spread


def eager(console: Console, *, smoke: bool, rounds: int, optimizers: Sequence[str]) -> Report:
    """Each optimizer's `update`, un-jitted and traced, in turns; and how long `adam(1e-3)` takes to make."""
    many = trees.SMOKE_EAGER_TREE if smoke else trees.EAGER_TREE
    one = dict(list(many.items())[:1])
    known = {**OPTIMIZERS, **SCHEDULED}
    chosen = [*optimizers, *(name for name in SCHEDULED if name.partition(",")[0] in optimizers)]
    block = 0.001 if smoke else 0.05
    rows: list[Row] = []
    for what, shapes, make in (("update", one, _update_run), ("update", many, _update_run), ("trace", one, _trace_run)):
        for name in chosen:
            with console.status(name):
                runs = {label: make(library, known[name], shapes) for label, library in LIBRARIES.items()}
                times = interleave(runs, rounds=rounds, block_seconds=block)
            rows.append(Row(what, name, len(shapes), times["gradtx"], times["optax"]))
    making = interleave({"gradtx": _making_run}, rounds=rounds, block_seconds=block)["gradtx"]

    tables = []
    for what, leaves in (("update", len(one)), ("update", len(many)), ("trace", len(one))):
        said = "update without jit" if what == "update" else "a trace of update, not the first"
        title = f"{said}, {leaves} {'leaf' if leaves == 1 else 'leaves'}, ms"
        table = new_table(title, "", "gradtx", "optax", "gradtx/optax")
        for row in _of(rows, what, leaves):
            ratio = ratio_text(paired(row.gradtx, row.optax))
            table.add_row(row.optimizer, time_text(row.gradtx), time_text(row.optax), ratio)
        tables.append(table)
    return Report("eager", {"rounds": rounds}, rows, tables, _goals(rows, making, len(one), len(many)))


def _of(rows: Sequence[Row], what: str, leaves: int) -> list[Row]:
    return [row for row in rows if row.what == what and row.leaves == leaves]


def _goals(rows: Sequence[Row], making: Spread, one: int, many: int) -> list[Goal]:
    single = {row.optimizer: row for row in _of(rows, "update", one)}
    ratios = {name: paired(row.gradtx, row.optax) for name, row in single.items() if name.startswith("adam")}
    all_leaves = {row.optimizer: paired(row.gradtx, row.optax) for row in _of(rows, "update", many)}
    traces = {row.optimizer: paired(row.gradtx, row.optax) for row in _of(rows, "trace", one)}
    goals = [at_most("adam(1e-3) made, microseconds", 30, {"adam": _microseconds(making)})]
    if ratios:
        goals.append(at_most("Adam and AdamW, scheduled too, one leaf without jit, against optax", 1.0, ratios))
    if "sgd" in single:
        goals.append(
            at_most("SGD, one leaf without jit, microseconds", 60, {"sgd": _microseconds(single["sgd"].gradtx)})
        )
    if "adam" in all_leaves:
        goals.append(at_most("Adam's un-jitted update, many leaves, against optax", 0.25, {"adam": all_leaves["adam"]}))
    return [*goals, at_most("every row: a trace of one leaf, against optax", 1.1, traces)]


def _microseconds(spread: Spread) -> Ratio:
    median, low, high = (MICROSECONDS * each for each in (spread.median, spread.lower_quartile, spread.upper_quartile))
    return Ratio(median, low, high)


def _update_run(library: ModuleType, optimizer: Optimizer, shapes: trees.Shapes) -> Run:
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


def _trace_run(library: ModuleType, optimizer: Optimizer, shapes: trees.Shapes) -> Run:
    tx = optimizer.build(library)
    params = trees.structs(shapes)
    arguments = (params, jax.eval_shape(tx.init, params), params)

    def fresh() -> Callable[..., Any]:
        # As their users write it: gradtx's is an argument of the step, optax's is closed over.
        def step(updates: Any, state: Any, params: Any, tx: Any = tx) -> Any:
            return tx.update(updates, state, params)

        return step

    def run(steps: int) -> None:
        for _ in range(steps):
            jax.jit(fresh()).trace(*arguments, *([tx] if library is gradtx else []))

    return run


def _making_run(steps: int) -> None:
    for _ in range(steps):
        gradtx.adam(1e-3)
