"""The hand-made optimizers that a learned one is compared with, each tuned with the same number of trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key

import gradtx
from experiments.data import Examples
from experiments.tasks import Instance, Task
from experiments.unrolling import curves, draw


@dataclass(frozen=True, repr=False)
class HandMade:
    """An optimizer with one or two numbers to tune.

    Attributes:
        make: `(learning rate, second)`.
        second: What the second number is, "" if there is none, and the values that are tried.
    """

    name: str
    make: Callable[[Any, Any], gradtx.GradientTransformation]
    second: str = ""
    values: tuple[float, ...] = ()

    def __repr__(self) -> str:
        return f"HandMade({self.name!r}, {self.make(0.1, 0.9)!r}, {self.second}={self.values})"


HAND_MADE = (
    HandMade("SGD", lambda rate, _: gradtx.sgd(rate)),
    HandMade("Momentum", lambda rate, momentum: gradtx.sgd(rate, momentum), "momentum", (0.8, 0.9, 0.95)),
    HandMade("NAG", lambda rate, momentum: gradtx.nag(rate, momentum), "momentum", (0.8, 0.9, 0.95)),
    HandMade("Adagrad", lambda rate, _: gradtx.adagrad(rate)),
    HandMade("RMSprop", lambda rate, decay: gradtx.rmsprop(rate, decay), "decay", (0.9, 0.98, 0.995)),
    HandMade("Adam", lambda rate, b1: gradtx.adam(rate, b1), "b1", (0.7, 0.9, 0.95)),
)
NAMES = tuple(one.name for one in HAND_MADE)


@dataclass(frozen=True)
class Trials:
    """What tuning may try: as many trials for a method with one number as for one with two.

    Attributes:
        lowest, highest: Learning rates, as powers of ten.
        rates: That are tried with each second number; a method with one number tries three times as many.
        problems: On which the mean loss after the last step decides.
    """

    lowest: float
    highest: float
    rates: int
    problems: int

    @property
    def count(self) -> int:
        """Trials of each method."""
        return 3 * self.rates

    def of(self, method: HandMade) -> tuple[Float[np.ndarray, " trials"], Float[np.ndarray, " trials"]]:
        """Learning rates and second numbers; these are 0 where there is none."""
        values = method.values or (0.0,)
        rates = np.logspace(self.lowest, self.highest, self.count // len(values))
        rate, second = np.meshgrid(rates, values)
        return rate.ravel().astype(np.float32), second.ravel().astype(np.float32)


def tune(
    task: Task, method: HandMade, trials: Trials, steps: int, key: Key[Array, ""], examples: Examples | None
) -> xr.Dataset:
    """The mean loss after the last step for each trial: `loss`, `learning_rate` and `second` over `trial`."""
    rates, seconds = trials.of(method)
    losses = _final_means(task, method, rates, seconds, draw(task, key, trials.problems), examples, steps)
    return xr.Dataset(
        {"loss": ("trial", np.asarray(losses)), "learning_rate": ("trial", rates), "second": ("trial", seconds)}
    )


@partial(jax.jit, static_argnames=("task", "method", "steps"))
def _final_means(
    task: Task,
    method: HandMade,
    rates: Float[Array, " trials"],
    seconds: Float[Array, " trials"],
    problems: Instance,
    examples: Examples | None,
    steps: int,
) -> Float[Array, " trials"]:
    def one(trial: tuple[Float[Array, ""], Float[Array, ""]]) -> Float[Array, ""]:
        return jnp.mean(curves(task, of_arrays(method, *trial), problems, examples, steps)[:, -1])

    return jax.lax.map(one, (rates, seconds))


def of_arrays(method: HandMade, rate: Any, second: Any) -> gradtx.GradientTransformation:
    """The optimizer, with float32 arrays for leaves: one compiled program serves all trials."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), method.make(rate, second))


@dataclass(frozen=True)
class Chosen:
    """What tuning chose. `at_edge`: the rate is the lowest or the highest that was tried."""

    rate: float
    second: float
    at_edge: bool


def choose(tried: xr.Dataset) -> Chosen:
    """The trial with the lowest mean loss."""
    best = int(np.argmin(tried.loss.values))
    rate, rates = float(tried.learning_rate[best]), tried.learning_rate.values
    return Chosen(rate, float(tried.second[best]), rate in (float(rates.min()), float(rates.max())))
