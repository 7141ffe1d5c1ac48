"""The command `python -m experiments bench`: measure, print, save."""

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

from rich.console import Console

from experiments import atomic, compilation, devices
from experiments.bench import (
    codec,
    eager,
    learned,
    memory,
    minimize,
    report,
    second_order,
    sharded,
    step_report,
    sweep,
    train,
    wrappers,
)
from experiments.bench.step import Plan
from experiments.errors import ExperimentError, one_line

WIDTH = 110  # of a table, where no terminal sets one
RESULTS = Path("results", "bench")
FREE_BYTES = 10_000_000  # far more than any report
ROUNDS: Mapping[str, int] = {
    "step": 21, "sweep": 7, "train": 15, "eager": 21, "minimize": 7, "second-order": 21, "learned": 21,
    "wrappers": 9, "memory": 1, "codec": 1, "sharded": 1,
}  # fmt: skip
SMOKE_ROUNDS = 2
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "step": ("tree", "optimizer"),
    "eager": ("optimizer",),
    "minimize": ("only", "method"),
    "wrappers": ("only", "tree"),
    "codec": ("only",),
    "sharded": ("topology",),
}
"""Which lists are for which bench."""

Tree = Literal["leaf", "gpt2", "leaves"]
Optimizer = Literal["sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamw"]


def bench(
    name: str,
    *,
    json: Path | None = None,
    smoke: bool = False,
    tree: tuple[Tree, ...] = get_args(Tree),
    optimizer: tuple[Optimizer, ...] = get_args(Optimizer),
    only: tuple[str, ...] = (),
    method: tuple[minimize.Method, ...] = get_args(minimize.Method),
    rounds: int | None = None,
    topology: str | None = None,
) -> None:
    """Measure gradtx beside optax, PyTorch and scipy, in turns in one process.

    Args:
        name: `step`: one optimizer step and its compilation. `sweep`: 16 learning rates. `train`: training
            steps a second. `eager`: an update without jit. `minimize`: L-BFGS to convergence on 59 problems.
            `second-order`: a step of each second-order method. `learned`: a step of the learned optimizers.
            `wrappers`: a step of Adam in each wrapper. `memory`: bytes of state in each precision. `codec`:
            training with the state in 8 bits. `sharded`: what eight devices hold and send, with and without `zero`.
        json: Where to write the results. By default, `results/bench/<name>.json`.
        smoke: Tiny sizes, to see that it runs. The numbers mean nothing.
        tree: Which trees, for `step` and `wrappers` (which has no `leaf`).
        optimizer: Which optimizers, for `step` and `eager`.
        only: Which problems, for `minimize`, without times, which wrappers, and which networks for `codec`.
            By default, all.
        method: Which methods, for `minimize`; where not all, without times.
        rounds: How many times each contender is timed.
        topology: A TPU topology such as v5e:2x4 to compile for, for `sharded`. By default, the devices here.
    """
    if name not in ROUNDS:
        raise ExperimentError(f"unknown benchmark {name!r}; there are {', '.join(ROUNDS)}")
    if rounds is not None and rounds < 1:
        raise ExperimentError(f"--rounds is {rounds}: it takes at least 1 round to measure anything")
    if not tree or not optimizer or not method:
        raise ExperimentError("--tree, --optimizer and --method take at least one name each")
    path = json or RESULTS / f"{name}{'-smoke' if smoke else ''}.json"
    if path.is_dir():
        raise ExperimentError(f"cannot write {path}: it is a directory")
    with _writing(path):
        atomic.check_writable(path.parent, free_bytes=FREE_BYTES)

    count = rounds or (SMOKE_ROUNDS if smoke else ROUNDS[name])
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    match name:
        case "step":
            plan = Plan(tree, optimizer, count)
            result = step_report.step(console, plan.smaller() if smoke else plan, smoke=smoke)
        case "eager":
            result = eager.eager(console, smoke=smoke, rounds=count, optimizers=optimizer)
        case "sweep":
            devices.use_cores()
            result = sweep.sweep(console, smoke=smoke, rounds=count)
        case "train":
            result = train.train(console, smoke=smoke, rounds=count)
        case "minimize":
            compilation.keep_programs()
            result = minimize.minimize(console, smoke=smoke, rounds=count, only=only, methods=method)
        case "second-order":
            result = second_order.second_order(console, smoke=smoke, rounds=count)
        case "wrappers":
            result = wrappers.bench(console, smoke=smoke, rounds=count, only=only, names_of_trees=tree)
        case "memory":
            result = memory.memory(console, smoke=smoke)
        case "codec":
            result = codec.codec(console, smoke=smoke, only=only)
        case "sharded":
            devices.use(sharded.DEVICES)
            result = sharded.sharded(console, smoke=smoke, topology=topology)
        case _:  # "learned"
            result = learned.learned(console, smoke=smoke, rounds=count)
    if smoke:
        result.notes.append("Smoke sizes: the numbers mean nothing.")
    report.show(result, console)
    with _writing(path):
        lists = {"tree": tree, "optimizer": optimizer, "only": only, "method": method}
        lists["topology"] = (topology,) if topology else ()
        report.save(result, path, _command(name, smoke, count, lists))
    console.print(f"Written to {path}")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExperimentError(f"cannot write {path}: {one_line(error)}") from error


def _command(name: str, smoke: bool, rounds: int, lists: Mapping[str, tuple[str, ...]]) -> str:
    """The command that measures the same again."""
    words = ["python", "-m", "experiments", "bench", name, "--rounds", str(rounds), *(["--smoke"] if smoke else [])]
    for option in OPTIONS.get(name, ()):
        words += [f"--{option}", *lists[option]] if lists[option] else []
    return shlex.join(words)
