"""A row of the table: one variant of a transformation, and what is known about it."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gradtx
from gradtx.testing.case import Sign

Extra = Callable[[Any, Any], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Row:
    """One variant: `name` is the public name of the class, then `-` and what is special about it.

    Ours, optax's and the NumPy oracle take the same arguments by the same names. Their values are far from 0 and 1
    (eps too), so that an argument that is ignored or stands in the wrong place is seen.
    """

    name: str
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    """Hyperparameters that are numbers, but for the learning rate."""
    flags: dict[str, Any] = dataclasses.field(default_factory=dict)
    """All other arguments: sizes, flags, masks, schedules."""
    rate: float | None = None
    """The learning rate, which is the first argument, of what has one."""
    factory: Callable[..., gradtx.GradientTransformation] | None = None
    """What makes it, where it is not the class alone."""
    oracle: Callable[..., Iterator[np.ndarray]] | None = None
    """The method in NumPy as its paper prints it; only of optimizers without extra arguments."""
    peer: Callable[..., Any] | None = None
    """optax's own; None where optax has no such variant."""
    refuses: tuple[str, ...] = ()
    """Dtypes that are refused on purpose: 'complex'."""
    sign: Sign = "auto"
    """Which way the first update points, as `gradtx.testing.check_transformation` takes it."""
    extra: Extra | None = None
    """The extra arguments that it asks for, from parameters and gradients."""
    quick: bool = False
    """Whether costly tests of it belong to the quick part."""
    holds_a_function: bool = False
    """Whether a plain function is among its arguments: then it can be neither saved nor pickled."""

    def make(self, learning_rate: Any = None, **changes: Any) -> Any:
        """Ours, with some arguments changed."""
        factory = self.factory or operator.attrgetter(self.public_name)(gradtx)
        return factory(*self._rate(learning_rate), **{**self.numbers, **self.flags, **changes})

    def make_peer(self, learning_rate: Any = None) -> Any:
        """optax's."""
        assert self.peer is not None
        return self.peer(*self._rate(learning_rate), **self.numbers, **self.flags)

    def _rate(self, learning_rate: Any) -> list[Any]:
        rate = self.rate if learning_rate is None else learning_rate
        return [] if rate is None else [rate]

    @property
    def public_name(self) -> str:
        """The name in `gradtx` of what the row is a variant of."""
        return self.name.partition("-")[0]

    def oracle_arguments(self, params: Any) -> Any:
        """What the oracle takes for each leaf: a masked leaf has no weight decay."""
        shared = {**self.numbers, **{name: value for name, value in self.flags.items() if "mask" not in name}}
        masks = [value(params) for name, value in self.flags.items() if "mask" in name]
        keep = masks[0] if masks else jax.tree.map(lambda leaf: True, params)
        return jax.tree.map(lambda kept: shared if kept else {**shared, "weight_decay": 0.0}, keep)


def matrices(params: Any) -> Any:
    """A mask that leaves vectors out, where there are matrices."""
    wide = jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    return wide if any(jax.tree.leaves(wide)) else jax.tree.map(lambda leaf: True, params)


def falling(count: Any) -> Any:
    """A plain function as a schedule: it works in both libraries."""
    return 0.1 / (1.0 + 0.25 * jnp.asarray(count, float))


def doubled(updates: Any, params: Any) -> Any:
    """A plain function as a transformation."""
    return jax.tree.map(lambda leaf: leaf + leaf, updates)


@dataclasses.dataclass(frozen=True)
class OptaxNag:
    """Nesterov as printed out of optax's parts: the rate goes into the buffer, which is minus the velocity."""

    learning_rate: Any
    momentum: float

    @property
    def pair(self) -> Any:
        """optax's chain."""
        return optax.chain(optax.scale_by_learning_rate(self.learning_rate), optax.trace(self.momentum))

    def init(self, params: Any) -> Any:
        """optax's state."""
        return self.pair.init(params)

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        """optax's update."""
        return self.pair.update(updates, state, params)

    def gradient_params(self, params: Any, state: Any) -> Any:
        """The look-ahead point."""
        return jax.tree.map(lambda x, b: x + self.momentum * b, params, state[1].trace)


def paraboloid(params: Any, grads: Any) -> dict[str, Any]:
    """What a line search asks for: an objective whose gradient at `params` is what it is given."""
    # Gradients that do not fit are for the transformation to refuse, so here they may not fail.
    fits = jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, grads)

    def value_fn(there: Any) -> jax.Array:
        moved = jax.tree.map(operator.sub, there, params)
        return _dot(grads if fits else params, there) + 0.5 * _dot(moved, moved)

    return {"value": value_fn(params), "grad": grads, "value_fn": value_fn}


def composed(params: Any, grads: Any) -> dict[str, Any]:
    """The same objective as a loss of outputs, which are the parameters themselves."""
    known = paraboloid(params, grads)
    return known | {"outputs_fn": lambda params: params, "loss_fn": known["value_fn"]}


def _dot(a: Any, b: Any) -> jax.Array:
    """The real inner product, at least in float32."""

    def leaf(x: Any, y: Any) -> jax.Array:
        dtype = np.promote_types(np.promote_types(x.dtype, y.dtype), np.float32)
        return jnp.sum(jnp.real(jnp.conj(x.astype(dtype)) * y.astype(dtype)))

    parts: list[Any] = jax.tree.leaves(jax.tree.map(leaf, a, b))
    return functools.reduce(jnp.add, parts) if parts else jnp.zeros([], jnp.float32)


def first_steps(row: Row, tx: Any, params: Any, gradients: Mapping[str, Any]) -> Any:
    """The parameters after each step, stacked, and the last state: gradients have a leading axis."""

    def step(carry: Any, grads: Any) -> Any:
        params, state = carry
        extra = row.extra(params, grads) if row.extra else {}
        updates, state = tx.update(grads, state, params, **extra)
        params = gradtx.apply_updates(params, updates)
        return (params, state), params

    (_, state), path = jax.lax.scan(step, (params, tx.init(params)), gradients)
    return path, state
