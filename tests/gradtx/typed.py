"""What type checkers must accept of gradtx, and what they must refuse. Pyright reads this file; nothing runs it.

A line that must be refused carries an ignore of the rule that refuses it: pyright reports an ignore that has nothing to
do (`reportUnnecessaryTypeIgnoreComment`), so that both kinds are held.
"""

from typing import Any, assert_type

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.training.train_state import TrainState

import gradtx
from gradtx import Decay, GradientTransformation, LearningRate, OptState, Params, Recipe, Scalar, Schedule, Updates


class Model(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.dense = nnx.Linear(2, 2, rngs=rngs)


def where_optax_is_expected(model: Model, params: dict[str, jax.Array], tx: gradtx.adam) -> None:
    nnx.Optimizer(model, gradtx.adam(1e-3), wrt=nnx.Param)
    nnx.ModelAndOptimizer(model, tx, wrt=nnx.Param)
    TrainState.create(apply_fn=lambda p: p, params=params, tx=tx)
    optax.chain(gradtx.adam(1e-3), optax.clip(1.0))
    optax.MultiSteps(gradtx.adamw(1e-3), 4)
    optax.apply_if_finite(tx, 3)
    optax.masked(gradtx.chain(tx), True)
    optax.multi_transform({"a": tx, "b": gradtx.sgd(0.1)}, {"w": "a"})
    gradtx.chain(optax.clip(1.0), tx)
    theirs: optax.GradientTransformation = tx
    extended: optax.GradientTransformationExtraArgs = tx
    del theirs, extended


def constructors(schedule: Schedule) -> None:
    gradtx.adam(learning_rate=1e-3, b1=0.9)
    gradtx.adam(lambda count: 1e-3)
    gradtx.adam(jnp.ones(3))
    gradtx.adam(schedule, nesterov=True)
    gradtx.adam("1e-3")  # pyright: ignore[reportArgumentType]
    gradtx.adam(1e-3, b3=2)  # pyright: ignore[reportCallIssue]
    gradtx.adam()  # pyright: ignore[reportCallIssue]
    gradtx.adam(1e-3, nesterov="x")  # pyright: ignore[reportArgumentType]
    gradtx.scale_by_adam(0.9, 0.99, 1e-8, 0.0, None, True)  # pyright: ignore[reportCallIssue]


def as_a_pair(tx: gradtx.adam, params: Params, grads: Updates) -> None:
    init, update = tx
    state = init(params)
    update(grads, state, params, value=1.0)
    tx.update(grads, tx.init(params), params, value=1.0)
    tx.update(grads)  # pyright: ignore[reportCallIssue]
    tx.init()  # pyright: ignore[reportCallIssue]
    GradientTransformation(lambda params: (), lambda updates, state, params=None: (updates, state))
    GradientTransformation(init=optax.sgd(1.0).init, update=optax.sgd(1.0).update)
    GradientTransformation(*optax.sgd(1.0))
    GradientTransformation(1, 2)  # pyright: ignore[reportArgumentType]


def as_data(tx: gradtx.adam, chained: gradtx.chain) -> None:
    assert_type(tx.replace(b1=0.8), gradtx.adam)
    assert_type(chained[1], GradientTransformation)
    tx.b1 = 0.3  # pyright: ignore[reportAttributeAccessIssue]
    print(tx.lerning_rate)  # pyright: ignore[reportAttributeAccessIssue]


class scale_by_size(GradientTransformation):
    """Overrides with extra arguments."""

    gain: Scalar
    inner: GradientTransformation | None = None
    stages: tuple[GradientTransformation, ...] = ()
    count: int = 0

    def init(self, params: Params) -> OptState:
        return ()

    def update(
        self, updates: Updates, state: OptState, params: Params, *, value: Any, **extra: Any
    ) -> tuple[Updates, OptState]:
        return updates, state


class sized(Recipe):
    """A recipe of it."""

    learning_rate: LearningRate
    b1: Decay = 0.9

    def parts(self) -> gradtx.chain:
        return gradtx.chain(scale_by_size(self.b1), gradtx.scale_by_learning_rate(self.learning_rate))


class half(Schedule):
    """A schedule."""

    value: Scalar

    def at(self, step: jax.Array) -> jax.Array:
        return jnp.asarray(self.value) / (1 + step)


def of_ones_own(tx: gradtx.adam) -> None:
    scale_by_size(0.5, tx, stages=(tx, tx), count=3)
    scale_by_size(0.5, 3)  # pyright: ignore[reportArgumentType]
    sized(half(0.1))
    optax.chain(sized(1e-3), scale_by_size(1.0))
