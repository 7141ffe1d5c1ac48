"""Trainings whose weights are kept: at the end of each seed, and at moments along the first one's way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

import gradtx
from experiments.lanes import SEED, Plan, fetch
from experiments.methods import Method
from experiments.models import Classifier, Variables
from experiments.sweep import key_of
from experiments.train import Order, Problem, Run, advance, begin, draw, initial

Flat = Float[np.ndarray, "... weights"]
"""Parameters and running statistics as one vector, in the order of `unravel`."""


class _Kept(NamedTuple):
    weights: Float[Array, "moments weights"]
    loss: Float[Array, " moments"]
    accuracy: Float[Array, " moments"]


def train(problem: Problem, method: Method, rate: float, seeds: Sequence[int], epochs: int, moments: int) -> xr.Dataset:
    """Train each seed, and keep its weights.

    Args:
        problem: What to train on. Its validation examples are those of the surfaces.
        method: What to train with.
        rate: Learning rate.
        seeds: For each, the number that its random numbers are made of.
        epochs: How long.
        moments: An epoch, at which weights are kept; they divide its steps.

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
    tx = method.make(np.float32(rate))
    lanes = plan.put((padded, plan.wanted[:, 0]), SEED)
    diverged, kept = fetch(_train(plan, plan.put(problem), tx, *lanes, epochs, moments))
    count = len(seeds)
    return xr.Dataset(
        {
            "weights": (("seed", "weight"), kept.weights[:count, -1]),
            "path": (("moment", "weight"), np.concatenate([start(problem.model, seeds[0])[None], kept.weights[0]])),
            "loss": ("seed", kept.loss[:count, -1]),
            "accuracy": ("seed", kept.accuracy[:count, -1]),
            "diverged": ("seed", diverged[:count]),
        },
        coords={"seed": np.asarray(seeds), "moment": np.arange(epochs * moments + 1) / moments},
    )


@partial(jax.jit, static_argnames=("plan", "epochs", "moments"))
def _train(
    plan: Plan,
    problem: Problem,
    tx: gradtx.GradientTransformation,
    seeds: Int[Array, " seeds"],
    wanted: Bool[Array, " seeds"],
    epochs: int,
    moments: int,
) -> tuple[Bool[Array, " seeds"], _Kept]:
    def of_seed(
        problem: Problem, tx: gradtx.GradientTransformation, seed: Int[Array, ""], wanted: Bool[Array, ""]
    ) -> tuple[Bool[Array, ""], _Kept]:
        key = key_of(seed)
        whole = draw(problem, key, jnp.asarray(0), epochs)
        # What `advance` calls an epoch is the way to the next moment here.
        spans = jax.tree.map(lambda part: part.reshape(epochs * moments, 1, -1, *part.shape[2:]), whole)

        def span(run: Run, order: Order) -> tuple[Run, _Kept]:
            run, curves = advance(problem, tx, run, order)
            point = Variables(tx.eval_params(run.params, run.state), run.stats)
            return run, _Kept(flat(point), curves.validation_loss[0], curves.validation_accuracy[0])

        # What is padding begins as diverged, and is never trained.
        run = begin(tx, initial(problem.model, key))._replace(diverged=~wanted)
        run, kept = jax.lax.scan(span, run, spans)
        return run.diverged, kept

    def block(
        problem: Problem, tx: gradtx.GradientTransformation, seeds: Int[Array, " block"], wanted: Bool[Array, " block"]
    ) -> tuple[Bool[Array, " block"], _Kept]:
        return plan.each(partial(of_seed, problem, tx))(seeds, wanted)

    return plan.spread(block, None, None, SEED, SEED, out=SEED)(problem, tx, seeds, wanted)


def start(model: Classifier, seed: int) -> Flat:
    """Where the trainings of a seed begin."""
    return np.asarray(flat(initial(model, key_of(jnp.asarray(seed, jnp.uint32)))))


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
