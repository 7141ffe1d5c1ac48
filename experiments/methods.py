"""What is compared: optimizers as functions of the learning rate, with the rate that people use by default.

The seven of the study are `METHODS`. All but the learning rate is what the study used, or the library's default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

import gradtx

Make = Callable[[Any], gradtx.GradientTransformation]


@dataclass(frozen=True)
class Schedule:
    """A learning rate over the whole of training: `shape(peak, steps)`, a gradtx schedule."""

    name: str
    shape: Callable[[Any, int], Any]


@dataclass(frozen=True, repr=False)
class Method:
    """An optimizer whose learning rate is still open.

    Attributes:
        name: In tables and pictures.
        make: Makes it at a learning rate, which may be an array of many, or a schedule.
        default: The rate that its paper or the common libraries start with.
        schedule: Of the rate; none keeps it constant.
    """

    name: str
    make: Make
    default: float
    schedule: Schedule | None = None

    def lanes(self, rates: Float[np.ndarray, " lanes"], steps: int) -> gradtx.GradientTransformation:
        """One transformation a rate: each leaf leads with the axis of the rates.

        Args:
            rates: The (peak) learning rates.
            steps: How many steps training has, for a schedule.
        """
        tx = self.make(rates if self.schedule is None else self.schedule.shape(rates, steps))
        return jax.tree.map(lambda leaf: np.broadcast_to(np.asarray(leaf, np.float32), rates.shape), tx)

    def with_schedule(self, schedule: Schedule) -> Method:
        """The same with a schedule."""
        return replace(self, schedule=schedule)

    def __repr__(self) -> str:
        schedule = f", {self.schedule.name}" if self.schedule else ""
        return f"Method({self.name!r}, {self.make(self.default)!r}{schedule})"


COSINE = Schedule("cosine to 0", lambda peak, steps: gradtx.cosine_decay_schedule(peak, steps))

METHODS = (
    Method("SGD", gradtx.sgd, 1e-2),
    Method("Momentum", partial(gradtx.sgd, momentum=0.9), 1e-2),
    Method("NAG", partial(gradtx.nag, momentum=0.9), 1e-2),
    Method("Adagrad", gradtx.adagrad, 1e-2),
    Method("Adadelta", gradtx.adadelta, 1.0),
    Method("RMSprop", gradtx.rmsprop, 1e-3),
    Method("Adam", gradtx.adam, 1e-3),
)
