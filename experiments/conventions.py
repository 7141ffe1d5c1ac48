"""One name, several methods: optimizers as papers, libraries and the study's code define them.

What gradtx has as arguments is written with them; the study's code is in `experiments.printed`; what is left is here.
The table in `docs/differences.md` lists where the conventions differ. A convention that is the same rule as another
one, at the same default rate, is named with it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import gradtx
from experiments import printed
from experiments.methods import METHODS, Method
from experiments.surfaces import BOWL, SADDLE, trajectories
from gradtx import Decay, NonNegative, Scalar

BASE = "optax"
"""The convention that others are compared with; gradtx has its defaults."""
STUDY = "study's code"


class KerasAdamState(NamedTuple):
    """State of `keras_adam`."""

    count: jax.Array
    """Number of updates."""
    mu: Any
    """Decaying mean of gradients, like `params`."""
    nu: Any
    """Decaying mean of squared gradients, like `params`."""


def _keras_adam(
    updates: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    learning_rate: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    count: jax.Array,
) -> Any:
    rate = learning_rate * jnp.sqrt(1 - b2**count) / (1 - b1**count)
    mu = b1 * mu + (1 - b1) * updates
    nu = b2 * nu + (1 - b2) * jnp.real(updates * jnp.conj(updates))
    # Hypergradients: the root has no derivative at 0, where an entry never had a gradient.
    root = jnp.where(nu > 0, jnp.sqrt(jnp.where(nu > 0, nu, 1.0)), 0.0)
    return -rate * mu / (root + eps), mu, nu


class keras_adam(gradtx.GradientTransformation):
    r"""Adam with eps before the bias correction, as Keras has it.

    $$\theta_t = \theta_{t-1} - \eta \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t} \cdot \frac{m_t}{\sqrt{v_t} + \epsilon}$$

    The effective eps is $\epsilon / \sqrt{1 - \beta_2^t}$: at the first step 32 times as large as it looks.

    Source: Kingma and Ba, 2015, the remark before section 2.1, whose "epsilon hat" this is; Keras 3.
    """

    learning_rate: Scalar
    b1: Decay = 0.9
    b2: Decay = 0.999
    eps: NonNegative = 1e-7

    def init(self, params: Any) -> KerasAdamState:
        nu = gradtx.zeros_like(params, real=True)
        return KerasAdamState(jnp.zeros([], jnp.int32), gradtx.zeros_like(params), nu)

    def update(self, updates: Any, state: KerasAdamState, params: Any = None) -> tuple[Any, KerasAdamState]:
        trees, count = {"updates": updates, "mu": state.mu, "nu": state.nu}, gradtx.safe_increment(state.count)
        updates, mu, nu = gradtx.map_leaves(
            _keras_adam, trees, learning_rate=self.learning_rate, b1=self.b1, b2=self.b2, eps=self.eps, count=count
        )
        return updates, KerasAdamState(count, mu, nu)


_adagrad_0 = partial(gradtx.adagrad, initial_accumulator_value=0.0, eps_in_sqrt=False)
DEFAULTS = {method.name: method.default for method in METHODS}
VARIANTS: dict[str, dict[str, tuple[Any, float]]] = {
    "NAG": {
        BASE: (partial(gradtx.sgd, momentum=0.9, nesterov=True), DEFAULTS["NAG"]),
        "paper": (partial(gradtx.nag, momentum=0.9), DEFAULTS["NAG"]),
        STUDY: (partial(printed.nesterov, discount=0.9), DEFAULTS["NAG"]),
    },
    "Adagrad": {
        BASE: (gradtx.adagrad, DEFAULTS["Adagrad"]),
        "PyTorch": (partial(_adagrad_0, eps=1e-10), 1e-2),
        "Keras": (gradtx.adagrad, 1e-3),
        STUDY: (printed.adagrad, 1e-2),
    },
    "Adadelta": {
        BASE: (gradtx.adadelta, DEFAULTS["Adadelta"]),
        "paper": (partial(gradtx.adadelta, rho=0.95), 1.0),
        "Keras": (partial(gradtx.adadelta, rho=0.95, eps=1e-7), 1e-3),
        STUDY: (printed.adadelta, 1.0),
    },
    "RMSprop": {
        BASE: (gradtx.rmsprop, DEFAULTS["RMSprop"]),
        "PyTorch": (partial(gradtx.rmsprop, decay=0.99, eps_in_sqrt=False), 1e-2),
        "Keras": (partial(gradtx.rmsprop, eps=1e-7), 1e-3),
        STUDY: (printed.rmsprop, 1e-3),
    },
    "Adam": {
        BASE: (gradtx.adam, DEFAULTS["Adam"]),
        "Keras": (keras_adam, 1e-3),
        STUDY: (printed.adam, 1e-3),
    },
}
"""By optimizer and convention: how it is made at a learning rate, and the rate it has by default.

optax has no default rates: those of `methods.METHODS` stand for them. PyTorch's NAG, Adam and Adadelta, the papers'
Adam and Adagrad (PyTorch's, with an eps) and Keras's NAG are the same rule at the same rate as one that is listed.
"""


def full_name(optimizer: str, convention: str) -> str:
    """What tables and pictures call a variant."""
    return f"{optimizer} ({convention})"


def methods() -> tuple[Method, ...]:
    """All variants, as what `comparison.compare` trains with."""
    return tuple(
        Method(full_name(optimizer, convention), make, rate)
        for optimizer, variants in VARIANTS.items()
        for convention, (make, rate) in variants.items()
    )


def bites() -> xr.Dataset:
    """Single numbers in which a convention shows: `value` over `bite`, with the coordinates `what` and `convention`."""
    rows = [*_first_steps(), *_paths()]
    what, convention, value = zip(*rows, strict=True)
    coords = {"what": ("bite", list(what)), "convention": ("bite", list(convention))}
    return xr.Dataset({"value": ("bite", np.array(value))}, coords=coords)


def _first_steps() -> list[tuple[str, str, float]]:
    adam, rmsprop = VARIANTS["Adam"], VARIANTS["RMSprop"]
    rows = [
        ("Adam, rate 0.1: first step at a gradient of 1e-6", name, steps(make(0.1), 1e-6, 1)[0])
        for name, (make, _) in adam.items()
    ]
    for after in (1, 12):
        rows += [
            (f"Adam, rate 1: length of step {after} at a gradient of 1", name, steps(make(1.0), 1.0, after)[-1])
            for name, (make, _) in adam.items()
        ]
    return rows + [
        ("RMSprop, rate 1: first step at a gradient of 1", name, steps(make(1.0), 1.0, 1)[0])
        for name, (make, _) in rmsprop.items()
    ]


def steps(tx: gradtx.GradientTransformation, gradient: float, count: int) -> list[float]:
    """The lengths of the first steps at a gradient that stays the same."""
    with jax.enable_x64(True):
        params = jnp.zeros((), jnp.float64)
        state, taken = tx.init(params), []
        for _ in range(count):
            update, state = tx.update(jnp.asarray(gradient, jnp.float64), state, params)
            taken.append(abs(float(update)))
    return taken


def _paths() -> list[tuple[str, str, float]]:
    rows = []
    for name, (make, _) in VARIANTS["Adagrad"].items():
        path = trajectories(SADDLE, make(1.0), 1, learning_rate=1.0).isel(learning_rate=0)
        rows.append(("Adagrad, rate 1: first step in y on the saddle", name, abs(float(path.y[1] - path.y[0]))))
    for optimizer, rate in (("Adadelta", 1.0), ("NAG", 0.01)):
        for name, (make, _) in VARIANTS[optimizer].items():
            loss = float(trajectories(BOWL, make(rate), 50, learning_rate=rate).loss[0, -1])
            rows.append((f"{optimizer}, rate {rate:g}: loss on the bowl after 50 steps, of 299", name, loss))
    return rows
