"""Training as a pure function of `(tx, key)`.

Data stays on the device and epochs are scans, so that one program trains as long as one likes, and mapping it
over `tx` and `key` trains a sweep. All randomness (initial parameters, order of the examples, augmentation) comes from
`key`: two optimizers given the same key meet the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

import gradtx
from experiments.data import Examples
from experiments.models import Classifier, Params, Stats, Variables

EVALUATED_AT_ONCE = 1000
"""Images, so that the memory of an evaluation does not grow with the data set."""

Images = Float[Array, "n height width channels"]
Share = Callable[[Examples], Examples]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """What is minimised: the mean cross-entropy of a classifier, by mini-batches. The data are its leaves.

    Attributes:
        augment: Changes the images of a batch at random, given a key.
        share: Lays out examples over devices, wherever the model sees them (`experiments.data_parallel`).
    """

    model: Classifier = field(metadata={"static": True})
    batch_size: int = field(metadata={"static": True})
    train: Examples
    validation: Examples
    augment: Callable[[Key[Array, ""], Images], Images] | None = field(default=None, metadata={"static": True})
    share: Share | None = field(default=None, metadata={"static": True})

    @property
    def steps(self) -> int:
        """Steps an epoch. What does not fill the last batch is left out."""
        return len(self.train.labels) // self.batch_size


class Run(NamedTuple):
    """All that training carries from one epoch to the next.

    A run whose loss was not finite has `diverged`: it is not trained any further, and reports NaN.
    """

    params: Params
    stats: Stats
    state: Any
    diverged: Bool[Array, ""]


class Curves(NamedTuple):
    """What training reports, once an epoch.

    The training loss is the mean over the epoch's batches, each before its own step, where the gradient is taken.
    The validation figures are taken after the epoch, at the optimizer's `eval_params`.
    """

    train_loss: Float[Array, " epochs"]
    validation_loss: Float[Array, " epochs"]
    validation_accuracy: Float[Array, " epochs"]


class Order(NamedTuple):
    """What a seed draws for an epoch: which examples each step sees, and the key of its augmentation."""

    indices: Int[Array, "*epochs steps batch"]
    keys: Key[Array, "*epochs steps"]


def train(problem: Problem, tx: gradtx.GradientTransformation, key: Key[Array, ""], epochs: int) -> tuple[Run, Curves]:
    """Train from the start. A sweep does the same in pieces, for many `tx` and keys at once."""
    run = begin(tx, initial(problem.model, key))
    return advance(problem, tx, run, draw(problem, key, jnp.asarray(0), epochs))


def initial(model: Classifier, key: Key[Array, ""]) -> Variables:
    """Where every optimizer starts that is given this key."""
    return model.init(jax.random.fold_in(key, 0))


def begin(tx: gradtx.GradientTransformation, variables: Variables) -> Run:
    """The run before its first epoch."""
    return Run(*variables, tx.init(variables.params), jnp.asarray(False))


def draw(problem: Problem, key: Key[Array, ""], first_epoch: Int[Array, ""], epochs: int) -> Order:
    """Each example once an epoch, in an order that depends on `key` and the epoch's number alone.

    So many short calls and one long call give the same run.
    """
    examples, steps = len(problem.train.labels), problem.steps

    def epoch(number: Int[Array, ""]) -> Order:
        order_key, augment_key = (jax.random.fold_in(jax.random.fold_in(key, use), number) for use in (1, 2))
        order = jax.random.permutation(order_key, examples)
        return Order(
            order[: steps * problem.batch_size].reshape(steps, -1),
            jax.random.split(augment_key, steps),
        )

    return jax.vmap(epoch)(first_epoch + jnp.arange(epochs))


def advance(
    problem: Problem, tx: gradtx.GradientTransformation, run: Run, order: Order, *, branch: bool = True
) -> tuple[Run, Curves]:
    """Train for the epochs in `order`.

    Args:
        problem: What to train on.
        tx: What to train with.
        run: Where training stands.
        order: What `draw` gave.
        branch: Whether a diverged run is skipped by a branch; else it is masked. Under `vmap` a branch would be a mask
            as well, and have a copy of the data for each lane.
    """

    def epoch(run: Run, order: Order) -> tuple[Run, Curves]:
        run, losses = jax.lax.scan(partial(step, problem, tx), run, order)
        point = tx.eval_params(run.params, run.state)
        loss, accuracy = evaluate(problem.model, point, run.stats, problem.validation, share=problem.share)
        curves = Curves(losses.mean(), loss, accuracy)
        return run._replace(diverged=~(jnp.isfinite(curves.train_loss) & jnp.isfinite(loss))), curves

    def skip(run: Run, order: Order) -> tuple[Run, Curves]:
        return run, Curves(*[jnp.full((), jnp.nan, jnp.float32)] * len(Curves._fields))

    def epoch_or_skip(run: Run, order: Order) -> tuple[Run, Curves]:
        if branch:
            return jax.lax.cond(run.diverged, skip, epoch, run, order)
        return jax.tree.map(partial(jnp.where, run.diverged), skip(run, order), epoch(run, order))

    return jax.lax.scan(epoch_or_skip, run, order)


def step(problem: Problem, tx: gradtx.GradientTransformation, run: Run, batch: Order) -> tuple[Run, Float[Array, ""]]:
    """One step on one batch, and the loss before it."""
    examples = _batch(problem, batch)
    point = tx.gradient_params(run.params, run.state)
    (loss, stats), gradients = jax.value_and_grad(_objective, argnums=1, has_aux=True)(
        problem.model, point, run.stats, examples
    )
    updates, state = tx.update(gradients, run.state, run.params, value=loss)
    return Run(gradtx.apply_updates(run.params, updates), stats, state, run.diverged), loss


def evaluate(
    model: Classifier,
    params: Params,
    stats: Stats,
    examples: Examples,
    at_once: int = EVALUATED_AT_ONCE,
    share: Share | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean cross-entropy and accuracy; of at most `at_once` images at a time."""
    count = len(examples.labels)
    size = chunk_size(count, at_once)

    def chunk(examples: Examples) -> tuple[Float[Array, ""], Float[Array, ""]]:
        examples = examples if share is None else share(examples)
        logits, _ = model.apply(params, stats, examples.images)
        right = logits.argmax(-1) == examples.labels
        return cross_entropy(logits, examples.labels).mean(), right.mean()

    chunks = jax.tree.map(lambda part: part.reshape(-1, size, *part.shape[1:]), examples)
    loss, accuracy = jax.lax.map(chunk, chunks)
    return loss.mean(), accuracy.mean()


def chunk_size(count: int, at_once: int = EVALUATED_AT_ONCE) -> int:
    """How many of `count` examples are evaluated at a time: the largest divisor that is not above `at_once`."""
    return max(size for size in range(1, min(count, at_once) + 1) if count % size == 0)


def _batch(problem: Problem, batch: Order) -> Examples:
    examples = Examples(problem.train.images[batch.indices], problem.train.labels[batch.indices])
    examples = examples if problem.share is None else problem.share(examples)
    if problem.augment is None:
        return examples
    return examples._replace(images=problem.augment(batch.keys, examples.images))


def _objective(model: Classifier, params: Params, stats: Stats, examples: Examples) -> tuple[Float[Array, ""], Stats]:
    """Mean cross-entropy, in nats, plus the model's penalty."""
    logits, stats = model.apply(params, stats, examples.images, training=True)
    return cross_entropy(logits, examples.labels).mean() + model.penalty(params), stats


def cross_entropy(logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)[:, 0]
