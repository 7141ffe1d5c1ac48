"""The update rules of the study of 2016 as its *code* has them, with its mistakes: to show what they change.

Nothing but these comparisons should use them. For each rule: what differs from the formula beside it in the study.

| rule | the formula | the code |
| --- | --- | --- |
| momentum | learning rate inside the velocity | outside; the same at a constant rate |
| NAG | velocity decays by gamma | by 0.7, whatever gamma is; gamma is used to look ahead only |
| Adagrad, RMSprop | epsilon inside the root | outside; hardly matters at 1e-8 |
| Adadelta | no learning rate; epsilon small | a factor `step`; epsilon 0.1, which sets its pace |
| Adam | bias correction, epsilon outside the root | none (computed, but not used), epsilon inside |
| all | - | stops when the *signed* sum of the gradient is small: see `stopped` |
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import gradtx
from experiments.formulas import FORMULAS
from experiments.surfaces import first_step
from gradtx import Decay, NonNegative, Scalar

STOP = 1e-6


class OneState(NamedTuple):
    """State of a rule that remembers one thing."""

    memory: Any
    """Like `params`."""


class TwoState(NamedTuple):
    """State of a rule that remembers two things."""

    first: Any
    """Like `params`."""
    second: Any
    """Like `params`."""


class _RemembersOne(gradtx.GradientTransformation):
    def init(self, params: Any) -> OneState:
        return OneState(gradtx.zeros_like(params))


class _RemembersTwo(gradtx.GradientTransformation):
    def init(self, params: Any) -> TwoState:
        return TwoState(gradtx.zeros_like(params), gradtx.zeros_like(params))


def _momentum(updates: jax.Array, buffer: jax.Array, step: jax.Array, discount: jax.Array) -> Any:
    buffer = buffer * discount + updates
    return -(buffer * step), buffer


class momentum(_RemembersOne):
    """The heavy ball; the learning rate is outside the buffer."""

    learning_rate: Scalar
    discount: Decay = 0.7

    def update(self, updates: Any, state: OneState, params: Any = None) -> tuple[Any, OneState]:
        trees = {"updates": updates, "buffer": state.memory}
        updates, memory = gradtx.map_leaves(_momentum, trees, step=self.learning_rate, discount=self.discount)
        return updates, OneState(memory)


WIRED = 0.7
"""What the code of NAG has in the place of gamma."""


def _future(params: jax.Array, buffer: jax.Array, step: jax.Array, discount: jax.Array) -> jax.Array:
    return params - step * discount * buffer


class nesterov(_RemembersOne):
    """Looks ahead by `discount`, but its buffer decays by 0.7."""

    learning_rate: Scalar
    discount: Decay = 0.7

    def update(self, updates: Any, state: OneState, params: Any = None) -> tuple[Any, OneState]:
        trees = {"updates": updates, "buffer": state.memory}
        updates, memory = gradtx.map_leaves(_momentum, trees, step=self.learning_rate, discount=WIRED)
        return updates, OneState(memory)

    def gradient_params(self, params: Any, state: OneState) -> Any:
        trees, reads = {"params": params}, {"buffer": state.memory}
        return gradtx.map_leaves(_future, trees, reads=reads, step=self.learning_rate, discount=self.discount)


def _adagrad(updates: jax.Array, total: jax.Array, step: jax.Array, delta: jax.Array) -> Any:
    total = total + updates * updates
    return -(step * updates / (jnp.sqrt(total) + delta)), total


class adagrad(_RemembersOne):
    """Epsilon is outside the root."""

    learning_rate: Scalar
    delta: NonNegative = 1e-8

    def update(self, updates: Any, state: OneState, params: Any = None) -> tuple[Any, OneState]:
        trees = {"updates": updates, "total": state.memory}
        updates, memory = gradtx.map_leaves(_adagrad, trees, step=self.learning_rate, delta=self.delta)
        return updates, OneState(memory)


def _adadelta(
    updates: jax.Array, sum_grad: jax.Array, sum_diff: jax.Array, step: jax.Array, decay: jax.Array, delta: jax.Array
) -> Any:
    sum_grad = decay * sum_grad + (1 - decay) * updates * updates
    diff = jnp.sqrt((sum_diff + delta) / (sum_grad + delta)) * updates
    return -(step * diff), sum_grad, decay * sum_diff + (1 - decay) * (diff * diff)


class adadelta(_RemembersTwo):
    """Epsilon is 0.1, and there is a learning rate, which the average of the steps does not know of."""

    learning_rate: Scalar
    decay: Decay = 0.9
    delta: NonNegative = 1e-1

    def update(self, updates: Any, state: TwoState, params: Any = None) -> tuple[Any, TwoState]:
        trees = {"updates": updates, "sum_grad": state.first, "sum_diff": state.second}
        updates, *memory = gradtx.map_leaves(
            _adadelta, trees, step=self.learning_rate, decay=self.decay, delta=self.delta
        )
        return updates, TwoState(*memory)


def _rmsprop(updates: jax.Array, total: jax.Array, step: jax.Array, decay: jax.Array, delta: jax.Array) -> Any:
    total = decay * total + (1 - decay) * updates * updates
    return -(step * updates / (jnp.sqrt(total) + delta)), total


class rmsprop(_RemembersOne):
    """Epsilon is outside the root. (As printed, the code is not valid Python: a default precedes a plain argument.)"""

    learning_rate: Scalar
    decay: Decay = 0.9
    delta: NonNegative = 1e-8

    def update(self, updates: Any, state: OneState, params: Any = None) -> tuple[Any, OneState]:
        trees = {"updates": updates, "total": state.memory}
        updates, memory = gradtx.map_leaves(
            _rmsprop, trees, step=self.learning_rate, decay=self.decay, delta=self.delta
        )
        return updates, OneState(memory)


def _adam(
    updates: jax.Array,
    mean: jax.Array,
    square: jax.Array,
    step: jax.Array,
    beta1: jax.Array,
    beta2: jax.Array,
    delta: jax.Array,
) -> Any:
    mean = beta1 * mean + (1 - beta1) * updates
    square = beta2 * square + (1 - beta2) * updates * updates
    return -(step * mean / jnp.sqrt(square + delta)), mean, square


class adam(_RemembersTwo):
    """Without bias correction: the first step is 3.16 times as long as Adam's, the twelfth 6.57 times.

    Epsilon inside the root makes it slow where gradients are small: 1e-8 is to be compared with 0.001 g^2.
    """

    learning_rate: Scalar
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    delta: NonNegative = 1e-8

    def update(self, updates: Any, state: TwoState, params: Any = None) -> tuple[Any, TwoState]:
        trees = {"updates": updates, "mean": state.first, "square": state.second}
        updates, *memory = gradtx.map_leaves(
            _adam, trees, step=self.learning_rate, beta1=self.beta1, beta2=self.beta2, delta=self.delta
        )
        return updates, TwoState(*memory)


PRINTED: dict[str, gradtx.GradientTransformation] = {
    "SGD": gradtx.sgd(1.0),  # the one rule whose code is its formula
    "Momentum": momentum(1.0, 0.9),
    "NAG": nesterov(1.0, 0.9),
    "Adagrad": adagrad(1.0),
    "Adadelta": adadelta(1.0),
    "RMSprop": rmsprop(1.0),
    "Adam": adam(1.0),
}

VERSIONS = {"as written": FORMULAS, "as coded": PRINTED}
"""The two sets of rules, by what tables and pictures call them."""


def stop_step(path: xr.Dataset) -> xr.DataArray:
    """The step after which the code stops: the first one on a gradient with |g_x + g_y| < 1e-6; NaN if there is none.

    The sum is signed, so that two large parts may cancel: from (10, -1) on the bowl the first step is the last.
    """
    return first_step(np.abs(path.gradient_sum) < STOP) + 1


def stopped(path: xr.Dataset) -> xr.Dataset:
    """The path as the code leaves it: after its stop it stays where it is."""
    last = int(path.step[-1])
    stop = stop_step(path).fillna(last).clip(max=last).astype(int)
    return path.where(path.step <= stop, path.drop_vars("step").isel(step=stop))
