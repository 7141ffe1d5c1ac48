"""From stored results to a ranked table and its files. Everything is computed from the results file alone."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from rich.markup import escape
from rich.table import Table

from experiments import figure
from experiments.statistics import CONFIDENCE, Interval, mean_interval

COLUMNS = ("", "optimizer", "learning rate", "test, %", "95 % interval", "validation, %", "seconds")
NOTES = (
    "Test and validation: accuracy, mean over seeds. Learning rate: the best on validation. "
    f"Interval: {CONFIDENCE * 100:g} % t interval over seeds, on one fixed test split. "
    "Seconds: all rates and seeds, compilation included."
)
EDGE_NOTE = "* The best rate lies at the edge of the grid even after it was extended."


@dataclass(frozen=True)
class Row:
    """An optimizer's place on a model."""

    rank: int
    optimizer: str
    learning_rate: float
    at_edge: bool
    test_accuracy: Interval
    validation_accuracy: float
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """The row as text, one cell for each of `COLUMNS`."""
        rate = "all diverged" if math.isnan(self.learning_rate) else f"{self.learning_rate:g}"
        mean, low, high = (100 * value for value in self.test_accuracy)
        return (
            str(self.rank),
            self.optimizer,
            rate + ("*" if self.at_edge else ""),
            _number(mean),
            "–" if math.isnan(low) else f"{low:.2f} to {high:.2f}",
            _number(100 * self.validation_accuracy),
            f"{self.seconds:.1f}",
        )


def rank(dataset: xr.Dataset) -> dict[str, list[Row]]:
    """For each model the optimizers by mean test accuracy, the best first; those that always diverged last."""
    return {str(model): _rank_one(dataset.sel(model=model)) for model in dataset.model.values}


def tables(dataset: xr.Dataset) -> list[Table]:
    """The ranking as one table a model, for a terminal."""
    made = []
    for model, rows in rank(dataset).items():
        table = Table(*COLUMNS, title=escape(f"{headline(dataset)}: {model}"), title_justify="left")
        for column in table.columns[:1] + table.columns[2:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*map(escape, row.cells()))
        made.append(table)
    return made


def notes(dataset: xr.Dataset) -> str:
    """What the columns mean."""
    at_edge = any(row.at_edge for rows in rank(dataset).values() for row in rows)
    return f"{NOTES} {EDGE_NOTE}" if at_edge else NOTES


def headline(dataset: xr.Dataset) -> str:
    """Study, data and size in one line; a smoke run says that it proves nothing."""
    told = dataset.attrs
    sizes = f"{_count(dataset.sizes['epoch'], 'epoch')}, {_count(dataset.sizes['seed'], 'seed')}"
    warning = " (smoke: a small subset, not a result)" if told["tier"] == "smoke" else ""
    return f"{told['study']}{warning}, {told['data']}, {sizes}"


def write(dataset: xr.Dataset, directory: Path) -> None:
    """Write `table.md`, `summary.json` and the figure into an existing directory."""
    (directory / "table.md").write_text(_markdown(dataset))
    ranking = {model: [asdict(row) for row in rows] for model, rows in rank(dataset).items()}
    summary = {"provenance": {str(key): str(value) for key, value in dataset.attrs.items()}, "ranking": ranking}
    (directory / "summary.json").write_text(json.dumps(_plain(summary), indent=2, allow_nan=False) + "\n")
    figure.write(dataset, headline(dataset), directory)


def _rank_one(results: xr.Dataset) -> list[Row]:
    means = results.test_accuracy.mean("seed", skipna=False)
    order = np.argsort(-means.values, kind="stable")  # NaN sorts last
    return [_row(results.isel(optimizer=i), place) for place, i in enumerate(order, 1)]


def _row(results: xr.Dataset, place: int) -> Row:
    rate = float(results.chosen_learning_rate)
    validation = math.nan
    if not math.isnan(rate):
        chosen = results.validation_accuracy.sel(learning_rate=rate)
        validation = float(chosen.isel(epoch=-1).mean("seed"))
    return Row(
        place,
        str(results.optimizer.values),
        rate,
        str(results.edge.values) != "none",
        mean_interval(results.test_accuracy.values).clipped(0.0, 1.0),
        validation,
        float(results.seconds),
    )


def _markdown(dataset: xr.Dataset) -> str:
    lines = [f"# {headline(dataset)}", "", dataset.attrs["question"], ""]
    for model, rows in rank(dataset).items():
        lines += [f"## {model}", "", _line(COLUMNS), _line(["--:", ":--", *["--:"] * 5])]
        lines += [_line(row.cells()) for row in rows] + [""]
    return "\n".join([*lines, notes(dataset), "", f"Made by `{dataset.attrs['command']}`.", ""])


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/').replace('*', chr(92) + '*') for cell in cells)} |"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("s" if number != 1 else "")


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _plain(value: object) -> object:
    """JSON has no NaN: null stands for what there is not. Intervals become objects."""
    if isinstance(value, Interval):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
