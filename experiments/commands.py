"""What the commands `list`, `run` and `report` do."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments import atomic, data, provenance, report, store
from experiments.comparison import compare
from experiments.errors import ExperimentError, one_line
from experiments.optimizers import OPTIMIZERS
from experiments.progress import SweepProgress
from experiments.studies import STUDIES, TIERS, find, find_tier

NEEDED_BYTES = 10_000_000
"""Free space without which no run starts. Results take less than 1 MB, their making somewhat more."""


def list_studies(console: Console) -> None:
    """Print all studies."""
    table = Table("study", "question", "data", "tier", "time on 2 cores", box=None, pad_edge=False)
    for study in STUDIES.values():
        tiers = "\n".join(study.tiers)
        times = "\n".join(tier.estimate for tier in study.tiers.values())
        table.add_row(study.name, study.question, study.data, tiers, times)
    console.print(table)
    console.print("\nRun one with: python -m experiments run NAME --tier TIER (default: cpu)", markup=False)


def run_study(
    console: Console, name: str, tier_name: str, data_dir: Path | None, results: Path, seeds: int | None, command: str
) -> None:
    """Run a study and write its results.

    Raises:
        ExperimentError: The study, the tier or the data set is not there, or results cannot be written.
    """
    study = find(name)
    tier_name, tier = find_tier(study, tier_name)
    if seeds is not None:
        if seeds < 1:
            raise ExperimentError(f"--seeds must be at least 1, got {seeds}")
        tier = dataclasses.replace(tier, seeds=seeds)
    directory = store.directory(results, study.name, tier_name)
    try:
        atomic.check_writable(directory, free_bytes=NEEDED_BYTES)
    except OSError as error:
        raise _unwritable(directory, error) from error

    console.print(f"[bold]{study.name}[/], {tier_name} tier: {study.question}")
    console.print(f"Takes about {tier.estimate} on 2 cores.")
    with console.status(f"loading {study.data}"):
        dataset = data.load(study.data, data_dir)
    start = time.perf_counter()
    with SweepProgress(console, len(study.models) * len(OPTIMIZERS), tier.epochs) as progress:
        compared = compare(study, tier, dataset, progress)
    compared.attrs = {
        "study": study.name,
        "question": study.question,
        "tier": tier_name,
        "data": study.data,
        "data_fingerprint": dataset.fingerprint,
        "train_examples": len(dataset.subset(tier.train_size).train.labels),
        "batch_size": tier.batch_size,
        "elapsed_seconds": round(time.perf_counter() - start, 1),
        **provenance.describe(command),
    }
    _show(console, compared)  # before it is written: a disk that has become full does not take it away
    _write(compared, directory)
    console.print(f"Done in {compared.attrs['elapsed_seconds']:.0f} s. Table, picture and data are in:")
    console.print(str(directory), style="bold", markup=False, soft_wrap=True)


def report_studies(console: Console, name: str | None, results: Path) -> None:
    """Print stored results and draw their pictures anew.

    Raises:
        ExperimentError: There are none, or they cannot be read.
    """
    studies = [find(name)] if name else list(STUDIES.values())
    directories = [store.directory(results, study.name, tier) for study in studies for tier in TIERS]
    directories = [directory for directory in directories if directory.exists()]
    if not directories:
        asked = f"of {name!r} " if name else ""
        raise ExperimentError(
            f"no results {asked}in {results}; make some with: python -m experiments run {name or 'quickstart'}"
        )
    for directory in directories:
        compared = store.read(directory)
        _show(console, compared)
        _write(compared, directory)
        console.print(f"[bold]{escape(str(directory))}[/]\n", soft_wrap=True)


def _show(console: Console, compared: xr.Dataset) -> None:
    for table in report.tables(compared):
        console.print(table)
    console.print(report.notes(compared), style="dim", markup=False)


def _write(compared: xr.Dataset, directory: Path) -> None:
    try:
        with atomic.new_directory(directory) as staged:
            store.write(compared, staged)
            report.write(compared, staged)
    except OSError as error:
        raise _unwritable(directory, error) from error


def _unwritable(directory: Path, error: OSError) -> ExperimentError:
    return ExperimentError(f"cannot write results to {directory}: {one_line(error)}")
