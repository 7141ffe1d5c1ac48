"""The optimizers compared, and how each library spells them.

gradtx and optax share names, arguments and defaults, so one entry serves both. PyTorch's fused
implementation is used where it has one for the CPU, its `foreach` one otherwise.
"""

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import jax
import optax

import gradtx

LIBRARIES: Mapping[str, ModuleType] = {"gradtx": gradtx, "optax": optax}

LEARNING_RATE = 1e-3
MOMENTUM = 0.9


@dataclass(frozen=True)
class Optimizer:
    """One algorithm with one set of hyperparameters. `slots`: arrays of state a parameter needs."""

    factory: str
    slots: int
    torch_class: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    torch_arguments: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = LEARNING_RATE

    def build(self, library: ModuleType) -> Any:
        """As gradtx or optax has it."""
        return getattr(library, self.factory)(self.learning_rate, **self.arguments)

    def build_torch(self, params: Iterable[Any]) -> Any:
        """As PyTorch has it, in its fastest form for the CPU."""
        torch = load_torch()
        make = getattr(torch.optim, self.torch_class)
        arguments = {"lr": self.learning_rate, **self.torch_arguments}
        params = list(params)
        try:
            return make(params, fused=True, **arguments)
        except (RuntimeError, TypeError):  # no fused form of this algorithm, or none for this device
            return make(params, foreach=True, **arguments)

    @property
    def least_bytes(self) -> int:
        """Traffic a float32 parameter costs: read it, its gradient and slots; write it and its slots."""
        return 4 * (3 + 2 * self.slots)


OPTIMIZERS: Mapping[str, Optimizer] = {
    "sgd": Optimizer("sgd", 0, "SGD"),
    "momentum": Optimizer("sgd", 1, "SGD", {"momentum": MOMENTUM}, {"momentum": MOMENTUM}),
    "nesterov": Optimizer(
        "sgd",
        1,
        "SGD",
        {"momentum": MOMENTUM, "nesterov": True},
        {"momentum": MOMENTUM, "nesterov": True},
    ),
    "adagrad": Optimizer("adagrad", 1, "Adagrad", {}, {"initial_accumulator_value": 0.1}),
    "adadelta": Optimizer("adadelta", 2, "Adadelta", learning_rate=1.0),
    "rmsprop": Optimizer("rmsprop", 1, "RMSprop"),
    "adam": Optimizer("adam", 2, "Adam"),
    "adamw": Optimizer("adamw", 2, "AdamW"),
}


def load_torch() -> Any:
    """The module, which is no dependency of ours: type checkers need not have it."""
    return importlib.import_module("torch")


def torch_comparable() -> bool:
    """PyTorch is installed, and would run on the device that JAX runs on."""
    return importlib.util.find_spec("torch") is not None and jax.default_backend() == "cpu"
