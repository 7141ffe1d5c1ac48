"""`bench step` as tables, and the goals it answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from experiments.bench import trees
from experiments.bench.goals import Goal, at_most
from experiments.bench.report import Report, new_table, ratio_text, time_text
from experiments.bench.step import Cost, Plan, Row, measure
from experiments.bench.timing import Ratio, Spread, paired

MAKING_TREE = "leaves"
ALLOWED_BYTES = 4096  # small buffers may differ by as much
NOTE = (
    "Times in ms: median (quartiles). floor: one in-place scale of a flat array with the least traffic the "
    "optimizer can have (params and state read and written once, gradients read once). "
    "a : b is gradtx : optax, and ÷ gradtx over optax."
)


def step(console: Console, plan: Plan, *, smoke: bool) -> Report:
    """Every optimizer of the plan on every tree of it."""
    every_tree = trees.SMOKE_TREES if smoke else trees.TREES
    rows: list[Row] = []
    for tree in plan.tree_names:
        for name in plan.optimizer_names:
            with console.status(f"{name} on {tree}"):
                rows.append(measure(tree, every_tree[tree], name, plan))
    tables = [
        make(tree, [row for row in rows if row.tree == tree])
        for tree in plan.tree_names
        for make in (time_table, making_table, program_table)
    ]
    return Report("step", asdict(plan), rows, tables, goals(rows), [NOTE])


def time_table(tree: str, rows: Sequence[Row]) -> Table:
    title = f"{tree}: {rows[0].parameters:,} parameters. Time of a step, ms"
    table = new_table(title, "", "gradtx", "optax", "torch", "gradtx/optax", "/floor", "optax/floor")
    for row in rows:
        table.add_row(
            row.optimizer,
            time_text(row.gradtx.time),
            time_text(row.optax.time),
            "–" if row.torch is None else time_text(row.torch),
            ratio_text(paired(row.gradtx.time, row.optax.time)),
            f"{paired(row.gradtx.time, row.floor).median:.2f}",
            f"{paired(row.optax.time, row.floor).median:.2f}",
        )
    return table


def making_table(tree: str, rows: Sequence[Row]) -> Table:
    table = new_table(f"{tree}: from Python to machine code, ms", "", "trace", "÷", "lower", "compile", "all", "all, ÷")
    for row in rows:
        table.add_row(
            row.optimizer,
            _both(row, lambda cost: 1e3 * cost.making.trace.median),
            f"{_making(row, lambda cost: cost.making.trace).median:.2f}",
            _both(row, lambda cost: 1e3 * cost.making.lower.median),
            _both(row, lambda cost: 1e3 * cost.making.compile.median),
            _both(row, lambda cost: 1e3 * cost.making.total.median),
            ratio_text(_making(row, lambda cost: cost.making.total)),
        )
    return table


def program_table(tree: str, rows: Sequence[Row]) -> Table:
    columns = ("kernels", "MB accessed", "temporary KiB", "state, bytes a parameter")
    table = new_table(f"{tree}: the compiled program", "", *columns)
    for row in rows:
        table.add_row(
            row.optimizer,
            _both(row, lambda cost: cost.program.kernels),
            _both(row, lambda cost: 1e-6 * cost.program.bytes_accessed, ".4g"),
            _both(row, lambda cost: cost.program.temporary_bytes / 1024, ",.1f"),
            _both(row, lambda cost, n=row.parameters: cost.state_bytes / n, ".3g"),
        )
    return table


def _both(row: Row, read: Callable[[Cost], float], form: str = ".0f") -> str:
    return f"{read(row.gradtx):{form}} : {read(row.optax):{form}}"


def goals(rows: Sequence[Row]) -> list[Goal]:
    """The goals that the rows can answer."""
    found = []
    if making := {row.label: row for row in rows if row.tree == MAKING_TREE}:
        traces = {label: _making(row, lambda cost: cost.making.trace) for label, row in making.items()}
        totals = {label: _making(row, lambda cost: cost.making.total) for label, row in making.items()}
        adam = {label: ratio for label, ratio in traces.items() if label == f"adam, {MAKING_TREE}"}
        adam_total = {label: totals[label] for label in adam}
        if adam:
            found.append(at_most("adam: trace, against optax", 0.4, adam))
            found.append(at_most("adam: trace, lower and compile", 1.0, adam_total))
        found.append(at_most("every optimizer: trace", 0.4, traces))
        found.append(at_most("every optimizer: trace, lower and compile", 1.0, totals))
    times = {row.label: paired(row.gradtx.time, row.optax.time) for row in rows}
    found.append(at_most("every row: time of a step", 1.05, times))
    sizes: Mapping[str, Callable[[Cost], float]] = {
        "bytes accessed": lambda cost: cost.program.bytes_accessed,
        "temporary memory": lambda cost: cost.program.temporary_bytes,
        "state": lambda cost: cost.state_bytes,
    }
    for what, read in sizes.items():
        ratios = {row.label: _size_ratio(read(row.gradtx), read(row.optax)) for row in rows}
        found.append(at_most(f"every row: {what} (4 KiB free)", 1.05, ratios))
    return found


def _making(row: Row, read: Callable[[Cost], Spread]) -> Ratio:
    return paired(read(row.gradtx), read(row.optax))


def _size_ratio(ours: float, theirs: float) -> Ratio:
    """Ours over theirs, without such bytes of ours as are allowed."""
    counted = max(ours - ALLOWED_BYTES, min(ours, theirs))
    return Ratio.exact(1.0 if counted == theirs else counted / max(theirs, 1.0))
