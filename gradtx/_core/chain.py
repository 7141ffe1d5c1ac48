"""Composition: one transformation after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._trees.precision import restore, widen
from .._types import OptState, Params, Updates
from .contract import GradientTransformation
from .paths import Path


class chain(GradientTransformation):
    """Apply transformations in order; the updates of each are the next one's input.

    Half-precision updates are widened to float32 once on the way in, and restored once on the way out. `tx[1]` is the
    second stage.

    State: a tuple of the stages' states.

    Args:
        transforms: gradtx transformations, or any `(init, update)` pairs (optax's).

    Raises:
        ValueError: if more than one stage defines `gradient_params` (or `eval_params`), or one that defines
            `gradient_params`, or keeps track of the parameters (`average`), is not the last.
        TypeError: if an argument is not a pair.
    """

    transforms: tuple[GradientTransformation, ...]

    def __init__(self, *transforms: object) -> None:
        self._set_fields(transforms=transforms)

    def __check_init__(self) -> None:
        names = self._stages()
        for method in ("gradient_params", "eval_params"):
            stages = zip(names, self.transforms, strict=True)
            found = [(name, definer) for name, tx in stages if (definer := tx._definer(method))]
            both = " and ".join(f"{name} ({definer})" for name, definer in found[:2])
            if len(found) > 1:
                raise ValueError(f"{type(self).__name__}: stages {both} both define {method}; only one can")
            if found and method == "gradient_params" and found[0][0] != names[-1]:
                raise ValueError(
                    f"{type(self).__name__}: stage {both} defines gradient_params and must come last: a later "
                    "stage would change the step that its look-ahead point assumes"
                )
        for name, tx in list(zip(names, self.transforms, strict=True))[:-1]:
            owner = tx._step_owner()
            if owner:
                raise ValueError(
                    f"{type(self).__name__}: stage {name} ({owner}) keeps track of the parameters that its updates "
                    "lead to, and must come last: a later stage would change them"
                )

    def init(self, params: Params) -> OptState:
        """The stages' states."""
        return self._packed([tx.init(params) for tx in self.transforms])

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, OptState]:
        """The stages' updates, one after another."""
        wide, states = widen(updates), []
        for tx, part in zip(self.transforms, self._unpacked(state), strict=True):
            wide, part = tx.update(wide, part, params, **extra)
            states.append(part)
        return restore(wide, updates), self._packed(states)

    def _stages(self) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.transforms))))

    def _packed(self, states: list[Any]) -> Any:
        return tuple(states)

    def _unpacked(self, state: object) -> tuple[Any, ...]:
        if type(state) is not tuple or len(state) != len(self.transforms):
            raise TypeError(self._wrong(f"a tuple of {len(self.transforms)} states", state))
        return state

    def _wrong(self, expected: str, state: object) -> str:
        came = type(state).__name__ + (f" of {len(state)}" if isinstance(state, (tuple, dict, list)) else "")
        return (
            f"{type(self).__name__} expected {expected}, got {came}. Make it with tx.init(params), or from one that "
            "was restored or is optax's with gradtx.interop.from_optax"
        )

    def _inside(self, state: object) -> list[tuple[Path, GradientTransformation, Any]]:
        states = [None] * len(self.transforms) if state is None else self._unpacked(state)
        return [((n,), tx, part) for n, tx, part in zip(self._stages(), self.transforms, states, strict=True)]

    def _items(self) -> dict[str, Any]:
        return dict(zip(self._stages(), self.transforms, strict=True))

    def _with_items(self, changes: Mapping[str, Any]) -> Any:
        stages = {**self._items(), **changes}
        return type(self)._make({**self._values(), "transforms": tuple(stages.values())})

    def __getitem__(self, index: int) -> GradientTransformation:
        return self.transforms[index]

    def _shown(self) -> list[str]:
        return [repr(tx) for tx in self.transforms]


class named_chain(chain):
    """`chain` with a name for each stage: `named_chain(("clip", clip(1.0)), ("adam", adam(1e-3)))`.

    `tx.adam` is the stage of that name.

    State: a dict of the stages' states by name.

    Args:
        transforms: Pairs of a name and a transformation.

    Raises:
        ValueError: if two stages have one name, or one has a dot in it; and as `chain`.
        TypeError: if an argument is not a pair of a name and a transformation.
    """

    names: tuple[str, ...]

    def __init__(self, *transforms: tuple[str, Any]) -> None:
        for pair in transforms:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise TypeError(f"named_chain: expected pairs like ('clip', gradtx.clip(1.0)), got {pair!r}")
        names, stages = tuple(name for name, _ in transforms), tuple(tx for _, tx in transforms)
        self._set_fields(transforms=stages, names=names)

    def __check_init__(self) -> None:
        if len(self.names) != len(self.transforms):
            raise ValueError(f"named_chain: {len(self.names)} names for {len(self.transforms)} stages")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"named_chain: names must differ, got {list(self.names)}")
        for name in self.names:
            if "." in name or name in ("names", "transforms"):  # paths of `replace` would not be clear
                raise ValueError(f"named_chain: {name!r} cannot name a stage; use another word, without dots")
        super().__check_init__()

    def __getattr__(self, name: str) -> Any:
        names = self.__dict__.get("names", ())
        if name in names:
            return self.transforms[names.index(name)]
        raise AttributeError(f"named_chain has no stage or attribute {name!r}; it has {', '.join(names)}")

    def _stages(self) -> tuple[str, ...]:
        return self.names

    def _packed(self, states: list[Any]) -> Any:
        return dict(zip(self.names, states, strict=True))

    def _unpacked(self, state: object) -> tuple[Any, ...]:
        if not isinstance(state, dict) or set(state) != set(self.names):
            raise TypeError(self._wrong(f"a dict of states for {list(self.names)}", state))
        return tuple(state[name] for name in self.names)

    def _shown(self) -> list[str]:
        return [repr(pair) for pair in zip(self.names, self.transforms, strict=True)]
