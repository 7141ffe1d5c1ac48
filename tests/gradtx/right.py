"""Transformations beyond those of the table of which the checker must not complain, with the arguments it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

import gradtx
from gradtx import Data, Decay, EmptyState, LearningRate, NonNegative, Scalar
from gradtx.testing import LAWS

from .row import paraboloid


@dataclasses.dataclass(frozen=True)
class Right:
    """What makes it, and the arguments of `check_transformation`."""

    make: Callable[[], Any]
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """Parts of the notes that have to come."""
    slow: bool = False


def ramp(*shape: int) -> Any:
    return jnp.asarray(np.linspace(0.5, 1.5, int(np.prod(shape)), dtype=np.float32).reshape(shape))


MATRICES = {"k": ramp(4, 3), "q": ramp(8, 2)}
LAYERS = {"encoder": {"kernel": ramp(4, 3), "bias": ramp(3)}, "head": {"kernel": ramp(3, 2), "bias": ramp(2)}}


# Random keys in the state and as data.


class NoiseState(NamedTuple):
    key: Any


def _add(updates: Any, noise: Any, size: Any) -> Any:
    return updates + size * noise


class noise(gradtx.GradientTransformation):
    """Noise from a key that is split at each update."""

    key: Data
    size: NonNegative = 0.01

    def init(self, params: Any) -> NoiseState:
        return NoiseState(jnp.copy(self.key) if isinstance(self.key, jax.Array) else jnp.asarray(self.key))

    def update(self, updates: Any, state: NoiseState, params: Any = None) -> Any:
        key, now = jax.random.split(state.key)
        leaves, structure = jax.tree.flatten(updates)
        keys = jax.random.split(now, max(1, len(leaves)))
        drawn = [jax.random.normal(k, leaf.shape, jnp.float32) for k, leaf in zip(keys, leaves, strict=False)]
        reads = {"noise": structure.unflatten(drawn)}
        return gradtx.map_leaves(_add, {"updates": updates}, reads=reads, size=self.size), NoiseState(key)


class CountState(NamedTuple):
    count: Any


class noise_by_count(noise):
    """Noise from a key that is folded with the count, and stays what it is."""

    def init(self, params: Any) -> Any:
        return CountState(jnp.zeros([], jnp.int32))

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        key = jax.random.fold_in(self.key, state.count)
        updates, _ = super().update(updates, NoiseState(key), params)
        return updates, CountState(gradtx.safe_increment(state.count))


# For matrices only.


def _orthogonal(updates: Any) -> Any:
    x = updates / (gradtx.safe_sqrt(jnp.sum((updates * updates.conj()).real)) + 1e-7)
    for _ in range(3):
        x = 1.5 * x - 0.5 * x @ x.conj().T @ x
    return x


class orthogonalized(gradtx.Stateless):
    """Matrices with orthogonal rows or columns; anything else is refused by name."""

    def update(self, updates: Any, state: EmptyState, params: Any = None) -> Any:
        for path, leaf in jax.tree.leaves_with_path(updates):
            if leaf.ndim != 2:
                raise ValueError(f"orthogonalized: updates{jax.tree_util.keystr(path)} is no matrix")
        return gradtx.map_leaves(_orthogonal, {"updates": updates}), state


class scale_each(gradtx.Stateless):
    """A rate for each leaf."""

    rates: PyTree

    def update(self, updates: Any, state: EmptyState, params: Any = None) -> Any:
        def one(rate: Any, g: Any) -> Any:
            return None if g is None else gradtx.map_leaves(_times, {"updates": g}, rate=rate)

        try:
            return jax.tree.map(one, self.rates, updates), state
        except ValueError as error:
            wrong = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(updates)]
            raise ValueError(f"rates and updates, with {', '.join(wrong)}, have other structures") from error


def _times(updates: Any, rate: Any) -> Any:
    return rate * updates


# States made of the parameters.


class every_third(gradtx.GradientTransformation):
    """Passes on every third gradient; its count goes round, and so may be small."""

    def init(self, params: Any) -> Any:
        return jnp.zeros([], jnp.int8)

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        now = jnp.where(state == 2, np.float32(1), np.float32(0))
        return gradtx.map_leaves(_times, {"updates": updates}, rate=now), (state + np.int8(1)) % np.int8(3)


def _squash(updates: Any, size: Any) -> Any:
    return jnp.sign(updates) * jnp.tanh(jnp.abs(updates) / size) * size


class squashed(gradtx.Stateless):
    """What is far from linear for large gradients."""

    size: Scalar = 2.0

    def update(self, updates: Any, state: EmptyState, params: Any = None) -> Any:
        return gradtx.map_leaves(_squash, {"updates": updates}, size=self.size), state


def by_name(params: Any) -> Any:
    return jax.tree.map_with_path(lambda path, _: "bias" not in jax.tree_util.keystr(path), params)


class plain(gradtx.Recipe):
    """A recipe with an idle field in one mode: the momentum's decay without momentum."""

    learning_rate: LearningRate = 0.1
    decay: Decay = 0.9
    heavy: bool = False

    def parts(self) -> Any:
        rate = gradtx.scale_by_learning_rate(self.learning_rate)
        return gradtx.chain(gradtx.trace(self.decay), rate) if self.heavy else rate


def adamw(mask: Any) -> Callable[[], Any]:
    return lambda: gradtx.adamw(0.1, weight_decay=0.1, mask=mask)


OPTAX = tuple(law for law in LAWS if law not in ("any_tree", "nothing_broadcast"))
"""The laws that optax's own mostly keep: they map trees by `jax.tree.map`, which says no path and knows no None."""

RIGHT: dict[str, Right] = {
    "a typed key": Right(lambda: noise(jax.random.key(0)), notes=("they have random numbers in them",)),
    "a raw key": Right(lambda: noise(jax.random.PRNGKey(0)), slow=True),
    "a key and a count": Right(lambda: noise_by_count(jax.random.key(0)), slow=True),
    "optax's noise": Right(
        lambda: optax.add_noise(0.01, 0.55, jax.random.key(0)),
        {"laws": [*OPTAX, "any_tree"]},
        ("holds vacuously",),
        slow=True,
    ),
    "a mask by rank": Right(
        adamw(gradtx.by_rank(2)), notes=("refused by name: an update of a bare scalar",), slow=True
    ),
    "a mask by path": Right(adamw(gradtx.by_path("*kernel")), {"params": LAYERS}, slow=True),
    "a mask by name": Right(adamw(by_name), {"params": LAYERS}, slow=True),
    "a mask that is a tree": Right(
        adamw({"encoder": {"kernel": True, "bias": False}, "head": True}), {"params": LAYERS}, slow=True
    ),
    "matrices only": Right(orthogonalized, {"params": MATRICES, "refuses": ["explicit mesh"]}, ("refuses",)),
    "a rate for each leaf": Right(
        lambda: scale_each({"encoder": {"kernel": 0.1, "bias": 0.2}, "head": {"kernel": 0.3, "bias": 0.4}}),
        {"params": LAYERS},
    ),
    "adam with mu_dtype": Right(lambda: gradtx.adam(0.1, mu_dtype=jnp.bfloat16), {}, ("refused by name: complex",)),
    "momentum with accumulator_dtype": Right(lambda: gradtx.trace(0.9, accumulator_dtype=jnp.bfloat16), slow=True),
    "a ring": Right(every_third, {}, ("holds vacuously",)),
    "saturation": Right(squashed),
    "a field for another mode": Right(plain),
    "clip": Right(lambda: gradtx.clip(1.0), {}, ("refused by name: complex64",)),
    "no leaves": Right(gradtx.identity, {}, ("the state has no leaves", "holds vacuously: no hyperparameter")),
    "zero": Right(gradtx.set_to_zero, {}, ("holds vacuously: the updates are zero",)),
    "optax's adam": Right(
        lambda: optax.adam(1e-3), {"laws": OPTAX, "sign": "flips"}, ("adapter widens them", "so none is data")
    ),
    "optax's sgd": Right(lambda: optax.sgd(1e-3), {"laws": OPTAX, "sign": "flips"}),
    "a line search": Right(
        lambda: gradtx.chain(gradtx.scale_by_learning_rate(1.0), gradtx.scale_by_backtracking_linesearch(5)),
        {"extra": paraboloid},
        ("calls that are far apart were not compared", "the functions given need not"),
        slow=True,
    ),
}
