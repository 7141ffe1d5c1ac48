"""Parameters with names as of a network, groups of them, and a first step."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gradtx


def model() -> dict[str, Any]:
    """Parameters with names as of a network."""
    layers = {"body": {"kernel": (4, 4), "bias": (4,)}, "head": {"kernel": (4, 2), "bias": (2,)}}
    shapes = iter(np.random.default_rng(0).normal(size=(5, 20)))
    return jax.tree.map(
        lambda shape: jnp.asarray(next(shapes)[: int(np.prod(shape))].reshape(shape), jnp.float32),
        {"embed": {"table": (5, 4)}, **layers},
        is_leaf=lambda node: isinstance(node, tuple),
    )


def is_narrow(path: str, leaf: Any) -> bool:
    """A predicate."""
    return path.startswith("head") and leaf.shape[-1] == 2


def rules() -> gradtx.partition:
    """One group of each kind of rule."""
    return gradtx.partition(
        {
            "*bias": gradtx.sgd(0.1),
            re.compile("^embed/"): gradtx.freeze(),
            gradtx.by_rule(is_narrow): gradtx.adam(0.01),
            gradtx.by_rank(2): gradtx.adamw(1e-3),
        }
    )


def first(tx: Any, params: Any, **extra: Any) -> Any:
    """The updates of the first step, for a gradient of ones."""
    grads = jax.tree.map(jnp.ones_like, params)
    return tx.update(grads, tx.init(params), params, **extra)[0]


class HalvedState(NamedTuple):
    inner_state: Any


class halved(gradtx.GradientTransformation):
    """A small wrapper."""

    inner: gradtx.GradientTransformation

    def init(self, params: Any) -> Any:
        return HalvedState(self.inner.init(params))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        updates, inner = self.inner.update(updates, state.inner_state, params, **extra)
        return jax.tree.map(lambda u: u / 2, updates), HalvedState(inner)
