"""What a training over all devices would take, from its programs as compiled for them: nothing is run.

The compiler says what an epoch's program needs of memory and how many FLOPs it has. It counts the body of a loop once:
one step and one evaluated chunk. The chunk is compiled by itself too, and what is left is the step. Hours follow from
the chip's peak and an assumed part of it that is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from experiments import comparison, data_parallel, train
from experiments.chips import Topology
from experiments.comparison import Training
from experiments.data import Examples
from experiments.data_parallel import Deal
from experiments.models import Classifier
from experiments.study import Table
from experiments.sweep import key_of
from experiments.train import Problem, Run

UTILISATION = 0.05
"""Of the peak, assumed. Large matrix products reach half of it; 16 to 64 channels fill a small part of a matrix unit,
which is 128 or 256 wide."""
BACKWARD = 2
"""FLOPs of the gradients, as a multiple of the forward pass's: for a CPU, whose step has further loops inside."""

SHAPE = (32, 32, 3)
TRAIN, VALIDATION = 45_000, 5_000
"""Images of CIFAR-10, and their shape: a dry run reads no data."""


@dataclass(frozen=True)
class Cost:
    """Of one network.

    Attributes:
        parameters: Numbers that are trained.
        memory: Bytes on each device: what goes in, comes out and lies between, and the code.
        epoch: FLOPs of an epoch, of all devices together: its steps, and the evaluation of the validation images.
        epochs: Of all that the tier trains with it.
    """

    model: str
    parameters: int
    memory: float
    epoch: float
    epochs: float

    def hours(self, topology: Topology, epochs: float) -> float:
        """At the assumed part of the peak; NaN where the chip is not known."""
        if topology.chip is None:
            return float("nan")
        return epochs * self.epoch / (topology.chips * topology.chip.peak * UTILISATION) / 3600


def cost(name: str, trainings: Sequence[Training], topology: Topology) -> Cost:
    """Of one of the networks, trained by the first method."""
    epochs = sum(
        cost for one in trainings for part, cost in comparison.expected(one).items() if part.startswith(f"{name}/")
    )
    return _cost(name, trainings[0].models[name], trainings[0], topology, epochs)


def table(found: Sequence[Cost], epochs: int, topology: Topology) -> Table:
    """A row a network."""
    rows = [
        (
            one.model,
            f"{one.parameters:,}",
            f"{one.memory / 1e6:,.0f} MB",
            f"{one.epoch / 1e12:.1f}",
            _hours(one.hours(topology, epochs)),
            f"{one.epochs:,.0f}",
            _hours(one.hours(topology, one.epochs)),
        )
        for one in found
    ]
    columns = (
        "network", "parameters", "memory a device", "TFLOPs an epoch", f"hours, {epochs} epochs", "epochs in all",
        "hours in all",
    )  # fmt: skip
    count = f"{len(topology.devices)} devices ({topology.chips} chips, {topology.kind})"
    if topology.chip is None:
        time = f"No hours: the peak of {topology.kind!r} is not known here; name a TPU by --topology."
    else:
        time = (
            f"Hours: FLOPs over {UTILISATION:.0%} of the peak, which is assumed and not measured; the peak is "
            f"{topology.chip.peak / 1e12:g} TFLOP/s a chip in bfloat16 (Cloud TPU's documentation, which gives it "
            f"{topology.chip.memory / 1e9:g} GB of memory)."
        )
    if topology.is_cpu:
        time += (
            " An estimate: it is the program of a CPU, whose memory is laid out otherwise than a TPU's, and FLOPs are "
            f"those of the forward pass, {1 + BACKWARD} times for training."
        )
    note = (
        f"Compiled for {count}. Compiler's figures, not measurements. Memory: arguments, results and temporaries "
        f"of an epoch's program, the data among them. FLOPs: of training and of validation, over all devices. {time} "
        "Epochs in all: of everything that the tier trains, without grids that are extended."
    )
    return Table(f"Dry run on {topology.name}", columns, rows, note)


def _cost(name: str, model: Classifier, training: Training, topology: Topology, epochs: float) -> Cost:
    mesh = data_parallel.over(topology.devices, training.batch_size)
    train_size = training.train_size or TRAIN
    validation = VALIDATION if training.train_size is None else training.train_size // 4
    problem = Problem(
        model, training.batch_size, _examples(train_size), _examples(validation), training.augment, Deal(mesh)
    )
    method = training.methods[0]
    tx = jax.tree.map(lambda leaf: leaf[0], method.lanes(np.ones(1, np.float32), problem.steps * training.epochs))
    whole = NamedSharding(mesh, PartitionSpec())

    def structs(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), tree)

    seed = jax.ShapeDtypeStruct((), np.uint32)
    run = jax.eval_shape(lambda seed: train.begin(tx, train.initial(model, key_of(seed))), seed)
    problem, tx, run, seed = map(structs, (problem, tx, run, seed))

    def evaluate(run: Run, examples: Examples) -> Any:
        return train.evaluate(model, run.params, run.stats, examples, share=problem.share)

    size = train.chunk_size(validation)
    chunk = _flops(jax.jit(evaluate).lower(run, structs(_examples(size))).compile(), topology)
    number = structs(jax.ShapeDtypeStruct((), np.int32))
    epoch = data_parallel.advance.lower(mesh, problem, tx, run, seed, number).compile()
    by_rule = (1 + BACKWARD) * chunk * training.batch_size / size
    step = by_rule if topology.is_cpu else _flops(epoch, topology) - chunk
    return Cost(
        name,
        sum(leaf.size for leaf in jax.tree.leaves(run.params)),
        _memory(epoch),
        problem.steps * step + validation // size * chunk,
        epochs,
    )


def _flops(compiled: Any, topology: Topology) -> float:
    """Of all devices together; a body of a loop counts once."""
    return float(compiled.cost_analysis()["flops"]) * len(topology.devices)


def _examples(count: int) -> Examples:
    return Examples(
        jax.ShapeDtypeStruct((count, *SHAPE), np.float32),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((count,), np.int32),  # type: ignore[arg-type]
    )


def _memory(compiled: Any) -> float:
    told = compiled.memory_analysis()
    return float(
        told.argument_size_in_bytes
        + told.output_size_in_bytes
        - told.alias_size_in_bytes
        + told.temp_size_in_bytes
        + told.generated_code_size_in_bytes
    )


def _hours(hours: float) -> str:
    return f"{hours:.2g}" if np.isfinite(hours) else "–"
