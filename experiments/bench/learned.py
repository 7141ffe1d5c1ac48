"""A step of each learned optimizer, jitted and donated, beside Adam's: its time, its program, its state.

No other library here has learned optimizers (optax has none). The peer is gradtx's Adam: what a user would take
otherwise, on the same tree, measured as `bench step` measures. The networks have their default sizes and fresh
weights, as time does not depend on the values; weights are arguments of the compiled step, as in meta-training.
"""

from dataclasses import dataclass

import jax
from rich.console import Console

import gradtx
from experiments.bench import trees
from experiments.bench.goals import at_most
from experiments.bench.optimizers import LEARNING_RATE
from experiments.bench.program import Making, Program, make
from experiments.bench.report import Report, new_table, ratio_text, time_text
from experiments.bench.step import check_donation, source, step_run
from experiments.bench.timing import Ratio, Spread, interleave, paired

PEER = "adam"
CHEAPER, SMALLER = 0.5, 0.07
"""Goals: time and state of the MLP, as parts of the LSTM's, whose state is 80 copies of the parameters to 5."""
TREE: trees.Shapes = {"in.w": (784, 100), "in.b": (100,), "out.w": (100, 10), "out.b": (10,)}
"""The MLP of MNIST, 784-100-10."""
SMOKE_TREE: trees.Shapes = {"w": (8, 4), "b": (4,)}


@dataclass(frozen=True)
class Row:
    """One optimizer's step."""

    optimizer: str
    parameters: int
    time: Spread
    state_bytes: int
    making: Making
    program: Program


def contenders() -> dict[str, gradtx.GradientTransformation]:
    """Not constants: their weights are drawn by JAX, which must not start before a command has set its devices."""
    key = jax.random.key(0)
    return {
        "lstm": gradtx.learned.lstm(gradtx.learned.lstm_weights(key), LEARNING_RATE),
        "mlp": gradtx.learned.mlp(gradtx.learned.mlp_weights(key), LEARNING_RATE),
        "adam": gradtx.adam(LEARNING_RATE),
    }


def learned(console: Console, *, smoke: bool, rounds: int) -> Report:
    """Each optimizer in turns."""
    shapes = SMOKE_TREE if smoke else TREE
    count = trees.count(shapes)
    with console.status("learned optimizers"):
        sources = {name: source(gradtx, tx, trees.structs(shapes)) for name, tx in contenders().items()}
        made = make(sources, rounds=1 if smoke else 5)
        for name in sources:
            check_donation(name, sources[name], made[name][1])
        grads = trees.arrays(shapes, seed=1)
        runs = {name: step_run(sources[name], shapes, grads) for name in sources}
        times = interleave(runs, rounds=rounds, block_seconds=1e-3 if smoke else 0.05)
    rows = {
        name: Row(name, count, times[name], trees.nbytes(sources[name].arguments[1]), *made[name]) for name in sources
    }

    columns = ("ms a step", f"/{PEER}", "compile, ms", "kernels", "MB accessed", "temporary KiB", "state, B/param.")
    table = new_table(f"a step on {count:,} parameters in {len(shapes)} leaves", "", *columns)
    for row in rows.values():
        table.add_row(
            row.optimizer,
            time_text(row.time),
            ratio_text(paired(row.time, rows[PEER].time)),
            f"{1e3 * row.making.compile.median:.0f}",
            str(row.program.kernels),
            f"{1e-6 * row.program.bytes_accessed:.4g}",
            f"{row.program.temporary_bytes / 1024:,.1f}",
            f"{row.state_bytes / count:.3g}",
        )
    mlp, lstm = rows["mlp"], rows["lstm"]
    goals = [
        at_most("the MLP against the LSTM: time of a step", CHEAPER, {"mlp": paired(mlp.time, lstm.time)}),
        at_most("the MLP against the LSTM: state", SMALLER, {"mlp": Ratio.exact(mlp.state_bytes / lstm.state_bytes)}),
    ]
    notes = [f"/{PEER}: over gradtx's Adam on the same tree. optax has no learned optimizer to compare with."]
    return Report("learned", {"rounds": rounds}, list(rows.values()), [table], goals, notes)
