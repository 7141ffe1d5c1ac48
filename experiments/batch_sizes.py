"""Gradient descent with several batch sizes: each is tuned, followed along the way, and timed.

Softmax regression on MNIST. What is asked is an optimizer's question, so the learning rate is chosen by the loss.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key

import gradtx
from experiments import sweep as sweeps
from experiments.comparison import FINAL_SEEDS_FROM
from experiments.data import Dataset, Examples
from experiments.gradient_noise import gradient_variance
from experiments.methods import METHODS
from experiments.models import softmax_regression
from experiments.study import Context
from experiments.sweep import Sweep
from experiments.train import Order, Problem, Run, advance, begin, draw, evaluate, initial
from experiments.tuning import Grid, tune

MODEL = softmax_regression(28 * 28, 10)
GRADIENT_DESCENT = METHODS[0]
CHECKPOINTS = 10
"""An epoch, after which the loss on all training images is taken; one where an epoch is a single step."""
TIMED = 5
"""Epochs, of which the quickest counts."""
POINTS = ("at the start", "after training")
TRAINED_WITH = 100
"""The trained point is where the batch size ends that is nearest to this."""


@dataclass(frozen=True)
class Batching:
    """A tier.

    Attributes:
        sizes: Batch sizes. The first is 1, the last all images; each but the last goes into a checkpoint's span.
        noise_sizes: Batch sizes for which the gradient's variance is measured.
        draws: Mini-batches drawn for each variance, seed and point.
        train_size: Training images.
        tuning_seeds: How many; tuning takes as many epochs as the final runs.
    """

    sizes: tuple[int, ...]
    noise_sizes: tuple[int, ...]
    draws: int
    train_size: int
    epochs: int
    seeds: int
    tuning_seeds: int
    grid: Grid
    estimate: str = field(repr=False)
    scale: str = field(default="", repr=False)


def run(tier: Batching, context: Context) -> xr.Dataset:
    """The labelled results.

    Returns:
        `loss` (batch_size, seed, examples), on all training images, after so many examples; NaN where a batch size has
        no checkpoint. `test_accuracy` (batch_size, seed), `learning_rate`, `at_edge`, `example_seconds` (batch_size).
        `variance` (point, noise_size, seed), of mini-batch gradients, and `population_variance` (point, seed), of the
        gradients of single examples.
    """
    assert context.dataset is not None
    dataset = context.dataset.subset(tier.train_size)
    for cost in expected(tier).values():
        context.progress.expect(cost)
    finals = [_size(tier, context, dataset, size) for size in tier.sizes]
    trained = finals[tier.sizes.index(min(tier.sizes, key=lambda size: abs(size - TRAINED_WITH)))].parameters.values
    noise = context.part("noise", 1, lambda _: _noise(tier, dataset.train, trained))
    joined = xr.concat([final.drop_vars("parameters") for final in finals], "batch_size", join="outer")
    return xr.merge([joined.assign_coords(batch_size=list(tier.sizes)), noise], combine_attrs="drop")


def expected(tier: Batching) -> Mapping[str, float]:
    """The parts, and about how many examples each sees, in epochs."""
    costs: dict[str, float] = {}
    for size in tier.sizes:
        costs[_tuning_name(size, tier.grid.rates)] = float(len(tier.grid.rates) * tier.tuning_seeds * tier.epochs)
        costs[f"batch {size}/final"] = float(tier.seeds * tier.epochs)
    return costs | {"noise": 1.0}


def _tuning_name(size: int, rates: Sequence[float]) -> str:
    return f"batch {size}/tuning/{rates[0]:g}-{rates[-1]:g}"


def _size(tier: Batching, context: Context, dataset: Dataset, size: int) -> xr.Dataset:
    """Tune one batch size, and follow its final runs."""
    problem = Problem(MODEL, size, dataset.train, dataset.validation)

    def train(rates: Sequence[float]) -> xr.Dataset:
        one = Sweep(
            problem, GRADIENT_DESCENT, rates, range(tier.tuning_seeds), tier.epochs, "vmap", len(tier.grid.rates)
        )
        if list(rates) != tier.grid.rates:
            context.progress.expect(one.cost)
        curves = context.part(_tuning_name(size, rates), one.cost, lambda kept: sweeps.run(one, kept))
        return curves.assign(validation_accuracy=-curves.validation_loss)  # tuning takes the highest

    tuned = tune(tier.grid, train)
    rate = np.nan if tuned.chosen is None else tuned.chosen
    name = f"batch {size}/final"
    final = context.part(name, expected(tier)[name], lambda _: _follow(tier, dataset, size, rate))
    return final.assign(learning_rate=rate, at_edge=tuned.edge is not None)


def _follow(tier: Batching, dataset: Dataset, size: int, rate: float) -> xr.Dataset:
    """The final runs of a batch size: the loss on all training images along the way, and how long an example takes."""
    # What `advance` calls validation is all training images here, and what it calls an epoch is a checkpoint's span.
    problem = Problem(MODEL, size, dataset.train, dataset.train)
    spans = CHECKPOINTS if problem.steps % CHECKPOINTS == 0 else 1
    tx = GRADIENT_DESCENT.make(np.float32(0.0 if np.isnan(rate) else rate))
    keys = jax.vmap(sweeps.key_of)(jnp.arange(FINAL_SEEDS_FROM, FINAL_SEEDS_FROM + tier.seeds))
    start = jax.jit(jax.vmap(lambda key: begin(tx, initial(MODEL, key))))
    runs, losses = start(keys), []
    for epoch in range(tier.epochs):
        runs, loss = _advance(problem, tx, keys, runs, jnp.asarray(epoch), spans)
        losses.append(np.asarray(loss))
    accuracy = jax.jit(jax.vmap(lambda run: evaluate(MODEL, run.params, run.stats, dataset.test)[1]))(runs)
    flat = jax.vmap(lambda params: ravel_pytree(params)[0])(runs.params)
    loss = np.concatenate(losses, axis=1)
    missing = np.nan if np.isnan(rate) else 0.0
    return xr.Dataset(
        {
            "loss": (("seed", "examples"), loss + np.float32(missing)),
            "test_accuracy": ("seed", np.where(runs.diverged, np.nan, accuracy) + missing),
            "example_seconds": _example_seconds(problem, keys[0]),
            "parameters": (("seed", "parameter"), np.asarray(flat)),
        },
        coords={
            "seed": FINAL_SEEDS_FROM + np.arange(tier.seeds),
            "examples": np.arange(1, loss.shape[1] + 1) * (problem.steps * size // spans),
        },
    )


@partial(jax.jit, static_argnames="spans", donate_argnames="runs")
def _advance(
    problem: Problem,
    tx: gradtx.GradientTransformation,
    keys: Key[Array, " seeds"],
    runs: Run,
    epoch: Int[Array, ""],
    spans: int,
) -> tuple[Run, Float[Array, "seeds spans"]]:
    def of_seed(key: Key[Array, ""], run: Run) -> tuple[Run, Float[Array, " spans"]]:
        order = jax.tree.map(lambda part: part.reshape(spans, -1, *part.shape[2:]), draw(problem, key, epoch, 1))
        run, curves = advance(problem, tx, run, order, branch=False)
        return run, curves.validation_loss

    return jax.vmap(of_seed)(keys, runs)


def _example_seconds(problem: Problem, key: Key[Array, ""]) -> float:
    """Of training alone, one run after the other: the quickest of some epochs, without their evaluation."""
    one = Examples(*(part[:1] for part in problem.train))
    bare = Problem(problem.model, problem.batch_size, problem.train, one)
    tx = GRADIENT_DESCENT.make(np.float32(1e-3))
    order: Order = jax.jit(draw, static_argnames="epochs")(bare, key, jnp.asarray(0), epochs=1)
    run = begin(tx, initial(problem.model, key))
    train = jax.jit(advance)
    jax.block_until_ready(train(bare, tx, run, order))  # compiled
    took = []
    for _ in range(TIMED):
        begun = time.perf_counter()
        jax.block_until_ready(train(bare, tx, run, order))
        took.append(time.perf_counter() - begun)
    return min(took) / (problem.steps * problem.batch_size)


def _noise(tier: Batching, train: Examples, trained: np.ndarray) -> xr.Dataset:
    """The variance of gradients at fixed points, measured, and of single examples', over all of them."""
    seeds = jnp.arange(FINAL_SEEDS_FROM, FINAL_SEEDS_FROM + tier.seeds)
    keys = jax.vmap(sweeps.key_of)(seeds)
    like = MODEL.init(keys[0])
    fresh = jax.vmap(lambda key: ravel_pytree(initial(MODEL, key).params)[0])(keys)
    points = jnp.stack([fresh, jnp.asarray(trained)])
    unravel = ravel_pytree(like.params)[1]

    @jax.jit
    def measure(points: Float[Array, "points seeds n"], train: Examples) -> tuple[Array, Array]:
        def at(point: Float[Array, " n"], key: Key[Array, ""]) -> tuple[Array, Array]:
            return gradient_variance(
                MODEL, like._replace(params=unravel(point)), train, tier.noise_sizes, tier.draws, key
            )

        return jax.lax.map(lambda rows: jax.lax.map(lambda row: at(*row), (rows, keys)), points)

    measured, population = measure(points, train)
    return xr.Dataset(
        {
            "variance": (("point", "seed", "noise_size"), np.asarray(measured)),
            "population_variance": (("point", "seed"), np.asarray(population)),
        },
        coords={"point": list(POINTS), "seed": np.asarray(seeds), "noise_size": list(tier.noise_sizes)},
    )
