"""The laws, run over one transformation."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import DTypeLike

from .._core.contract import GradientTransformation
from .._types import Params, Updates

# These define the laws. A law's number is its place in the registry, and so follows from the order of the imports.
# isort: off
from . import pure as pure
from . import kinds as kinds
from . import hyperparameters as hyperparameters
from . import trees as trees
from . import precision as precision
from . import sharding as sharding
from . import sign as sign
from . import points as points

# isort: on
from .case import Case, Sign, registry
from .compare import LawBroken
from .samples import sample_params

LAWS = tuple(registry)
"""The names of gradtx's own checks: the nine laws in order, the sign, and the points."""


class Note(NamedTuple):
    """Something to know of a law that holds."""

    law: str
    text: str


@dataclasses.dataclass(frozen=True)
class Report:
    """The laws that hold, and what there is to know of how: vacuously, with a refusal, by an adapter."""

    laws: tuple[str, ...]
    notes: tuple[Note, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{len(self.laws)} laws hold: {', '.join(self.laws)}",
            *(f"  {law}: {text}" for law, text in self.notes),
        ]
        return "\n".join(lines)


def check_transformation(
    tx: object,
    params: Params = None,
    *,
    extra: Mapping[str, Any] | Callable[[Params, Updates], Mapping[str, Any]] | None = None,
    sign: Sign = "auto",
    refuses: Sequence[str] = (),
    laws: Sequence[str] = LAWS,
    dtype: DTypeLike = np.float32,
) -> Report:
    """Try a transformation against the nine laws that all of gradtx's obey, the sign, and the points.

    1. `pure`: jit equals eager, vmap over hyperparameters a loop, scan the steps; at all times and calls.
    2. `abstract_init`: `jax.eval_shape(tx.init, structs)` works and allocates nothing.
    3. `stable_state`: the state's kind never changes, counts do not wrap, and its arrays are its own.
    4. `same_updates`: updates come back with the structure, shapes and dtypes that went in.
    5. `one_trace`: all values of the hyperparameters share one trace, and each has a part in it.
    6. `any_tree`: `None` leaves and gradients, all containers, empty trees, scalars and arrays of size 0.
    7. `nothing_broadcast`: wrong structures and shapes are errors that name the path; a batch is for vmap.
    8. `precision`: float32 inside for half precision, all digits for the rest, no NaN from zeros, complex as it should.
    9. `sharding`: the state is sharded as its parameters. As many devices as there are.

    And `sign`: only a learning rate flips it; and `points`: `gradient_params`, `eval_params` and `current` are of the
    right kind.

    Random keys, typed (`jax.random.key`) or raw, may be in the state and among the leaves of `tx`.

    Args:
        tx: A gradtx transformation, or any pair with `init` and `update`.
        params: What to try it on, where the default (small arrays of all ranks) will not do. All laws then take these,
            in other dtypes and with `None` in places, and no others.
        extra: The extra arguments that it declares: `{"value": 1.0}`, or a function `(params, grads)` that makes them.
        sign: Whether updates 'keep' the gradient's sign or 'flip' it; 'auto' expects a flip where `gradtx.current`
            reports a learning rate; 'any' does not look.
        refuses: What is refused on purpose, and then must be: dtypes ('complex', 'float64', ...), by name, and
            'explicit mesh'.
        laws: Which laws to try: gradtx's own (`LAWS`), and any that are registered with `gradtx.testing.law`.
        dtype: The dtype of the default `params`. With float64, values are compared to roundings of float64.

    Returns:
        The laws that hold, and notes: what holds vacuously, what is refused by name, and what an adapter does for a
        foreign transformation. `print` shows it.

    Raises:
        LawBroken: An AssertionError whose `law` names the first broken law, and whose message says how.
        ValueError: if a law's name is unknown.
        TypeError: if `tx` is not a pair.
    """
    unknown = [name for name in laws if name not in registry]
    if unknown:
        raise ValueError(f"unknown law {unknown[0]!r}; there are {', '.join(registry)}")
    coerced = tx if isinstance(tx, GradientTransformation) else GradientTransformation.coerce(tx)
    if coerced is None:
        raise TypeError(f"expected a transformation (a pair of init and update), got {tx!r}")
    is_double = np.dtype(dtype) in (np.float64, np.complex128)
    notes: list[Note] = []
    with jax.enable_x64(True) if is_double else contextlib.nullcontext():
        case = Case(
            coerced,
            sample_params(dtype) if params is None else params,
            extra if callable(extra) else lambda params, grads: extra or {},
            sign,
            tuple(refuses),
            dtype,
            params is not None,
        )
        for name in laws:
            try:
                registry[name](case)
            except LawBroken as error:
                error.law, error.number = name, list(registry).index(name) + 1
                raise
            notes += [Note(name, text) for text in case.notes]
            case.notes.clear()
    return Report(tuple(laws), tuple(notes))
