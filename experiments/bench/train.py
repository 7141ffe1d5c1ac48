"""Whole training steps a second, with Adam: loss, gradient, update, apply.

Each contender passes over the same batches, which wait on the device, and carries its params and state on.
gradtx runs in `lax.scan` and in a Python loop of jitted steps; so does optax; PyTorch runs eagerly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.bench import problems
from experiments.bench.goals import at_least
from experiments.bench.optimizers import LIBRARIES, OPTIMIZERS, torch_comparable
from experiments.bench.report import Report, new_table, ratio_text
from experiments.bench.timing import Ratio, Run, Spread, interleave, paired

OPTIMIZER = OPTIMIZERS["adam"]
STEPS: Mapping[str, int] = {"softmax": 100, "mlp": 20}
GOAL = 1.3


@dataclass(frozen=True)
class Row:
    """One problem. Seconds a training step of each contender."""

    problem: str
    steps_a_pass: int
    times: Mapping[str, Spread]

    def gain(self, name: str) -> Ratio:
        """Steps a second of a contender, over those of the optax loop."""
        return paired(self.times["optax loop"], self.times[name])


def scan_run(label: str, problem: str, batches: problems.Batch) -> Run:
    """A pass over the batches is one call of a compiled `lax.scan`."""
    step, carry, tx = _parts(label, problem)
    scan = jax.jit(lambda carry, batches, *tx: jax.lax.scan(partial(step, *tx), carry, batches), donate_argnums=0)

    def run(passes: int) -> None:
        nonlocal carry
        losses = None
        for _ in range(passes):
            carry, losses = scan(carry, batches, *tx)
        jax.block_until_ready((carry, losses))

    return run


def loop_run(label: str, problem: str, batches: problems.Batch) -> Run:
    """A pass over the batches is a Python loop of compiled steps."""
    step, carry, tx = _parts(label, problem)
    jitted = jax.jit(lambda carry, batch, *tx: step(*tx, carry, batch), donate_argnums=0)
    separate = [jax.tree.map(lambda x, i=i: x[i], batches) for i in range(len(batches[0]))]

    def run(passes: int) -> None:
        nonlocal carry
        loss = None
        for _ in range(passes):
            for batch in separate:
                carry, loss = jitted(carry, batch, *tx)
        jax.block_until_ready((carry, loss))

    return run


def _parts(label: str, problem: str) -> tuple[Any, Any, tuple[Any, ...]]:
    """A step, its first carry, and its transformation where that is an argument (gradtx)."""
    library = LIBRARIES[label]
    tx = OPTIMIZER.build(library)
    params = problems.init(problem)
    step = partial(problems.train_step, library)
    if label == "gradtx":
        return step, (params, tx.init(params)), (tx,)
    return partial(step, tx), (params, tx.init(params)), ()


def torch_run(problem: str, batches: problems.Batch) -> Run:
    """PyTorch's eager loop."""
    import torch

    layers: list[torch.nn.Module] = []
    for layer in problems.init(problem):
        inputs, outputs = layer["w"].shape
        linear = torch.nn.Linear(inputs, outputs)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(np.asarray(layer["w"].T)))
            linear.bias.zero_()
        layers += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    images, labels = (torch.tensor(np.asarray(part)) for part in batches)
    separate = list(zip(images, labels.long(), strict=True))
    peer = OPTIMIZER.build_torch(model.parameters())

    def run(passes: int) -> None:
        for _ in range(passes):
            for image, label in separate:
                peer.zero_grad()
                torch.nn.functional.cross_entropy(model(image), label).backward()
                peer.step()

    return run


def measure(problem: str, *, steps: int, rounds: int, block_seconds: float) -> Row:
    """One problem, every contender in turns."""
    batches = problems.batches(steps)
    runs = {
        "gradtx scan": scan_run("gradtx", problem, batches),
        "gradtx loop": loop_run("gradtx", problem, batches),
        "optax scan": scan_run("optax", problem, batches),
        "optax loop": loop_run("optax", problem, batches),
    }
    if torch_comparable():
        runs["torch eager"] = torch_run(problem, batches)
    passes = interleave(runs, rounds=rounds, block_seconds=block_seconds)
    times = {name: Spread.of([sample / steps for sample in spread.samples]) for name, spread in passes.items()}
    return Row(problem, steps, times)


def train(console: Console, *, smoke: bool, rounds: int) -> Report:
    """Both problems."""
    rows: list[Row] = []
    for problem, steps in STEPS.items():
        with console.status(problems.TITLES[problem]):
            size = {"steps": 2, "block_seconds": 1e-3} if smoke else {"steps": steps, "block_seconds": 0.1}
            rows.append(measure(problem, rounds=rounds, **size))

    tables = []
    for row in rows:
        title = f"{problems.TITLES[row.problem]}, Adam, batch {problems.BATCH}"
        table = new_table(title, "", "steps a second", "(quartiles)", "over the optax loop")
        for name, time in row.times.items():
            speed = (f"{1 / value:,.0f}" for value in (time.upper_quartile, time.lower_quartile))
            table.add_row(name, f"{1 / time.median:,.0f}", "–".join(speed), ratio_text(row.gain(name)))
        tables.append(table)
    gains = {row.problem: row.gain("gradtx scan") for row in rows}
    goals = [at_least("gradtx scan, against the optax loop", GOAL, gains)]
    return Report("train", {"rounds": rounds}, rows, tables, goals)
