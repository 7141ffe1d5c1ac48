"""A Flax NNX module split into what is static and what is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flax import nnx
from jaxtyping import Array, Float, Key, PyTree

Params = PyTree[Float[Array, "..."]]


@dataclass(frozen=True)
class Classifier:
    """`init` and `apply` of the module that `build` makes.

    Args:
        build: Makes the module. Equal models share compiled programs, so it should compare by value.
    """

    build: Callable[[nnx.Rngs], Any]

    def init(self, key: Key[Array, ""]) -> Params:
        """Fresh parameters, as nested dicts of arrays."""
        return nnx.to_pure_dict(nnx.state(self.build(nnx.Rngs(key)), nnx.Param))

    def apply(self, params: Params, images: Float[Array, "n height width channels"]) -> Float[Array, "n classes"]:
        """The logits."""
        return nnx.merge(self._graph, params)(images)

    @cached_property
    def _graph(self) -> Any:
        return nnx.graphdef(nnx.eval_shape(lambda: self.build(nnx.Rngs(0))))
