"""Whole training steps a second, with Adam: draw a batch, loss, gradient, update, apply.

Each contender passes over the same images in a new order each time, and carries its params and state on. In
`lax.scan` the order is drawn and the batches are gathered in the compiled program, from images on the device. A Python
loop of jitted steps gathers them in NumPy, as data loaders do. PyTorch runs eagerly and gathers from its own tensors.
A loop over batches that wait on the device, in one order, shows what of the gain is the drawing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.bench import problems
from experiments.bench.goals import at_least
from experiments.bench.optimizers import LIBRARIES, OPTIMIZERS, load_torch, torch_comparable
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


def scan_run(label: str, problem: str, data: problems.Batch) -> Run:
    """A pass is one call of a compiled `lax.scan`, which draws the order too."""
    step, carry, tx = _parts(label, problem)

    def one_pass(carry: Any, key: jax.Array, data: problems.Batch, *tx: Any) -> Any:
        def body(carry: Any, indices: jax.Array) -> Any:
            return step(*tx, carry, jax.tree.map(lambda x: x[indices], data))

        order = jax.random.permutation(key, len(data[0])).reshape(-1, problems.BATCH)
        return jax.lax.scan(body, carry, order)

    scan, key = jax.jit(one_pass, donate_argnums=0), jax.random.key(2)

    def run(passes: int) -> None:
        nonlocal carry, key
        losses = None
        for _ in range(passes):
            key, order_key = jax.random.split(key)
            carry, losses = scan(carry, order_key, data, *tx)
        jax.block_until_ready((carry, losses))

    return run


def loop_run(label: str, problem: str, batches: Callable[[], Iterable[Any]]) -> Run:
    """A pass is a Python loop of compiled steps over `batches()`."""
    step, carry, tx = _parts(label, problem)
    jitted = jax.jit(lambda carry, batch, *tx: step(*tx, carry, batch), donate_argnums=0)

    def run(passes: int) -> None:
        nonlocal carry
        loss = None
        for _ in range(passes):
            for batch in batches():
                carry, loss = jitted(carry, batch, *tx)
        jax.block_until_ready((carry, loss))

    return run


def shuffled(data: tuple[np.ndarray, np.ndarray]) -> Callable[[], Iterable[Any]]:
    """Batches gathered in NumPy, in a new order for each pass."""
    generator = np.random.default_rng(2)

    def batches() -> Iterator[Any]:
        for indices in generator.permutation(len(data[0])).reshape(-1, problems.BATCH):
            yield data[0][indices], data[1][indices]

    return batches


def _parts(label: str, problem: str) -> tuple[Any, Any, tuple[Any, ...]]:
    """A step, its first carry, and its transformation where that is an argument (gradtx)."""
    library = LIBRARIES[label]
    tx = OPTIMIZER.build(library)
    params = problems.init(problem)
    step = partial(problems.train_step, library)
    if label == "gradtx":
        return step, (params, tx.init(params)), (tx,)
    return partial(step, tx), (params, tx.init(params)), ()


def torch_run(problem: str, data: problems.Batch) -> Run:
    """PyTorch's eager loop."""
    torch = load_torch()
    layers: list[Any] = []
    for layer in problems.init(problem):
        inputs, outputs = layer["w"].shape
        linear = torch.nn.Linear(inputs, outputs)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(np.asarray(layer["w"].T)))
            linear.bias.zero_()
        layers += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    images, labels = (torch.tensor(np.asarray(part)) for part in data)
    labels = labels.long()
    peer = OPTIMIZER.build_torch(model.parameters())

    def run(passes: int) -> None:
        for _ in range(passes):
            for indices in torch.randperm(len(images)).split(problems.BATCH):
                peer.zero_grad()
                torch.nn.functional.cross_entropy(model(images[indices]), labels[indices]).backward()
                peer.step()

    return run


def measure(problem: str, *, steps: int, rounds: int, block_seconds: float) -> Row:
    """One problem, every contender in turns."""
    stacked = problems.batches(steps)
    waiting = [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(steps)]
    data = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), stacked)
    on_host = (np.asarray(data[0]), np.asarray(data[1]))
    runs = {
        "gradtx scan": scan_run("gradtx", problem, data),
        "gradtx loop": loop_run("gradtx", problem, shuffled(on_host)),
        "optax scan": scan_run("optax", problem, data),
        "optax loop": loop_run("optax", problem, shuffled(on_host)),
        "optax loop, no drawing": loop_run("optax", problem, lambda: waiting),
    }
    if torch_comparable():
        runs["torch eager"] = torch_run(problem, data)
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
