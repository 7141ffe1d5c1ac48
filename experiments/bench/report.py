"""What a bench hands back: labelled rows for a file, tables for a person, and the goals for both."""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments import provenance
from experiments.atomic import new_file
from experiments.bench.goals import RULE, Goal
from experiments.bench.timing import Ratio, Spread

PEERS = ("optax", "torch")
VERDICT_STYLE = {"yes": "green", "noise": "yellow", "no": "bold red"}


@dataclass
class Report:
    """One bench's results. `rows` go to the file as they are; `tables` are only for the screen."""

    bench: str
    settings: Mapping[str, Any]
    rows: list[Any] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def environment(command: str) -> dict[str, Any]:
    """Where and when this runs: what another must have to repeat it."""
    return provenance.describe(command) | {
        **{f"{name}_version": importlib.metadata.version(name) for name in PEERS if importlib.util.find_spec(name)},
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def _processor() -> str:
    """The processor's model, as Linux gives it, or as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def to_json(report: Report, command: str) -> str:
    contents = {
        "bench": report.bench,
        "environment": environment(command),
        "settings": dict(report.settings),
        "rule": RULE,
        "units": "seconds and bytes",
        "rows": [dataclasses.asdict(row) for row in report.rows],
        "goals": [dataclasses.asdict(goal) for goal in report.goals],
        "notes": report.notes,
    }
    return json.dumps(contents, indent=1, allow_nan=False) + "\n"


def save(report: Report, path: Path, command: str) -> None:
    """Write the report whole or not at all."""
    with new_file(path) as file:
        file.write_text(to_json(report, command), encoding="utf-8")


def show(report: Report, console: Console) -> None:
    for table in [*report.tables, goals_table(report.goals)]:
        console.print(table)
        console.print()
    for note in [*report.notes, RULE]:
        console.print(f"[dim]{note}[/dim]")


def goals_table(goals: Sequence[Goal]) -> Table:
    table = new_table("Goals", "goal", "measured [95 %]", "met", "worst row")
    for goal in goals:
        style = VERDICT_STYLE[goal.met]
        table.add_row(goal.claim, ratio_text(goal.measured), f"[{style}]{goal.met}[/{style}]", goal.where)
    return table


def new_table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def time_text(spread: Spread, unit: float = 1e-3) -> str:
    """Median and quartiles, in units of `unit` seconds."""
    quartiles = (spread.lower_quartile, spread.median, spread.upper_quartile)
    low, median, high = (f"{value / unit:.3g}" for value in quartiles)
    return f"{median} ({low}–{high})"


def ratio_text(ratio: Ratio) -> str:
    if ratio.low == ratio.high:
        return f"{ratio.median:.3g}"
    return f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
