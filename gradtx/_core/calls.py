"""What an `update` is called with: the extra arguments it declares, and a state that its `init` has made."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from .._types import OptState, Params, Updates


@dataclasses.dataclass(frozen=True)
class Needs:
    """What an `update` asks for beyond updates and state, read from its signature.

    Keyword-only parameters are extra arguments; `params` without a default is required; `**extra` takes everything.
    """

    takes_params: bool
    params: bool
    required: frozenset[str]
    optional: frozenset[str]
    everything: bool

    @classmethod
    def of(cls, update: Callable[..., Any], *, skip: int = 0) -> Needs:
        """Read the signature, but for the first `skip` parameters (a method's `self`)."""
        parameters = list(inspect.signature(update).parameters.values())[skip:]
        keyword = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return cls(
            takes_params=len(positional) > 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters),
            params=len(parameters) > 2
            and parameters[2].kind is parameters[2].POSITIONAL_OR_KEYWORD
            and parameters[2].default is parameters[2].empty,
            required=frozenset(p.name for p in keyword if p.default is p.empty),
            optional=frozenset(p.name for p in keyword if p.default is not p.empty),
            everything=any(p.kind is p.VAR_KEYWORD for p in parameters),
        )

    def select(self, owner: str, params: object, extra: dict[str, Any]) -> dict[str, Any]:
        """The extra arguments to hand on. Raises for what is missing, ignores what nobody declared."""
        if self.params and params is None:
            raise ValueError(f"{owner} needs params: call tx.update(updates, state, params)")
        missing = sorted(name for name in self.required if name not in extra)
        if missing:
            several, call = "s" * (len(missing) > 1), ", ".join(f"{name}=..." for name in missing)
            raise TypeError(
                f"{owner} needs the extra argument{several} `{'`, `'.join(missing)}`: "
                f"call tx.update(updates, state, params, {call})"
            )
        if self.everything or not extra:
            return extra
        return {name: value for name, value in extra.items() if name in self.required or name in self.optional}


def checked_update(update: Callable[..., Any], owner: str) -> Callable[..., Any]:
    """The method `update`, which gets the extra arguments it declares, and a state of the class that it makes."""
    needs = Needs.of(update, skip=1)
    if not needs.takes_params:
        raise TypeError(f"{owner}: write the method as update(self, updates, state, params=None)")

    @functools.wraps(update)
    def checked(
        self: Any, updates: Updates, state: OptState, params: Params | None = None, **extra: Any
    ) -> tuple[Any, Any]:
        extra = needs.select(type(self).__name__, params, extra)
        _check_state(self, state)
        return update(self, updates, state, params, **extra)

    checked.needs = needs  # type: ignore[attr-defined]
    return checked


def checked_point(method: Callable[..., Params]) -> Callable[..., Params]:
    """The method `gradient_params` or `eval_params`, which gets a state of the class that `init` makes."""

    @functools.wraps(method)
    def checked(self: Any, params: Params, state: OptState) -> Params:
        _check_state(self, state)
        return method(self, params, state)

    return checked


def _check_state(tx: Any, state: object) -> None:
    expected = tx._state_classes()
    if expected and not isinstance(state, expected):
        raise TypeError(wrong_state(type(tx).__name__, expected, state))


def wrong_state(owner: str, expected: tuple[type, ...], state: object) -> str:
    names, came = [cls.__name__ for cls in expected], type(state).__name__
    packages = {cls.__module__.partition(".")[0] for cls in (*expected, type(state))}
    if came in names or (hasattr(state, "_fields") and len(packages) > 1):
        names, came = [f"{cls.__module__}.{cls.__name__}" for cls in expected], f"{type(state).__module__}.{came}"
        came += ", which was defined anew since" if came in names else ""
    return (
        f"{owner} expected a state of type {' or '.join(names)}, got {came}. Make it with tx.init(params), or bring an "
        "optax state in with gradtx.interop.from_optax"
    )


@functools.cache
def annotated_states(cls: Any) -> tuple[type, ...]:
    """The classes of state in the return annotation of `init`; () where it names none."""
    try:
        annotation = typing.get_type_hints(inspect.unwrap(cls.init)).get("return")
    except NameError:  # of a class that a function defines
        return ()
    members: Any = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return members if all(hasattr(member, "_fields") for member in members) else ()
