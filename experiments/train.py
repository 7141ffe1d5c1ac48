"""Training as a pure function of `(tx, key)`.

Data stays on the device and epochs are scans, so that one program trains as long as one likes, and `vmap`
over `tx` and `key` trains a sweep. All randomness (initial parameters, order of the examples) comes from `key`:
two optimizers given the same key meet the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

import gradtx
from experiments.data import Examples
from experiments.models import Classifier, Params


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """What is minimised: the mean cross-entropy of a classifier, by mini-batches. The data are its leaves."""

    model: Classifier = field(metadata={"static": True})
    batch_size: int = field(metadata={"static": True})
    train: Examples
    validation: Examples


class Run(NamedTuple):
    """All that training carries from one epoch to the next."""

    params: Params
    state: Any


class Curves(NamedTuple):
    """What training reports, once an epoch.

    The training loss is the mean over the epoch's batches, each before its own step, where the gradient is taken.
    The validation figures are taken after the epoch, at the optimizer's `eval_params`.
    """

    train_loss: Float[Array, " epochs"]
    validation_loss: Float[Array, " epochs"]
    validation_accuracy: Float[Array, " epochs"]


def train(problem: Problem, tx: gradtx.GradientTransformation, key: Key[Array, ""], epochs: int) -> tuple[Run, Curves]:
    """Train from the start. A sweep does the same in pieces, for many `tx` and keys at once."""
    run = begin(tx, initial_params(problem, key))
    return advance(problem, tx, run, batches(problem, key, jnp.asarray(0), epochs))


def initial_params(problem: Problem, key: Key[Array, ""]) -> Params:
    """Where every optimizer starts that is given this key."""
    return problem.model.init(jax.random.fold_in(key, 0))


def begin(tx: gradtx.GradientTransformation, params: Params) -> Run:
    """The run before its first epoch."""
    return Run(params, tx.init(params))


def batches(
    problem: Problem, key: Key[Array, ""], first_epoch: Int[Array, ""], epochs: int
) -> Int[Array, "epochs batches batch"]:
    """Indices of the examples, each once an epoch, in an order that depends on `key` and the epoch's number alone.

    So many short calls and one long call give the same run. What does not fill the last batch is left out.
    """
    examples = len(problem.train.labels)
    whole = examples // problem.batch_size * problem.batch_size

    def epoch(number: Int[Array, ""]) -> Int[Array, "batches batch"]:
        order = jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, 1), number), examples)
        return order[:whole].reshape(-1, problem.batch_size)

    return jax.vmap(epoch)(first_epoch + jnp.arange(epochs))


def advance(
    problem: Problem, tx: gradtx.GradientTransformation, run: Run, order: Int[Array, "epochs batches batch"]
) -> tuple[Run, Curves]:
    """Train for the epochs in `order`."""

    def step(run: Run, batch: Int[Array, " batch"]) -> tuple[Run, Float[Array, ""]]:
        examples = Examples(problem.train.images[batch], problem.train.labels[batch])
        point = tx.gradient_params(run.params, run.state)
        loss, gradients = jax.value_and_grad(mean_loss, argnums=1)(problem.model, point, examples)
        updates, state = tx.update(gradients, run.state, run.params, value=loss)
        return Run(gradtx.apply_updates(run.params, updates), state), loss

    def epoch(run: Run, order: Int[Array, "batches batch"]) -> tuple[Run, Curves]:
        run, losses = jax.lax.scan(step, run, order)
        loss, accuracy = evaluate(problem.model, tx.eval_params(run.params, run.state), problem.validation)
        return run, Curves(losses.mean(), loss, accuracy)

    return jax.lax.scan(epoch, run, order)


def mean_loss(model: Classifier, params: Params, examples: Examples) -> Float[Array, ""]:
    """Mean cross-entropy, in nats."""
    return _cross_entropy(model.apply(params, examples.images), examples.labels).mean()


def evaluate(model: Classifier, params: Params, examples: Examples) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean cross-entropy and accuracy."""
    logits = model.apply(params, examples.images)
    right = logits.argmax(-1) == examples.labels
    return _cross_entropy(logits, examples.labels).mean(), right.mean()


def _cross_entropy(logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)[:, 0]
