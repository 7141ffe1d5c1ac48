"""The laws, run over one transformation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike

from .._core.contract import GradientTransformation
from .._core.types import Params, Updates

# These define the laws. A law's number is its place in the registry, and so follows from the order of the imports.
from . import laws as laws
from . import precision as precision
from . import sharding as sharding
from . import sign as sign
from .case import Case, LawBroken, Sign, registry, sample_params

LAWS = tuple(registry)
"""The names of gradtx's own checks: the nine laws in order, and the sign."""


def check_transformation(
    tx: object,
    params: Params = None,
    *,
    extra: Mapping[str, Any] | Callable[[Params, Updates], Mapping[str, Any]] | None = None,
    sign: Sign = "auto",
    refuses: Sequence[str] = (),
    laws: Sequence[str] = LAWS,
    dtype: DTypeLike = np.float32,
) -> None:
    """Try a transformation against the nine laws that all of gradtx's obey, and the sign. Returns nothing if it does.

    1. `pure`: jit equals eager, vmap over hyperparameters a loop, scan the steps.
    2. `abstract_init`: `jax.eval_shape(tx.init, structs)` works and allocates nothing.
    3. `stable_state`: the state's structure, shapes, dtypes and weak types never change.
    4. `same_updates`: updates come back with the structure, shapes and dtypes that went in.
    5. `one_trace`: all values of the hyperparameters share one trace.
    6. `any_tree`: `None` leaves, empty trees, scalars and arrays of size 0.
    7. `nothing_broadcast`: wrong structures and shapes are errors that name the path.
    8. `precision`: float32 inside for half precision, no NaN from zeros, 64 bits and complex.
    9. `sharding`: the state is sharded as its parameters. As many devices as there are.

    And `sign`: only a learning rate flips it.

    Random keys, typed (`jax.random.key`) or raw, may be in the state and among the leaves of `tx`.

    Args:
        tx: A gradtx transformation, or any pair with `init` and `update`.
        params: What to try it on, where the default (small arrays of all ranks) will not do.
        extra: The extra arguments that it declares: `{"value": 1.0}`, or a function `(params, grads)` that makes them.
        sign: Whether the first update 'keeps' the gradient's sign or 'flips' it; 'auto' expects a flip where
            `gradtx.current` reports a learning rate; 'any' does not look.
        refuses: Dtypes that are refused on purpose: 'complex', 'float64', ... They must be refused by name.
        laws: Which laws to try: gradtx's own (`LAWS`), and any that are registered with `gradtx.testing.law`.
        dtype: The dtype of the default `params`. With float64, values are compared to roundings of float64.

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
    with jax.enable_x64(True) if is_double else contextlib.nullcontext():
        case = Case(
            coerced,
            sample_params(dtype) if params is None else params,
            extra if callable(extra) else lambda params, grads: extra or {},
            sign,
            tuple(refuses),
            dtype,
        )
        for name in laws:
            try:
                registry[name](case)
            except LawBroken as error:
                error.law = name
                raise
