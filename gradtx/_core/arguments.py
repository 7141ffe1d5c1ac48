"""What an argument is: data (a child of the pytree) or static. The annotation alone decides.

`Scalar`, `ScalarOrSchedule`, arrays, transformations and schedules are data; bool, int, str, dtypes, callables and
masks are static. An annotation may carry a `Range`, which concrete values are held to when they are given. Tracers
pass: their values are not known, and asking would break `jit`, `vmap` and `grad`.
"""

import collections.abc
import dataclasses
import enum
import inspect
import math
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import AbstractArray, PyTree

Kind = Literal["data", "static"]


@dataclasses.dataclass(frozen=True)
class Range:
    """The values that a number may take, and how to mend one that is outside."""

    words: str
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    mend: str = ""

    def holds(self, value: np.ndarray) -> bool:
        """Whether every entry is finite and inside (`high` itself is always outside)."""
        above = value > self.low if self.low_open else value >= self.low
        return bool(np.all(np.isfinite(value) & above & (value < self.high)))


@dataclasses.dataclass(frozen=True)
class Convert:
    """Brings an argument into the form in which it is stored (a dict of boundaries into pairs, say)."""

    function: Callable[[Any], Any]


FINITE = Range("a finite number")
Data = Annotated[Any, "data"]
Static = Annotated[Any, "static"]

Number = float | jax.Array | np.ndarray | np.floating | np.integer
Scalar = Annotated[Number, "data"]
NonNegative = Annotated[Scalar, Range("a finite number >= 0", low=0.0)]
Positive = Annotated[Scalar, Range("a finite number > 0", low=0.0, low_open=True)]
Decay = Annotated[Scalar, Range("in [0, 1)", low=0.0, high=1.0, mend="A decay of 1 would never let a new value in.")]


def _dtype(value: DTypeLike | None) -> np.dtype | None:
    dtype = None if value is None else jnp.dtype(value)
    if dtype is not None and not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(f"an accumulator needs a floating or complex dtype, got {dtype}")
    return dtype


DType = Annotated[DTypeLike | None, "static", Convert(_dtype)]


def _own_containers(tree: Any) -> Any:
    # A dict that is changed later does not change what was made of it.
    return jax.tree.map(lambda leaf: leaf, tree)


Weights = Annotated[PyTree, "data", Convert(_own_containers)]

_STATIC_TYPES = (bool, int, str, bytes, enum.Enum, np.dtype, type)
_NONE = (None, type(None))


def kind_of(annotation: Any) -> Kind | None:
    """'data', 'static', None for None itself; raises TypeError where the annotation does not decide."""
    if annotation in _NONE:
        return None
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        if "data" in parts[1:] or "static" in parts[1:]:
            return "data" if "data" in parts[1:] else "static"
        return kind_of(parts[0])
    if origin in (typing.Union, types.UnionType, list, tuple, set, frozenset, collections.abc.Sequence):
        return _agreed(annotation, [part for part in parts if part is not Ellipsis])
    if origin in (dict, collections.abc.Mapping):
        return kind_of(parts[1])
    if origin in (Literal, type, collections.abc.Callable) or annotation is collections.abc.Callable:
        return "static"
    if annotation is PyTree or (getattr(annotation, "__module__", "").startswith("jaxtyping") and origin is None):
        return "data"
    if isinstance(annotation, type):
        if hasattr(annotation, "adopt") or issubclass(annotation, (jax.Array, AbstractArray)):
            return "data"
        if issubclass(annotation, _STATIC_TYPES):
            return "static"
    raise TypeError(f"annotation {annotation!r} does not say whether the argument is data or static")


def _agreed(annotation: Any, parts: list[Any]) -> Kind | None:
    kinds: set[Kind] = {kind for kind in map(kind_of, parts) if kind is not None}
    if len(kinds) > 1:
        raise TypeError(f"annotation {annotation!r} mixes data and static")
    return kinds.pop() if kinds else None


def _walk(annotation: Any) -> collections.abc.Iterator[Any]:
    yield annotation
    for part in typing.get_args(annotation):
        yield from _walk(part)


@dataclasses.dataclass(frozen=True)
class Argument:
    """One parameter of a factory, as its annotation describes it."""

    name: str
    kind: Kind
    range: Range
    adopters: tuple[Any, ...]  # configured classes that may take a foreign value in
    convert: Callable[[Any], Any] | None
    container: bool  # a tuple, list or mapping of data is one argument
    nested: bool  # and its items may be such again
    numbers: bool  # numbers are allowed (a schedule's place may hold one)
    free: bool  # arrays of any kind and dtype (weights), not hyperparameters
    optional: bool  # None is allowed
    static_types: tuple[type, ...]  # what a static value has to be an instance of; () where anything goes

    @classmethod
    def read(cls, function: Callable, parameter: inspect.Parameter) -> "Argument":
        """From the signature; the error names the function and the parameter."""
        where = f"{function.__name__}: parameter `{parameter.name}`"
        if parameter.annotation is parameter.empty:
            raise TypeError(f"{where} has no annotation; annotate it: Scalar for data, bool or str, say, for static")
        annotation = parameter.annotation
        try:
            if isinstance(annotation, str):
                annotation = eval(annotation, inspect.unwrap(function).__globals__)
            kind = kind_of(annotation)
        except (TypeError, NameError) as error:
            raise TypeError(f"{where} cannot be decided: {error}. Annotate it with Scalar, or with Static") from error
        nodes = list(_walk(annotation))
        ranges = [node for node in nodes if isinstance(node, Range)]
        converts = [node.function for node in nodes if isinstance(node, Convert)]
        origins = {typing.get_origin(node) for node in nodes}
        containers = (list, tuple, dict, collections.abc.Sequence, collections.abc.Mapping)
        variadic = parameter.kind is parameter.VAR_POSITIONAL
        contains = bool(origins.intersection(containers))
        adopters = tuple(dict.fromkeys(node for node in nodes if isinstance(node, type) and hasattr(node, "adopt")))
        return cls(
            name=parameter.name,
            kind=kind or "static",
            range=ranges[-1] if ranges else FINITE,
            adopters=adopters,
            convert=converts[0] if converts else None,
            container=variadic or contains,
            nested=contains and not variadic,
            numbers=Number in nodes,
            free=kind == "data" and not adopters and Number not in nodes,
            optional=any(node in _NONE for node in nodes if node is None or isinstance(node, type)),
            static_types=_plain_types(annotation) if kind == "static" else (),
        )

    def take(self, value: Any, owner: str, *, validate: bool) -> Any:
        """The value as it is stored: adopted, converted to float, checked. Raises TypeError or ValueError."""
        where = f"{owner}: `{self.name}`"
        if self.convert is not None:
            value = self.convert(value)
        if self.kind == "static":
            if self.static_types and not isinstance(value, self.static_types):
                expected = " or ".join(t.__name__ for t in self.static_types)
                raise TypeError(f"{where} must be {expected}, got {value!r} ({type(value).__name__})")
            return value
        if self.container:
            return self._items(value, where, validate)
        return self._item(value, where, validate)

    def _items(self, value: Any, where: str, validate: bool) -> Any:
        """Each item of a container; a bare item, which may itself be a pair, where it is none."""
        if type(value) in (tuple, list):
            # One form for both, so that equal arguments are equal configurations.
            return tuple(self._item(item, f"{where}[{i}]", validate) for i, item in enumerate(value))
        if isinstance(value, collections.abc.Mapping):
            items = ((key, self._item(item, f"{where}[{key!r}]", validate)) for key, item in value.items())
            return type(value)(items)  # type: ignore[call-arg]
        return self._item(value, where, validate)

    def _item(self, value: Any, where: str, validate: bool) -> Any:
        if isinstance(value, self.adopters) or self.free or (value is None and (self.optional or not validate)):
            return value
        for adopter in self.adopters:
            adopted = adopter.adopt(value)
            if adopted is not None:
                return adopted
        if self.nested and type(value) in (tuple, list):
            return self._items(value, where, validate)
        if not self.numbers:
            raise TypeError(f"{where} must be {self._expected()}, got {value!r} ({type(value).__name__})")
        return number(value, where, self.range, self._expected(), validate=validate)

    def _expected(self) -> str:
        names = [adopter.describes for adopter in self.adopters]
        return " or ".join([*(["a number", "an array of floats"] if self.numbers else []), *names])


def number(value: Any, where: str, range_: Range, expected: str, *, validate: bool) -> Any:
    """A hyperparameter as it is stored: a Python float, a float array, or a tracer."""
    wrong = TypeError(f"{where} must be {expected}, got {value!r} ({type(value).__name__})")
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise ValueError(_outside(where, range_, "an int too large for a float")) from None
        if validate and not range_.holds(np.asarray(value)):
            raise ValueError(_outside(where, range_, repr(value)))
        return value
    if not isinstance(value, (np.ndarray, jax.Array)) or not jnp.issubdtype(value.dtype, np.number):
        raise wrong
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise TypeError(f"{where} must be real, got an array of {value.dtype}")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        value = value.astype(jnp.result_type(float))
    if validate and not isinstance(value, Tracer):
        concrete = np.asarray(value, dtype=np.float64)
        if not range_.holds(concrete):
            raise ValueError(_outside(where, range_, np.array2string(concrete, threshold=8)))
    return value


def _outside(where: str, range_: Range, came: str) -> str:
    return " ".join(filter(None, [f"{where} must be {range_.words}, got {came}.", range_.mend]))


def _plain_types(annotation: Any) -> tuple[type, ...]:
    """The classes of a static annotation where it is a plain union of them; () where it says more."""
    members = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    plain = tuple(type(None) if member is None else member for member in members)
    return plain if all(isinstance(m, type) and typing.get_origin(m) is None for m in plain) else ()
