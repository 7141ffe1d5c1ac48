"""The variance of mini-batch gradients at a fixed point."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from experiments.data import Examples
from experiments.models import Classifier, Variables
from experiments.train import evaluate


def gradient_variance(
    model: Classifier, variables: Variables, train: Examples, sizes: Sequence[int], draws: int, key: Key[Array, ""]
) -> tuple[Float[Array, " sizes"], Float[Array, ""]]:
    """The mean squared distance of gradients from the full one: of drawn mini-batches, and of all single images.

    Mini-batches are drawn without replacement: with the variance s of single examples, n images and batch size B it is
    s (n - B) / ((n - 1) B) on average.
    """
    count = len(train.labels)

    def gradient(examples: Examples) -> Float[Array, " n"]:
        return ravel_pytree(
            jax.grad(lambda params: evaluate(model, params, variables.stats, examples)[0])(variables.params)
        )[0]

    def distance(examples: Examples) -> Float[Array, ""]:
        return jnp.sum((gradient(examples) - full) ** 2)

    def drawn(size: int) -> Float[Array, ""]:
        def one(key: Key[Array, ""]) -> Float[Array, ""]:
            chosen = jax.random.choice(key, count, (size,), replace=False)
            return distance(Examples(*(part[chosen] for part in train)))

        return jax.lax.map(one, jax.random.split(jax.random.fold_in(key, size), draws)).mean()

    full = gradient(train)
    singles = Examples(*(part[:, None] for part in train))
    return jnp.stack([drawn(size) for size in sizes]), jax.lax.map(distance, singles, batch_size=50).mean()
