"""All learning rates and seeds of an optimizer in one compiled program.

Seeds are the outer `vmap` and learning rates the inner one: the rates of one seed then share their batches,
and the products of one batch with all their first-layer weights become one large matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int, Key

import gradtx
from experiments.data import Examples
from experiments.models import Classifier, Params
from experiments.train import Curves, Problem, Run, advance, batches, begin, evaluate, initial_params

LANES = ("seed", "learning_rate")
CALLS = 10
"""A sweep is advanced in about as many calls, between which progress can be shown."""


@dataclass(frozen=True)
class Sweep:
    """Trained lanes.

    Attributes:
        curves: Dims (seed, learning_rate, epoch), and `diverged` (seed, learning_rate): a loss was not finite.
        params: Where to evaluate. Leaves lead with the axes (seed, learning_rate).
    """

    curves: xr.Dataset
    params: Params

    def at(self, learning_rate: float) -> Params:
        """The parameters trained with one rate; leaves lead with the axis seed."""
        index = self.curves.indexes["learning_rate"].get_loc(learning_rate)
        return jax.tree.map(lambda leaf: leaf[:, index], self.params)


def sweep(
    problem: Problem,
    tx: gradtx.GradientTransformation,
    rates: Sequence[float],
    keys: Key[Array, " seeds"],
    epochs: int,
    on_epochs: Callable[[int], None] = lambda _: None,
) -> Sweep:
    """Train every rate with every key.

    Args:
        problem: What to train on.
        tx: What each lane trains with, but for its learning rate.
        rates: Learning rates.
        keys: One for each seed.
        epochs: How long.
        on_epochs: Called from time to time with the number of epochs done since the last call.
    """
    txs = tx.replace(learning_rate=np.asarray(rates, np.float32))
    runs = _begin(txs, _initial_params(problem, keys))
    stride, parts = stride_of(epochs), []
    for first in range(0, epochs, stride):
        order = _batches(problem, keys, jnp.asarray(first), stride)
        runs, curves = _advance(problem, txs, runs, order)
        parts.append(jax.device_get(curves))
        on_epochs(stride)
    return Sweep(_label(parts, rates), _eval_params(txs, runs))


def stride_of(epochs: int) -> int:
    """Epochs a call: all calls equal, so that one program does them all, and at least `CALLS` where that can be."""
    most = max(1, epochs // CALLS)
    return max(stride for stride in range(1, most + 1) if epochs % stride == 0)


@partial(jax.jit, static_argnames="model")
def test_accuracy(model: Classifier, params: Params, test: Examples) -> Float[Array, " seeds"]:
    """The accuracy on the test split of each seed's parameters."""
    return jax.vmap(lambda params: evaluate(model, params, test)[1])(params)


def _map_lanes(function: Callable, txs: gradtx.GradientTransformation, *axes: int | None) -> Callable:
    """`function(tx, *arguments)` over seeds (outer) and rates (inner); `axes`: what arguments have for the rates."""
    over_rates = jax.vmap(function, in_axes=(gradtx.batch_axes(txs), *axes))
    return jax.vmap(partial(over_rates, txs))


@jax.jit
def _initial_params(problem: Problem, keys: Key[Array, " seeds"]) -> Params:
    return jax.vmap(partial(initial_params, problem))(keys)


@partial(jax.jit, static_argnames="epochs")
def _batches(
    problem: Problem, keys: Key[Array, " seeds"], first_epoch: Int[Array, ""], epochs: int
) -> Int[Array, "seeds epochs batches batch"]:
    return jax.vmap(lambda key: batches(problem, key, first_epoch, epochs))(keys)


@jax.jit
def _begin(txs: gradtx.GradientTransformation, params: Params) -> Run:
    return _map_lanes(begin, txs, None)(params)


@partial(jax.jit, donate_argnames="runs")
def _advance(
    problem: Problem,
    txs: gradtx.GradientTransformation,
    runs: Run,
    order: Int[Array, "seeds epochs batches batch"],
) -> tuple[Run, Curves]:
    return _map_lanes(partial(advance, problem), txs, 0, None)(runs, order)


@jax.jit
def _eval_params(txs: gradtx.GradientTransformation, runs: Run) -> Params:
    return _map_lanes(lambda tx, run: tx.eval_params(run.params, run.state), txs, 0)(runs)


def _label(parts: Sequence[Curves], rates: Sequence[float]) -> xr.Dataset:
    joined = {name: np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in Curves._fields}
    finite = np.isfinite(joined["train_loss"]) & np.isfinite(joined["validation_loss"])
    seeds, _, epochs = finite.shape
    return xr.Dataset(
        {name: ((*LANES, "epoch"), values) for name, values in joined.items()}
        | {"diverged": (LANES, ~finite.all(axis=-1))},
        coords={
            "seed": np.arange(seeds),
            "learning_rate": np.asarray(rates, np.float64),
            "epoch": np.arange(1, epochs + 1),
        },
    )
