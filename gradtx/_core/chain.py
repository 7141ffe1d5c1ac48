"""Composition: one transformation after another."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Annotated, Any, cast

import jax

from .arguments import Convert
from .precision import restore, widen
from .transformation import GradientTransformation, Needs, Pair, Transform, TransformLike, transformation


@transformation
def chain(*transforms: TransformLike) -> Transform:
    """Apply transformations in order; the updates of each are the next one's input.

    Half-precision updates are widened to float32 once on the way in, and restored once on the way out.

    State: a tuple of the stages' states.

    Args:
        transforms: gradtx transformations, or any `(init, update)` pairs (optax's).

    Raises:
        ValueError: More than one stage defines `gradient_params` (or `eval_params`), or one that defines
            `gradient_params` is not the last.
        TypeError: An argument is not a pair.
    """
    return _compose("chain", [str(i) for i in range(len(transforms))], cast(Any, transforms), tuple, tuple)


def _by_name(pairs: Any) -> Any:
    """Pairs of a name and a transformation as an ordered mapping: names are structure, not leaves."""
    if isinstance(pairs, OrderedDict):
        return pairs
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise TypeError(f"named_chain: expected pairs like ('clip', gradtx.clip(1.0)), got {pair!r}")
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"named_chain: names must differ, got {names}")
    return OrderedDict(pairs)


@transformation
def named_chain(
    *transforms: Annotated[tuple[str, GradientTransformation | Pair], "data", Convert(_by_name)],
) -> Transform:
    """`chain` with a name for each stage: `named_chain(("clip", clip(1.0)), ("adam", adam(1e-3)))`.

    State: a dict of the stages' states by name.

    Raises:
        ValueError: Two stages have one name; and as `chain`.
        TypeError: An argument is not a pair of a name and a transformation.
    """
    names = [name for name, _ in transforms]
    return _compose(
        "named_chain",
        names,
        [tx for _, tx in transforms],  # type: ignore[misc]
        lambda states: dict(zip(names, states, strict=True)),
        lambda state: tuple(state[name] for name in names),
    )


def _compose(
    owner: str,
    names: Sequence[str],
    stages: Sequence[GradientTransformation],
    pack: Callable[[Sequence[Any]], Any],
    unpack: Callable[[Any], tuple[Any, ...]],
) -> Transform:
    pairs = [stage.transform() for stage in stages]
    needs = Needs()
    for pair in pairs:
        needs = needs | pair.declared

    def init(params: Any) -> Any:
        return pack([pair.init(params) for pair in pairs])

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        _check_state(owner, names, state)
        wide, states = widen(updates), []
        for stage, pair, part in zip(stages, pairs, unpack(state), strict=True):
            wide, part = pair.apply(stage._factory.short, wide, part, params, extra)
            states.append(part)
        return restore(wide, updates), pack(states)

    def lifted(field: str) -> Callable[..., Any] | None:
        which = _only(owner, field, names, pairs)
        if which is None:
            return None
        function = getattr(pairs[which], field)
        return lambda *arguments: function(*arguments[:-1], unpack(arguments[-1])[which])

    def current(state: Any) -> dict[str, jax.Array]:
        reports = [pair.current(part) if pair.current else {} for pair, part in zip(pairs, unpack(state), strict=True)]
        keys = [key for report in reports for key in report]
        return {
            key if keys.count(key) == 1 else f"{name}.{key}": value
            for name, report in zip(names, reports, strict=True)
            for key, value in report.items()
        }

    return Transform(
        init, update, lifted("gradient_params"), lifted("eval_params"), None, current, needs, lifted("evaluated")
    )


def _only(owner: str, field: str, names: Sequence[str], pairs: Sequence[Transform]) -> int | None:
    """The one stage that defines `field`, or None."""
    found = [i for i, pair in enumerate(pairs) if getattr(pair, field) is not None]
    if len(found) > 1:
        raise ValueError(f"{owner}: stages {names[found[0]]} and {names[found[1]]} both define {field}; only one can")
    if found and field == "gradient_params" and found[0] != len(pairs) - 1:
        raise ValueError(
            f"{owner}: stage {names[found[0]]} defines gradient_params and must come last: a later stage would change "
            "the step that its look-ahead point assumes"
        )
    return found[0] if found else None


def _check_state(owner: str, names: Sequence[str], state: Any) -> None:
    if owner == "named_chain":
        fits = isinstance(state, dict) and set(state) == set(names)
        expected = f"a dict of states for {list(names)}"
    else:
        fits = type(state) is tuple and len(state) == len(names)
        expected = f"a tuple of {len(names)} states"
    if not fits:
        came = f"{type(state).__name__}" + (f" of {len(state)}" if isinstance(state, (tuple, dict, list)) else "")
        raise TypeError(
            f"{owner} expected {expected}, got {came}. Make it with tx.init(params), or from one that was restored or "
            "is optax's with gradtx.interop.from_optax"
        )
