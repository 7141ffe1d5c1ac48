"""The nine laws, run over one transformation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from .._core.transformation import GradientTransformation
from . import laws as _laws
from . import precision_and_sharding as _more
from .case import LAWS, Case, sample_params


def check_transformation(
    tx: Any,
    params: Any = None,
    *,
    extra: Mapping[str, Any] | Callable[[Any, Any], Mapping[str, Any]] | None = None,
    sign: Literal["auto", "keeps", "flips", "any"] = "auto",
    refuses: Sequence[str] = (),
    laws: Sequence[str] = LAWS,
) -> None:
    """Try a transformation against the laws that all of gradtx's obey. Returns nothing if it keeps them.

    1 `pure`: jit equals eager, vmap over hyperparameters a loop, scan the steps.
    2 `abstract_init`: `jax.eval_shape(tx.init, structs)` works and allocates nothing.
    3 `stable_state`: the state's structure, shapes, dtypes and weak types never change.
    4 `same_updates`: updates come back with the structure, shapes and dtypes that went in.
    5 `one_trace`: all values of the hyperparameters share one trace.
    6 `any_tree`: `None` leaves, empty trees, scalars and arrays of size 0.
    7 `nothing_broadcast`: wrong structures and shapes are errors that name the path.
    8 `precision`: float32 inside for half precision, no NaN from zeros, 64 bits and complex.
    9 `sharding`: the state is sharded as its parameters. As many devices as there are.
    And `sign`: only a learning rate flips it.

    Args:
        tx: A gradtx transformation, or any pair with `init` and `update`.
        params: What to try it on, where the default (small float32 arrays of all ranks) will not do.
        extra: The extra arguments that it declares: `{"value": 1.0}`, or a function `(params, grads)` that makes them.
        sign: Whether the first update 'keeps' the gradient's sign or 'flips' it; 'auto' expects a flip where
            `gradtx.current` reports a learning rate; 'any' does not look.
        refuses: Dtypes that are refused on purpose: 'complex', 'float64', ... They must be refused by name.
        laws: Which laws to try.

    Raises:
        LawBroken: An AssertionError whose `law` names the first broken law, and whose message says how.
        ValueError: A law's name is unknown.
        TypeError: `tx` is not a pair.
    """
    unknown = [name for name in laws if name not in LAWS]
    if unknown:
        raise ValueError(f"unknown law {unknown[0]!r}; there are {', '.join(LAWS)}")
    adopted = tx if isinstance(tx, GradientTransformation) else GradientTransformation.adopt(tx)
    if adopted is None:
        raise TypeError(f"expected a transformation (a pair of init and update), got {tx!r}")
    case = Case(
        adopted,
        sample_params() if params is None else params,
        extra if callable(extra) else lambda params, grads: extra or {},
    )
    checks: dict[str, Callable[[], None]] = {
        "pure": lambda: _laws.pure(case),
        "abstract_init": lambda: _laws.abstract_init(case),
        "stable_state": lambda: _laws.stable_state(case),
        "same_updates": lambda: _laws.same_updates(case),
        "one_trace": lambda: _laws.one_trace(case),
        "any_tree": lambda: _laws.any_tree(case),
        "nothing_broadcast": lambda: _laws.nothing_broadcast(case),
        "precision": lambda: _more.precision(case, tuple(refuses)),
        "sharding": lambda: _more.sharding(case),
        "sign": lambda: _laws.keeps_sign(case, sign),
    }
    for name in laws:
        checks[name]()
