"""All learning rates and seeds of a method in one compiled program, which can stop and go on.

A sweep is advanced in calls of a few epochs. Between two of them progress is shown and a checkpoint is kept.
The program is compiled once for a model and a kind of optimizer: rates and seeds are data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Int, Key

import gradtx
from experiments.checkpoint import Checkpoint, Paced
from experiments.data import Examples
from experiments.lanes import RATE, SEED, Mode, Plan, fetch
from experiments.methods import Method
from experiments.models import Classifier, Variables
from experiments.train import Curves, Order, Problem, Run, advance, begin, draw, evaluate, initial

LANES = (SEED, RATE)
ROOT_SEED = 20161207
CALLS = 10
"""Side by side, a sweep is advanced in about as many calls; one lane after the other, each call is one epoch."""
SECONDS_BETWEEN_CHECKPOINTS = 2.0
"""A checkpoint is not kept more often. What is lost at most: the running call, and the calls of so many seconds."""

Seed = Int[Array, ""]
Seeds = Int[Array, " seeds"]
Wanted = Bool[Array, "seeds rates"]


@dataclass(frozen=True)
class Sweep:
    """What to train: every rate with every seed.

    Attributes:
        problem: What to train on.
        method: What each lane trains with.
        rates: Learning rates.
        seeds: For each, the number that its random numbers are made of.
        epochs: How long.
        mode: How lanes share a device.
        width: Lanes of rates that its program has at least. What is too much is never trained: it begins as diverged.
        test: Read after the epochs in `tested_at`, and never to choose anything.
        devices: Where to train; none: on all there are.
    """

    problem: Problem
    method: Method
    rates: Sequence[float]
    seeds: Sequence[int]
    epochs: int
    mode: Mode
    width: int = 1
    test: Examples | None = None
    tested_at: Sequence[int] = ()
    devices: Sequence[Any] = ()

    @property
    def plan(self) -> Plan:
        """Where the lanes run."""
        return Plan.of(self.mode, len(self.seeds), len(self.rates), self.width, self.devices)

    @property
    def stride(self) -> int:
        """Epochs a call: all calls equal, so that one program does them all."""
        if self.mode == "map":
            return 1
        most = max(1, self.epochs // CALLS)
        ends = (self.epochs, *self.tested_at)
        return max(stride for stride in range(1, most + 1) if all(end % stride == 0 for end in ends))

    @property
    def cost(self) -> float:
        """Lanes times epochs."""
        return float(len(self.rates) * len(self.seeds) * self.epochs)


class Tests(NamedTuple):
    """What is measured after the epochs in `tested_at`: on the test split, and the loss on all training images."""

    test_loss: Float[Array, " tests"]
    test_accuracy: Float[Array, " tests"]
    full_train_loss: Float[Array, " tests"]


class Memory(NamedTuple):
    """All that a sweep has to remember; what a checkpoint holds. Figures are NaN where they are not known yet.

    Attributes:
        runs: Of all lanes side by side; where each runs over all devices, of the lane that is at work.
        seconds: Of training so far, compilation and tests included.
        fastest: Seconds of the fastest call, without tests.
    """

    runs: Run
    curves: Curves
    tests: Tests
    seconds: Float[np.ndarray, ""]
    fastest: Float[np.ndarray, ""]

    @classmethod
    def blank(cls, sweep: Sweep, runs: Run) -> Memory:
        """Before anything is trained."""
        return cls(runs, *unknown(sweep), np.zeros(()), np.full((), np.inf))


def run(
    sweep: Sweep, checkpoint: Checkpoint | None = None, on_epochs: Callable[[int], None] = lambda _: None
) -> xr.Dataset:
    """Train, or go on where the checkpoint is.

    Args:
        sweep: What to train.
        checkpoint: Keeps the state; None keeps nothing.
        on_epochs: Called with the number of epochs done since the last call.

    Returns:
        The curves (seed, learning_rate, epoch), the tests (seed, learning_rate, tested_epoch), and `diverged`
        (seed, learning_rate): a loss was not finite. Attributes: `seconds` of training, compilation included, and
        `epoch_seconds`, of one epoch of one lane in the fastest call.
    """
    plan, stride = sweep.plan, sweep.stride
    seeds, rates = plan.padded(np.asarray(sweep.seeds, np.uint32), np.asarray(sweep.rates, np.float32))
    txs = plan.put(sweep.method.lanes(rates, sweep.problem.steps * sweep.epochs), RATE)
    wanted = plan.put(plan.wanted, *LANES)
    seeds, problem = plan.put(seeds, SEED), plan.put(sweep.problem)
    runs = _begin(plan, txs, wanted, initials(plan, sweep.problem.model, seeds))
    now, done = Memory.blank(sweep, runs), 0
    keeper = Paced(checkpoint, SECONDS_BETWEEN_CHECKPOINTS)
    if (saved := keeper.load(now)) is not None:
        now, done = saved
        now = now._replace(runs=plan.put(now.runs, *LANES))
        on_epochs(done)
    while done < sweep.epochs:
        start = time.perf_counter()
        order = orders(plan, problem, seeds, np.asarray(done, np.int32), stride)
        runs, curves = _advance(plan, problem, txs, now.runs, order)
        fill(now.curves, np.s_[..., done : done + stride], plan.cropped(fetch(curves)))
        fastest = np.minimum(now.fastest, time.perf_counter() - start)
        done += stride
        if sweep.test is not None and done in sweep.tested_at:
            measured = _measure(plan, problem, plan.put(sweep.test), txs, runs)
            fill(now.tests, np.s_[..., list(sweep.tested_at).index(done)], plan.cropped(fetch(measured)))
        now = now._replace(runs=runs, seconds=now.seconds + (time.perf_counter() - start), fastest=fastest)
        if keeper.is_due(done, sweep.epochs):
            keeper.save(now._replace(runs=fetch(runs)), done, sweep.epochs)
        on_epochs(stride)
    lane_seconds = float(now.fastest) / (plan.rates * plan.seeds * stride)
    return label(sweep, now.curves, now.tests, seconds=float(now.seconds), epoch_seconds=lane_seconds)


def untrained(sweep: Sweep) -> xr.Dataset:
    """What `run` returns, of lanes that cannot be trained: NaN, and diverged."""
    curves, tests = unknown(sweep)
    return label(sweep, curves, tests, seconds=0.0, epoch_seconds=float("nan"))


def unknown(sweep: Sweep) -> tuple[Curves, Tests]:
    """Curves and tests of all lanes, to be filled in: NaN so far."""
    lanes = (len(sweep.seeds), len(sweep.rates))

    def nan(length: int) -> Any:
        return np.full((*lanes, length), np.nan, np.float32)

    return Curves(*[nan(sweep.epochs) for _ in Curves._fields]), Tests(
        *[nan(len(sweep.tested_at)) for _ in Tests._fields]
    )


def fill(whole: Curves | Tests, where: Any, part: Curves | Tests) -> None:
    """Put what was found into the figures of all lanes."""
    for into, found in zip(whole, part, strict=True):
        into[where] = found


# What depends on seeds alone is apart from what depends on the method: it is compiled once for all methods.


@partial(jax.jit, static_argnames=("plan", "model"))
def initials(plan: Plan, model: Classifier, seeds: Seeds) -> Variables:
    """Where each seed starts."""
    return plan.spread(plan.each(lambda seed: initial(model, key_of(seed))), SEED, out=SEED)(seeds)


@partial(jax.jit, static_argnames=("plan", "epochs"))
def orders(plan: Plan, problem: Problem, seeds: Seeds, first_epoch: Int[Array, ""], epochs: int) -> Order:
    """What each seed draws for these epochs."""

    def block(problem: Problem, seeds: Seeds, first_epoch: Int[Array, ""]) -> Order:
        return jax.vmap(lambda seed: draw(problem, key_of(seed), first_epoch, epochs))(seeds)

    return plan.spread(block, None, SEED, None, out=SEED)(problem, seeds, first_epoch)


@partial(jax.jit, static_argnames="plan")
def _begin(plan: Plan, txs: gradtx.GradientTransformation, wanted: Wanted, variables: Variables) -> Run:
    def block(txs: gradtx.GradientTransformation, wanted: Wanted, variables: Variables) -> Run:
        def of_seed(wanted: Bool[Array, " rates"], variables: Variables) -> Run:
            return plan.each(lambda tx, wanted: begin(tx, variables)._replace(diverged=~wanted))(txs, wanted)

        return plan.each(of_seed)(wanted, variables)

    return plan.spread(block, RATE, LANES, SEED)(txs, wanted, variables)


@partial(jax.jit, static_argnames="plan", donate_argnames="runs")
def _advance(
    plan: Plan, problem: Problem, txs: gradtx.GradientTransformation, runs: Run, order: Order
) -> tuple[Run, Curves]:
    def block(problem: Problem, txs: gradtx.GradientTransformation, runs: Run, order: Order) -> tuple[Run, Curves]:
        def of_seed(runs: Run, order: Order) -> tuple[Run, Curves]:
            # The rates of a seed share its batches: `order` is not an argument of the inner map.
            train = partial(advance, problem, order=order, branch=plan.mode == "map")
            return plan.each(lambda tx, run: train(tx, run))(txs, runs)

        return plan.each(of_seed)(runs, order)

    return plan.spread(block, None, RATE, LANES, SEED)(problem, txs, runs, order)


@partial(jax.jit, static_argnames="plan")
def _measure(plan: Plan, problem: Problem, test: Examples, txs: gradtx.GradientTransformation, runs: Run) -> Tests:
    def block(problem: Problem, test: Examples, txs: gradtx.GradientTransformation, runs: Run) -> Tests:
        return plan.each(lambda runs: plan.each(partial(measure, problem, test))(txs, runs))(runs)

    return plan.spread(block, None, None, RATE, LANES)(problem, test, txs, runs)


def measure(problem: Problem, test: Examples, tx: gradtx.GradientTransformation, run: Run) -> Tests:
    """The figures of one lane; NaN where it has diverged."""
    point = tx.eval_params(run.params, run.state)
    train_loss, _ = evaluate(problem.model, point, run.stats, problem.train, share=problem.share)
    loss, accuracy = evaluate(problem.model, point, run.stats, test, share=problem.share)
    return Tests(*(jnp.where(run.diverged, jnp.nan, value) for value in (loss, accuracy, train_loss)))


def key_of(seed: Seed) -> Key[Array, ""]:
    """What all random numbers of a seed are made of, in every study."""
    return jax.random.fold_in(jax.random.key(ROOT_SEED), seed)


def label(sweep: Sweep, curves: Curves, tests: Tests, **told: float) -> xr.Dataset:
    """What `run` returns; `told` are its attributes."""
    finite = np.isfinite(curves.train_loss) & np.isfinite(curves.validation_loss)
    return xr.Dataset(
        {name: ((*LANES, "epoch"), values) for name, values in curves._asdict().items()}
        | {name: ((*LANES, "tested_epoch"), values) for name, values in tests._asdict().items()}
        | {"diverged": (LANES, ~finite.all(axis=-1))},
        coords={
            SEED: np.asarray(sweep.seeds),
            RATE: np.asarray(sweep.rates, np.float64),
            "epoch": np.arange(1, sweep.epochs + 1),
            "tested_epoch": np.asarray(sweep.tested_at, np.int64),
        },
        attrs=told,
    )
