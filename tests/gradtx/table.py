"""Every optimizer and part once: ours, optax's of the same variant, and the NumPy oracle.

The three take the same arguments by the same names. Values are far from 0 and 1 (eps too), so that an argument that
is ignored or stands in the wrong place is seen.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import gradtx

from . import oracles

MASK = {"big": True, "nested": False, "scalar": True, "empty": True}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """`numbers` are hyperparameters beside the learning rate, `flags` what is static."""

    name: str
    factory: Callable[..., gradtx.GradientTransformation]
    oracle: Callable[..., Any]
    peer: Callable[..., Any] | None  # None: optax has no such variant
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    flags: dict[str, Any] = dataclasses.field(default_factory=dict)
    rate: float = 0.05

    def make(self, learning_rate: Any = None, **changes: Any) -> gradtx.GradientTransformation:
        """Ours."""
        rate = self.rate if learning_rate is None else learning_rate
        return self.factory(rate, **{**self.numbers, **self.flags, **changes})

    def make_peer(self, learning_rate: Any = None) -> Any:
        """optax's."""
        assert self.peer is not None
        return self.peer(self.rate if learning_rate is None else learning_rate, **self.numbers, **self.flags)

    def oracle_arguments(self, params: Any) -> Any:
        """What the oracle takes for each leaf: a masked leaf has no weight decay."""
        shared = {**self.numbers, **{k: v for k, v in self.flags.items() if "mask" not in k}}
        masks = [v for k, v in self.flags.items() if "mask" in k]
        keep = masks[0] if masks else jax.tree.map(lambda leaf: True, params)
        own = {True: shared, False: {**shared, "weight_decay": 0.0}}
        return jax.tree.map(lambda kept, part: jax.tree.map(lambda leaf: own[kept], part), keep, params)


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


ADAGRAD = {"initial_accumulator_value": 0.2, "eps": 1e-3}
RMSPROP = {"decay": 0.8, "eps": 1e-3, "initial_scale": 0.01}
ADAM = {"b1": 0.8, "b2": 0.95, "eps": 1e-3, "eps_root": 1e-4}
OUTSIDE = {"eps_in_sqrt": False}

OPTIMIZERS = (
    Optimizer("sgd", gradtx.sgd, oracles.sgd, optax.sgd),
    Optimizer("sgd-momentum", gradtx.sgd, oracles.sgd, optax.sgd, {"momentum": 0.8}),
    Optimizer("sgd-nesterov", gradtx.sgd, oracles.sgd, optax.sgd, {"momentum": 0.8}, {"nesterov": True}),
    Optimizer("nag", gradtx.nag, oracles.nag, OptaxNag, {"momentum": 0.8}),
    Optimizer("adagrad", gradtx.adagrad, oracles.adagrad, optax.adagrad, ADAGRAD),
    Optimizer("adagrad-outside", gradtx.adagrad, oracles.adagrad, None, ADAGRAD, OUTSIDE),
    Optimizer(
        "adagrad-from-0",
        gradtx.adagrad,
        oracles.adagrad,
        optax.adagrad,
        {"initial_accumulator_value": 0.0, "eps": 1e-7},
    ),
    Optimizer(
        "adadelta", gradtx.adadelta, oracles.adadelta, optax.adadelta, {"rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}
    ),
    Optimizer("rmsprop", gradtx.rmsprop, oracles.rmsprop, optax.rmsprop, RMSPROP),
    Optimizer("rmsprop-outside", gradtx.rmsprop, oracles.rmsprop, optax.rmsprop, RMSPROP, OUTSIDE),
    Optimizer("rmsprop-momentum", gradtx.rmsprop, oracles.rmsprop, optax.rmsprop, {**RMSPROP, "momentum": 0.7}),
    Optimizer(
        "rmsprop-nesterov",
        gradtx.rmsprop,
        oracles.rmsprop,
        optax.rmsprop,
        {**RMSPROP, "momentum": 0.7},
        {"nesterov": True},
    ),
    Optimizer(
        "rmsprop-corrected",
        gradtx.rmsprop,
        oracles.rmsprop,
        optax.rmsprop,
        {"decay": 0.8, "eps": 1e-3},
        {"bias_correction": True},
    ),
    Optimizer("adam", gradtx.adam, oracles.adam, optax.adam, {"b1": 0.8, "b2": 0.95, "eps": 1e-3}),
    Optimizer("adam-eps-root", gradtx.adam, oracles.adam, optax.adam, ADAM),
    Optimizer("adam-nesterov", gradtx.adam, oracles.adam, optax.adam, ADAM, {"nesterov": True}),
    Optimizer("adamw", gradtx.adamw, oracles.adam, optax.adamw, {**ADAM, "weight_decay": 0.1}),
    Optimizer("adamw-masked", gradtx.adamw, oracles.adam, optax.adamw, {**ADAM, "weight_decay": 0.1}, {"mask": MASK}),
)
BY_NAME = {optimizer.name: optimizer for optimizer in OPTIMIZERS}


@dataclasses.dataclass(frozen=True)
class Part:
    """A transformation out of which optimizers are made, and optax's own of the same name and arguments."""

    name: str
    factory: Callable[..., gradtx.GradientTransformation]
    peer: Callable[..., Any]
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)

    def make(self) -> gradtx.GradientTransformation:
        """Ours."""
        return self.factory(**self.arguments)

    def make_peer(self) -> Any:
        """optax's."""
        return self.peer(**self.arguments)


def falling(count: Any) -> Any:
    """A plain function as a schedule: it works in both libraries."""
    return 1.0 / (1.0 + 0.25 * jnp.asarray(count, float))


PARTS = (
    Part("identity", gradtx.identity, optax.identity),
    Part("set_to_zero", gradtx.set_to_zero, optax.set_to_zero),
    Part("scale", gradtx.scale, optax.scale, {"step_size": -0.3}),
    Part("scale_by_learning_rate", gradtx.scale_by_learning_rate, optax.scale_by_learning_rate, {"learning_rate": 0.3}),
    Part(
        "scale_by_learning_rate-scheduled",
        gradtx.scale_by_learning_rate,
        optax.scale_by_learning_rate,
        {"learning_rate": falling, "flip_sign": False},
    ),
    Part("scale_by_schedule", gradtx.scale_by_schedule, optax.scale_by_schedule, {"step_size_fn": falling}),
    Part("momentum", gradtx.momentum, optax.trace, {"decay": 0.8}),
    Part("trace-nesterov", gradtx.trace, optax.trace, {"decay": 0.8, "nesterov": True}),
    Part("ema", gradtx.ema, optax.ema, {"decay": 0.8}),
    Part("ema-raw", gradtx.ema, optax.ema, {"decay": 0.8, "debias": False}),
    Part("scale_by_rms", gradtx.scale_by_rms, optax.scale_by_rms, RMSPROP),
    Part("scale_by_rms-outside", gradtx.scale_by_rms, optax.scale_by_rms, {**RMSPROP, **OUTSIDE}),
    Part("scale_by_rms-corrected", gradtx.scale_by_rms, optax.scale_by_rms, {**RMSPROP, "bias_correction": True}),
    Part("scale_by_rss", gradtx.scale_by_rss, optax.scale_by_rss, ADAGRAD),
    Part("scale_by_adadelta", gradtx.scale_by_adadelta, optax.scale_by_adadelta, {"rho": 0.8, "eps": 1e-3}),
    Part("scale_by_adam", gradtx.scale_by_adam, optax.scale_by_adam, ADAM),
    Part("scale_by_adam-nesterov", gradtx.scale_by_adam, optax.scale_by_adam, {**ADAM, "nesterov": True}),
    Part("add_decayed_weights", gradtx.add_decayed_weights, optax.add_decayed_weights, {"weight_decay": 0.1}),
    Part(
        "add_decayed_weights-masked",
        gradtx.add_decayed_weights,
        optax.add_decayed_weights,
        {"weight_decay": 0.1, "mask": MASK},
    ),
    Part("clip", gradtx.clip, optax.clip, {"max_delta": 0.5}),
    Part("clip_by_global_norm", gradtx.clip_by_global_norm, optax.clip_by_global_norm, {"max_norm": 2.0}),
    Part("clip_by_global_norm-unused", gradtx.clip_by_global_norm, optax.clip_by_global_norm, {"max_norm": 1e6}),
)

# One of each kernel and flag; where each variant costs seconds, the rest is left to the whole suite.
VARIED = {"sgd-momentum", "nag", "adagrad-from-0", "adadelta", "rmsprop-nesterov", "adam-eps-root", "adamw-masked"}
QUICK = {"nag", "adagrad-from-0", "adamw-masked"}


def _name(row: Any) -> str:
    return row.name


def _mostly_slow(cases: Sequence[Any]) -> pytest.MarkDecorator:
    params = [pytest.param(c, marks=[] if c.name in QUICK else pytest.mark.slow) for c in cases]
    return pytest.mark.parametrize("case", params, ids=[c.name for c in cases])


each_optimizer = pytest.mark.parametrize("case", OPTIMIZERS, ids=_name)
each_varied_optimizer = _mostly_slow([c for c in OPTIMIZERS if c.name in VARIED])
each_optimizer_costly = _mostly_slow(OPTIMIZERS)
each_part = pytest.mark.parametrize("part", PARTS, ids=_name)
