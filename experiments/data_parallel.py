"""One training over all devices of all processes: each computes its share of every batch.

The training is that of `experiments.train`. What is added is where its arrays are: parameters, optimizer state and data
are whole on each device, and the examples of a batch are dealt out. The compiler puts in the sums over devices, those
of batch normalisation too: the statistics are of the whole batch. So the numbers are those of one device, up to
rounding, and a run may go on with another number of devices.

A sweep's lanes run one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

import gradtx
from experiments import train
from experiments.checkpoint import Paced
from experiments.data import Examples
from experiments.errors import ExperimentError
from experiments.lanes import place
from experiments.models import Classifier
from experiments.sharded import ShardedCheckpoint
from experiments.sweep import Memory, Seed, Sweep, fill, key_of, label, measure
from experiments.train import Curves, Problem, Run

BATCH = "batch"
SECONDS_BETWEEN_CHECKPOINTS = 60.0
"""What a run that is killed loses at most, beside the running epoch."""


@dataclass(frozen=True)
class Deal:
    """Deals examples out over the devices of a mesh, as a value: two that are equal share compiled programs."""

    mesh: Mesh

    def __call__(self, examples: Examples) -> Examples:
        """The same examples; a number that cannot be divided stays where it is."""
        if len(examples.labels) % self.mesh.size:
            return examples
        return jax.lax.with_sharding_constraint(examples, NamedSharding(self.mesh, PartitionSpec(BATCH)))


def over(devices: Sequence[Any], batch_size: int) -> Mesh:
    """The devices, in a row.

    Raises:
        ExperimentError: They cannot have equal shares of a batch.
    """
    if batch_size % len(devices):
        raise ExperimentError(
            f"a batch of {batch_size} cannot be dealt out over {len(devices)} devices; use a number that divides it"
        )
    return Mesh(np.asarray(devices), (BATCH,))


def plan(sweep: Sweep) -> str:
    """Where the lanes run, in words."""
    count = len(sweep.devices or jax.devices())
    share = sweep.problem.batch_size // count
    lanes = f"{len(sweep.seeds)} x {len(sweep.rates)} lanes (seeds x learning rates), one after the other"
    return f"{lanes}, each over {count} devices with {share} examples of a batch each"


def run(
    sweep: Sweep, checkpoint: ShardedCheckpoint | None = None, on_epochs: Callable[[float], None] = lambda _: None
) -> xr.Dataset:
    """Train, or go on where the checkpoint is. Arguments and result are those of `experiments.sweep.run`."""
    mesh = over(sweep.devices or jax.devices(), sweep.problem.batch_size)
    put = partial(place, sharding=NamedSharding(mesh, PartitionSpec()))
    problem = put(replace(sweep.problem, share=Deal(mesh)))
    test = put(sweep.test)
    many = sweep.method.lanes(np.asarray(sweep.rates, np.float32), problem.steps * sweep.epochs)
    txs = [put(jax.tree.map(lambda leaf, lane=lane: leaf[lane], many)) for lane in range(len(sweep.rates))]
    seeds = [put(np.uint32(seed)) for seed in sweep.seeds]
    lanes = len(seeds) * len(txs)
    total, done = lanes * sweep.epochs, 0
    now = Memory.blank(sweep, begin(mesh, problem.model, txs[0], seeds[0]))
    keeper = Paced(checkpoint, SECONDS_BETWEEN_CHECKPOINTS)
    if (saved := keeper.load(now)) is not None:
        now, done = saved
        on_epochs(done / lanes)
    while done < total:
        start = time.perf_counter()
        (seed, rate), epoch = divmod(done // sweep.epochs, len(txs)), done % sweep.epochs
        tx = txs[rate]
        before = now.runs if epoch else begin(mesh, problem.model, tx, seeds[seed])
        after, curves = advance(mesh, problem, tx, before, seeds[seed], np.int32(epoch))
        fill(now.curves, (seed, rate, epoch), jax.device_get(curves))
        fastest = np.minimum(now.fastest, time.perf_counter() - start)
        if test is not None and epoch + 1 in sweep.tested_at:
            measured = jax.device_get(_measure(problem, test, tx, after))
            fill(now.tests, (seed, rate, list(sweep.tested_at).index(epoch + 1)), measured)
        done += 1
        now = now._replace(runs=after, seconds=now.seconds + (time.perf_counter() - start), fastest=fastest)
        if keeper.is_due(done, total):
            keeper.save(now, done, total)
        on_epochs(1 / lanes)
    return label(sweep, now.curves, now.tests, seconds=float(now.seconds), epoch_seconds=float(now.fastest))


@partial(jax.jit, static_argnames=("mesh", "model"))
def begin(mesh: Mesh, model: Classifier, tx: gradtx.GradientTransformation, seed: Seed) -> Run:
    """The run before its first epoch, whole on each device."""
    return _whole(mesh, train.begin(tx, train.initial(model, key_of(seed))))


@partial(jax.jit, static_argnames="mesh", donate_argnames="run")
def advance(
    mesh: Mesh,
    problem: Problem,
    tx: gradtx.GradientTransformation,
    run: Run,
    seed: Seed,
    epoch: Int[Array, ""],
) -> tuple[Run, Curves]:
    """Train for one epoch; `epoch` is its number, from 0."""
    run, curves = train.advance(problem, tx, run, train.draw(problem, key_of(seed), jnp.asarray(epoch), 1))
    return _whole(mesh, (run, jax.tree.map(lambda values: values[0], curves)))


_measure = jax.jit(measure)


def _whole(mesh: Mesh, tree: Any) -> Any:
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))
