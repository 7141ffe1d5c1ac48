"""Trainings whose weights are kept: at the end of each seed, and at moments along the first one's way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

import gradtx
from experiments.checkpoint import Checkpoint, Paced
from experiments.lanes import SEED, Plan, fetch
from experiments.methods import Method
from experiments.models import Classifier, Variables
from experiments.sweep import SECONDS_BETWEEN_CHECKPOINTS, Seed, initials, key_of, orders
from experiments.train import Order, Problem, Run, advance, begin, initial

Flat = Float[np.ndarray, "... weights"]
"""Parameters and running statistics as one vector, in the order of `unravel`."""


class _Memory(NamedTuple):
    """All that has to be remembered; what a checkpoint holds.

    Attributes:
        runs: Of each seed, padding included.
        path: Weights of the first seed at each moment, its start included; NaN where it has not been yet.
    """

    runs: Run
    path: Float[np.ndarray, "moments weights"]


class _Kept(NamedTuple):
    weights: Float[Array, "*seeds moments weights"]
    loss: Float[Array, "*seeds moments"]
    accuracy: Float[Array, "*seeds moments"]


def train(
    problem: Problem,
    method: Method,
    rate: float,
    seeds: Sequence[int],
    epochs: int,
    moments: int,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> xr.Dataset:
    """Train each seed, or go on where the checkpoint is, and keep its weights.

    Args:
        problem: What to train on. Its validation examples are those of the surfaces.
        method: What to train with.
        rate: Learning rate.
        seeds: For each, the number that its random numbers are made of.
        epochs: How long.
        moments: An epoch, at which weights are kept; they divide its steps.
        checkpoint: Keeps the state; None keeps nothing.
        on_epoch: Called with the number of epochs done since the last call.

    Returns:
        `weights` (seed, weight), at the end; `path` (moment, weight) of the first seed, its start included; `loss` and
        `accuracy` (seed), at the end, on the validation examples with running statistics; `diverged` (seed).

    Raises:
        ValueError: `moments` does not divide the steps of an epoch.
    """
    if problem.steps % moments:
        raise ValueError(f"expected moments that divide the {problem.steps} steps of an epoch, got {moments}")
    plan = Plan.of("map", len(seeds), 1)
    padded, _ = plan.padded(np.asarray(seeds, np.uint32), np.ones(1, np.float32))
    tx, examples = method.make(np.float32(rate)), plan.put(problem)
    numbers, wanted = plan.put((padded, plan.wanted[:, 0]), SEED)
    first = start(problem.model, seeds[0])
    path = np.full((epochs * moments + 1, first.size), np.nan, np.float32)
    path[0] = first
    now, done = _Memory(_begin(plan, tx, wanted, initials(plan, problem.model, numbers)), path), 0
    keeper = Paced(checkpoint, SECONDS_BETWEEN_CHECKPOINTS)
    if (saved := keeper.load(now)) is not None:
        now, done = saved
        now = now._replace(runs=plan.put(now.runs, SEED))
        on_epoch(done)
    kept = None
    while done < epochs:
        order = orders(plan, examples, numbers, np.asarray(done, np.int32), 1)
        runs, kept = _advance(plan, examples, tx, now.runs, order, moments)
        now, kept = now._replace(runs=runs), jax.tree.map(lambda leaf: leaf[: len(seeds)], fetch(kept))
        now.path[done * moments + 1 :][:moments] = kept.weights[0]
        done += 1
        if keeper.is_due(done, epochs):
            keeper.save(now._replace(runs=fetch(runs)), done, epochs)
        on_epoch(1)
    assert kept is not None, "the last epoch is never in a checkpoint"
    return xr.Dataset(
        {
            "weights": (("seed", "weight"), kept.weights[:, -1]),
            "path": (("moment", "weight"), now.path),
            "loss": ("seed", kept.loss[:, -1]),
            "accuracy": ("seed", kept.accuracy[:, -1]),
            "diverged": ("seed", fetch(now.runs.diverged)[: len(seeds)]),
        },
        coords={"seed": np.asarray(seeds), "moment": np.arange(epochs * moments + 1) / moments},
    )


@partial(jax.jit, static_argnames="plan")
def _begin(plan: Plan, tx: gradtx.GradientTransformation, wanted: Bool[Array, " seeds"], variables: Variables) -> Run:
    def block(tx: gradtx.GradientTransformation, wanted: Bool[Array, " block"], variables: Variables) -> Run:
        # What is padding begins as diverged, and is never trained.
        return plan.each(lambda one, wanted: begin(tx, one)._replace(diverged=~wanted))(variables, wanted)

    return plan.spread(block, None, SEED, SEED, out=SEED)(tx, wanted, variables)


@partial(jax.jit, static_argnames=("plan", "moments"), donate_argnames="runs")
def _advance(
    plan: Plan, problem: Problem, tx: gradtx.GradientTransformation, runs: Run, order: Order, moments: int
) -> tuple[Run, _Kept]:
    """Train for the epoch in `order`."""

    def block(problem: Problem, tx: gradtx.GradientTransformation, runs: Run, order: Order) -> tuple[Run, _Kept]:
        def span(run: Run, order: Order) -> tuple[Run, _Kept]:
            run, curves = advance(problem, tx, run, order)
            point = Variables(tx.eval_params(run.params, run.state), run.stats)
            return run, _Kept(flat(point), curves.validation_loss[0], curves.validation_accuracy[0])

        def of_seed(run: Run, order: Order) -> tuple[Run, _Kept]:
            # What `advance` calls an epoch is the way to the next moment here.
            spans = jax.tree.map(lambda part: part.reshape(moments, 1, -1, *part.shape[2:]), order)
            return jax.lax.scan(span, run, spans)

        return plan.each(of_seed)(runs, order)

    return plan.spread(block, None, None, SEED, SEED, out=SEED)(problem, tx, runs, order)


def start(model: Classifier, seed: int) -> Flat:
    """Where the trainings of a seed begin."""
    return np.asarray(_start(model, jnp.asarray(seed, jnp.uint32)))


@partial(jax.jit, static_argnames="model")
def _start(model: Classifier, seed: Seed) -> Float[Array, " weights"]:
    return flat(initial(model, key_of(seed)))


def flat(variables: Variables) -> Float[Array, " weights"]:
    """As one vector."""
    return ravel_pytree(variables)[0]


def parameters(model: Classifier) -> int:
    """How many of the weights are parameters: the first; the others are running statistics."""
    like = jax.eval_shape(model.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(like.params))


def unravel(model: Classifier, weights: Flat) -> Variables:
    """From vectors, which may be stacked, to NumPy arrays of the model's structure."""
    like = jax.eval_shape(model.init, jax.random.key(0))
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])
    if weights.shape[-1] != ends[-1]:
        raise ValueError(f"expected vectors of {ends[-1]} weights for {model}, got {weights.shape[-1]}")
    parts = np.split(weights, ends[:-1], axis=-1)
    return structure.unflatten(
        [part.reshape(*weights.shape[:-1], *leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    )
