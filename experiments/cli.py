"""The command line: `list`, `run`, `status`, `report` and `bench`.

Imports that take seconds happen inside the commands, so that `--help` is quick.
What a person can mend (`ExperimentError`) is one line on stderr and exit code 2; Ctrl-C is exit code 130.
"""

from __future__ import annotations

import io
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from tyro.conf import Positional, PositionalRequiredArgs, arg

from experiments.errors import ExperimentError

RESULTS = Path("results")
FAILED, INTERRUPTED = 2, 130

Name = Annotated[str, arg(metavar="NAME")]
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]
Directory = Annotated[Path, arg(metavar="DIR")]


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    commands: dict[str, Callable[..., Any]] = {
        "list": list_,
        "run": run,
        "status": status,
        "report": report,
        "bench": bench,
    }
    if arguments and arguments[0] == "bench":
        from experiments.bench.command import bench as with_options

        commands["bench"] = with_options
    _quieten()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a sign that the terminal has not is no reason to stop
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="python -m experiments",
            description="Optimizers compared on real data, and gradtx measured beside other libraries.",
            args=list(arguments) or ["--help"],
            config=(PositionalRequiredArgs,),
        )
    except ExperimentError as error:
        _complain(str(error))
        return FAILED
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    return 0


def list_() -> None:
    """Show the studies: what they ask, on which data, and how long they take."""
    from experiments import commands

    commands.list_studies(_console())


def run(
    name: Name,
    tier: Annotated[str | None, arg(metavar="TIER")] = None,
    data_dir: Annotated[Path | None, arg(metavar="DIR")] = None,
    results: Directory = RESULTS,
    seeds: Annotated[int | None, arg(metavar="N")] = None,
    budget: Annotated[int | None, arg(metavar="N")] = None,
    augment: Switch = False,
    l2: Annotated[float, arg(metavar="X")] = 0.0,
    cosine: Switch = False,
    defaults: Switch = False,
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT")] = None,
    processes: Annotated[int | None, arg(metavar="N")] = None,
    process_id: Annotated[int | None, arg(metavar="I")] = None,
    cluster: Switch = False,
    dry_run: Switch = False,
    topology: Annotated[str | None, arg(metavar="NAME")] = None,
) -> None:
    """Run a study, or what is left of it: print tables and verdicts, write results and pictures.

    Args:
        name: A study (see `list`).
        tier: How much of it: `smoke` (a small subset, to see that it works), `cpu`, or `accelerator` (full size).
            Default: `cpu`; of a dry run `accelerator`.
        data_dir: Where TensorFlow Datasets keeps prepared data. Default: TFDS_DATA_DIR, else its own default.
        results: Where results go, as `<results>/<study>/<tier>/`.
        seeds: Seeds of the final runs, in place of the tier's own number.
        budget: Learning rates that every method tries, in place of the tier's own number; the grid keeps its centre.
        augment: Crop and flip training images at random (studies that train models).
        l2: Weight decay, as a penalty on the kernels' squares.
        cosine: Let the learning rate fall to 0 along a cosine.
        defaults: Also train each method at its default learning rate, where the tier does not.
        coordinator: Run in several processes: where process 0 listens. Start the same command once for each.
        processes: How many processes there are.
        process_id: Which this one is, from 0; process 0 prints and writes.
        cluster: Run in several processes, and ask the cluster's scheduler (Slurm, say) for these three.
        dry_run: Train nothing; compile the programs and tell memory, FLOPs and hours (studies that train over all
            devices together).
        topology: What a dry run compiles for, such as v5e:2x4. Default: the devices that are here.
    """
    if topology is not None:
        if not dry_run:
            raise ExperimentError(f"--topology {topology} is of a dry run: add --dry-run, or leave it out")
        os.environ["JAX_PLATFORMS"] = "cpu"  # the chips are only described; JAX must not look for them
    tier = tier or ("accelerator" if dry_run else "cpu")
    from experiments import devices

    devices.use_cores()
    is_quiet = False
    if cluster or any(given is not None for given in (coordinator, processes, process_id)):
        from experiments import distributed

        distributed.initialize(coordinator, processes, process_id)
        is_quiet = not distributed.is_first()
    from experiments import commands
    from experiments.changes import Changes

    changes = Changes(seeds, budget, augment, l2, cosine, defaults)
    if dry_run:
        commands.dry_run(_console(), name, tier, changes, topology)
        return
    command = shlex.join(["python", "-m", "experiments", "run", name, "--tier", tier, *changes.words()])
    commands.run_study(_console(is_quiet=is_quiet), name, tier, data_dir, results, changes, command)


def status(name: Positional[Annotated[str | None, arg(metavar="NAME")]] = None, results: Directory = RESULTS) -> None:
    """Show what is done, running and left, and the time to go.

    Args:
        name: A study. Default: all that were begun.
        results: Where results are.
    """
    from experiments import commands

    commands.show_status(_console(), name, results)


def report(name: Positional[Annotated[str | None, arg(metavar="NAME")]] = None, results: Directory = RESULTS) -> None:
    """Print stored results, draw their pictures anew, and write one site of them all.

    Args:
        name: A study. Default: all that have results.
        results: Where results are.
    """
    from experiments import commands

    commands.report_studies(_console(), name, results)


def bench(name: Name) -> None:
    """Measure gradtx beside optax, PyTorch and scipy: `step`, `sweep`, `train`, `eager`, `minimize` and others.

    Args:
        name: What to measure. `bench NAME --help` tells which there are, and shows the options.
    """
    # Stands in the list of commands; `main` puts the real one here when it is asked for.
    raise NotImplementedError(name)


def _quieten() -> None:
    """No hints from below about accelerators that are not used."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)


def _console(*, is_quiet: bool = False) -> Console:
    # Made when it is needed: it keeps the stream that stdout was at that time.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120, quiet=is_quiet)


def _complain(message: str) -> None:
    print(f"experiments: {message}", file=sys.stderr)
