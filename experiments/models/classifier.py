"""A Flax NNX module split into what is static, what is trained, and what is only kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key, PyTree

Params = PyTree[Float[Array, "..."]]
Stats = PyTree[Float[Array, "..."]]
"""Running statistics of batch normalisation; without leaves where a model has none."""


class Variables(NamedTuple):
    """Fresh parameters and statistics, as nested dicts of arrays."""

    params: Params
    stats: Stats


@dataclass(frozen=True)
class Classifier:
    """`init` and `apply` of the module that `build` makes, as pure functions.

    Args:
        build: Makes the module, whose call takes images and `training`. Equal models share compiled programs, so it
            should compare by value.
        l2: Weight of the penalty on the kernels' squares, which is a part of the training loss.
    """

    build: Callable[[nnx.Rngs], Any]
    l2: float = 0.0

    def init(self, key: Key[Array, ""]) -> Variables:
        """What training begins with."""
        module = self.build(nnx.Rngs(key))
        return Variables(_plain(module, nnx.Param), _plain(module, nnx.BatchStat))

    def apply(
        self, params: Params, stats: Stats, images: Float[Array, "n height width channels"], *, training: bool = False
    ) -> tuple[Float[Array, "n classes"], Stats]:
        """The logits, and the statistics after these images; without `training` they stay as they are."""
        module = nnx.merge(self._graph, params, stats)
        logits = module(images, training=training)
        return logits, _plain(module, nnx.BatchStat) if training else stats

    def penalty(self, params: Params) -> Float[Array, ""]:
        """Half of `l2` times the sum of squares over kernels; biases and normalisation are free. 0 where `l2` is 0."""
        total = jnp.zeros(())
        if self.l2:
            for path, leaf in jax.tree.leaves_with_path(params):
                if path[-1] == jax.tree_util.DictKey("kernel"):
                    total = total + jnp.sum(jnp.square(leaf))
        return self.l2 / 2 * total

    @cached_property
    def _graph(self) -> Any:
        return nnx.graphdef(nnx.eval_shape(lambda: self.build(nnx.Rngs(0))))


def _plain(module: Any, kind: type[nnx.Variable]) -> Any:
    return nnx.to_pure_dict(nnx.state(module, kind))
