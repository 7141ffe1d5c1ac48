"""What a wrapper around Adam costs: a step's time, its program, its making; beside bare Adam, and optax's counterpart.

A step is `update` and `apply_updates`, jitted and donated, as in `bench step`. All contenders of a row take turns. The
gradients are finite and of one size, so that guards let every step through.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

import gradtx
from experiments.bench import trees
from experiments.bench.goals import Goal, at_most
from experiments.bench.program import Source, make
from experiments.bench.report import Report, new_table, ratio_text, time_text
from experiments.bench.step import Cost, step_run
from experiments.bench.timing import interleave, paired
from experiments.errors import ExperimentError

RATE = 1e-3
BLOCK_SECONDS = 0.05
TREES = ("gpt2", "leaves")
NOTE = (
    "Times in ms: median (quartiles). trace, compile: from empty caches, over those of bare Adam. Kernels and MB: of "
    "the compiled program, and of bare Adam's. state: bytes per parameter. -: optax has no counterpart."
)


@dataclass(frozen=True)
class Contender:
    """A wrapper around Adam in gradtx, and in optax where it has it, with the extra arguments of a step.

    Ours is an argument of the compiled step, unless it is `closed` over, so that its numbers are constants.
    """

    ours: Callable[[], Any]
    theirs: Callable[[], Any] | None = None
    extra: Mapping[str, float] = field(default_factory=dict)
    closed: bool = False


@dataclass(frozen=True)
class Row:
    """One wrapper on one tree."""

    tree: str
    wrapper: str
    parameters: int
    bare: Cost
    gradtx: Cost
    optax: Cost | None


def adam() -> Any:
    """What is wrapped, in gradtx."""
    return gradtx.adam(RATE)


def optax_adam() -> Any:
    """What is wrapped, in optax."""
    return optax.adam(RATE)


def is_matrix(params: Any) -> Any:
    """A mask, and the labels of two groups, as optax takes them."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def wrappers() -> dict[str, Contender]:
    """Every wrapper that is measured."""
    two_groups = {gradtx.by_rank(2): adam(), "*": adam()}
    labelled: Any = {True: optax_adam(), False: optax_adam()}
    return {
        "partition": Contender(lambda: gradtx.partition(two_groups), lambda: optax.partition(labelled, is_matrix)),
        "masked": Contender(
            lambda: gradtx.masked(adam(), gradtx.by_rank(2)), lambda: optax.masked(optax_adam(), is_matrix)
        ),
        "accumulate, every 1": Contender(
            lambda: gradtx.accumulate(adam(), 1), lambda: optax.MultiSteps(optax_adam(), 1)
        ),
        "accumulate, every 1, closed over": Contender(
            lambda: gradtx.accumulate(adam(), 1), lambda: optax.MultiSteps(optax_adam(), 1), closed=True
        ),
        "accumulate, every 4": Contender(
            lambda: gradtx.accumulate(adam(), 4), lambda: optax.MultiSteps(optax_adam(), 4)
        ),
        "guard": Contender(lambda: gradtx.guard(adam()), lambda: optax.apply_if_finite(optax_adam(), 5)),
        "guard, spikes": Contender(lambda: gradtx.guard(adam(), sigma=6.0), extra={"value": 1.0}),
        "apply_if_finite": Contender(
            lambda: gradtx.apply_if_finite(adam(), 5), lambda: optax.apply_if_finite(optax_adam(), 5)
        ),
        "dynamic_loss_scale": Contender(lambda: gradtx.dynamic_loss_scale(adam(), init_scale=1.0)),
        "average": Contender(lambda: gradtx.average(adam(), 0.999)),
        "polyak_average": Contender(lambda: gradtx.polyak_average(adam())),
        "lookahead": Contender(lambda: gradtx.lookahead(adam(), 6, 0.5)),
        "schedule_free": Contender(
            lambda: gradtx.schedule_free(adam(), RATE), lambda: optax.contrib.schedule_free(optax_adam(), RATE)
        ),
        "cautious": Contender(lambda: gradtx.cautious(adam())),
        "mechanize": Contender(lambda: gradtx.mechanize(adam()), lambda: optax.contrib.mechanize(optax_adam())),
        "decay_weights": Contender(
            lambda: gradtx.decay_weights(adam(), 0.1), lambda: optax.adamw(RATE, weight_decay=0.1)
        ),
        "clip_by_global_norm": Contender(
            lambda: gradtx.chain(gradtx.clip_by_global_norm(1.0), adam()),
            lambda: optax.chain(optax.clip_by_global_norm(1.0), optax_adam()),
        ),
        "adaptive_grad_clip": Contender(
            lambda: gradtx.chain(gradtx.adaptive_grad_clip(0.01), adam()),
            lambda: optax.chain(optax.adaptive_grad_clip(0.01), optax_adam()),
        ),
        "scale_by_trust_ratio": Contender(
            lambda: gradtx.chain(adam(), gradtx.scale_by_trust_ratio()),
            lambda: optax.chain(optax_adam(), optax.scale_by_trust_ratio()),
        ),
        "state_dtype, bfloat16 mu": Contender(
            lambda: gradtx.state_dtype(adam(), {"*/mu": "bfloat16"}), lambda: optax.adam(RATE, mu_dtype="bfloat16")
        ),
        "quantize_state, int8": Contender(lambda: gradtx.quantize_state(adam())),
        "observe": Contender(lambda: gradtx.observe(adam())),
        "observe, every 10": Contender(lambda: gradtx.observe(adam(), every=10.0)),
    }


def measure(tree: str, shapes: trees.Shapes, name: str, contender: Contender, rounds: int, block: float) -> Row:
    """One wrapper on one tree, everything in turns."""
    structs, count = trees.structs(shapes), trees.count(shapes)
    built: dict[str, tuple[Any, Any]] = {"bare": (gradtx, adam()), "gradtx": (gradtx, contender.ours())}
    if contender.theirs is not None:
        built["optax"] = (optax, contender.theirs())
    sources = {
        label: _source(library, tx, {} if label == "bare" else contender.extra, structs, contender.closed)
        for label, (library, tx) in built.items()
    }
    made = make(sources, rounds=1)
    grads = trees.arrays(shapes, seed=1)
    runs = {label: step_run(source, shapes, grads) for label, source in sources.items()}
    times = interleave(runs, rounds=rounds, block_seconds=block)
    costs = {label: Cost(times[label], trees.nbytes(sources[label].arguments[1]), *made[label]) for label in sources}
    return Row(tree, name, count, costs["bare"], costs["gradtx"], costs.get("optax"))


def _source(library: Any, tx: Any, extra: Mapping[str, float], params: Any, closed: bool) -> Source:
    def fresh() -> Callable[..., Any]:
        def step(params: Any, state: Any, grads: Any, tx: Any = tx) -> tuple[Any, Any]:
            given = {name: jnp.float32(value) for name, value in extra.items()}
            updates, state = tx.update(grads, state, params, **given)
            return library.apply_updates(params, updates), state

        return step

    arguments = (params, jax.eval_shape(tx.init, params), params)
    is_argument = library is gradtx and not closed
    return Source(fresh, (*arguments, tx) if is_argument else arguments, donated=(0, 1))


def bench(
    console: Console, *, smoke: bool, rounds: int, only: Sequence[str] = (), names_of_trees: Sequence[str] = TREES
) -> Report:
    """Every wrapper on a tree of large leaves and on one of many small ones."""
    every_tree = trees.SMOKE_TREES if smoke else trees.TREES
    chosen = {name: each for name, each in wrappers().items() if not only or name in only}
    rows: list[Row] = []
    measured = [tree for tree in TREES if tree in names_of_trees]
    if not measured:
        raise ExperimentError(f"wrappers are measured on {' and '.join(TREES)}, not on {', '.join(names_of_trees)}")
    for tree in measured:
        for name, contender in chosen.items():
            with console.status(f"{name} on {tree}"):
                block = 1e-3 if smoke else BLOCK_SECONDS
                rows.append(measure(tree, every_tree[tree], name, contender, rounds, block))
    tables = [
        make_table(tree, [row for row in rows if row.tree == tree])
        for tree in measured
        for make_table in (time_table, program_table)
    ]
    return Report("wrappers", {"rounds": rounds}, rows, tables, goals(rows), [NOTE])


def time_table(tree: str, rows: Sequence[Row]) -> Table:
    title = f"{tree}: {rows[0].parameters:,} parameters. Time of a step, ms"
    table = new_table(title, "", "bare Adam", "wrapped", "/bare", "/optax")
    for row in rows:
        table.add_row(
            row.wrapper,
            time_text(row.bare.time),
            time_text(row.gradtx.time),
            ratio_text(paired(row.gradtx.time, row.bare.time)),
            "-" if row.optax is None else ratio_text(paired(row.gradtx.time, row.optax.time)),
        )
    return table


def program_table(tree: str, rows: Sequence[Row]) -> Table:
    table = new_table(
        f"{tree}: the program", "", "trace", "compile", "kernels", "MB accessed", "state", "optax's state"
    )
    for row in rows:
        bare, ours = row.bare, row.gradtx
        table.add_row(
            row.wrapper,
            f"{paired(ours.making.trace, bare.making.trace).median:.2f}",
            f"{paired(ours.making.compile, bare.making.compile).median:.2f}",
            f"{ours.program.kernels} ({bare.program.kernels})",
            f"{1e-6 * ours.program.bytes_accessed:.4g} ({1e-6 * bare.program.bytes_accessed:.4g})",
            f"{ours.state_bytes / row.parameters:.3g}",
            "-" if row.optax is None else f"{row.optax.state_bytes / row.parameters:.3g}",
        )
    return table


NEARLY_FREE = ("accumulate, every 1", "accumulate, every 1, closed over", "guard", "observe", "observe, every 10")


def goals(rows: Sequence[Row]) -> list[Goal]:
    """The goals that the rows can answer."""
    found = []
    peers = {f"{row.wrapper}, {row.tree}": paired(row.gradtx.time, row.optax.time) for row in rows if row.optax}
    if peers:
        found.append(at_most("every row: time, against optax", 1.05, peers))
    free = {row.wrapper: paired(row.gradtx.time, row.bare.time) for row in rows if row.tree == "gpt2"}
    for name in NEARLY_FREE:
        if name in free:
            found.append(at_most(f"{name}: time on 124 M parameters, against bare Adam", 1.1, {name: free[name]}))
    return found
