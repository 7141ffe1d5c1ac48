"""The two models that `sweep` and `train` fit, in plain JAX, on data with the shape of MNIST.

The data is made up from a fixed key (a batch of normal images, labelled by a random linear teacher): what
is measured is time, which the values do not change.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

INPUTS, CLASSES = 28 * 28, 10
BATCH = 128

WIDTHS: Mapping[str, tuple[int, ...]] = {"softmax": (), "mlp": (500, 500)}
TITLES: Mapping[str, str] = {"softmax": "softmax regression", "mlp": "MLP 2x500"}

Batch = tuple[jax.Array, jax.Array]
"""Images and integer labels. Stacked batches have one axis more, in front."""


def batches(count: int) -> Batch:
    """`count` batches, stacked."""
    image_key, teacher_key = jax.random.split(jax.random.key(0))
    images = jax.random.normal(image_key, (count, BATCH, INPUTS))
    teacher = jax.random.normal(teacher_key, (INPUTS, CLASSES))
    return images, jnp.argmax(images @ teacher, axis=-1)


def widths(problem: str) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer."""
    sizes = [INPUTS, *WIDTHS[problem], CLASSES]
    return list(itertools.pairwise(sizes))


def init(problem: str) -> list[dict[str, jax.Array]]:
    """He's initial weights, from a fixed key."""
    keys = jax.random.split(jax.random.key(1), len(widths(problem)))
    return [
        {"w": jax.random.normal(key, shape) * jnp.sqrt(2 / shape[0]), "b": jnp.zeros(shape[1])}
        for key, shape in zip(keys, widths(problem), strict=True)
    ]


def loss(params: list[dict[str, jax.Array]], batch: Batch) -> jax.Array:
    """Mean cross-entropy of a batch."""
    x, labels = batch
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    logits = x @ params[-1]["w"] + params[-1]["b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def train_step(library: Any, tx: Any, carry: tuple[Any, Any], batch: Batch) -> tuple[tuple[Any, Any], jax.Array]:
    """One step of training with gradtx or optax: `(params, state)` and the loss before the step."""
    params, state = carry
    value, grads = jax.value_and_grad(loss)(params, batch)
    updates, state = tx.update(grads, state, params)
    return (library.apply_updates(params, updates), state), value
