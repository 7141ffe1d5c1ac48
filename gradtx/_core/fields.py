"""What a field is: data (a child of the pytree) or static. The annotation alone decides, never the value.

`Scalar`, `ScalarOrSchedule`, arrays, transformations and schedules are data; bool, int, str, enums, dtypes, `Literal`s,
callables and masks are static. An annotation may carry a `Range`. Concrete values are held to it when they are given;
tracers pass, since asking for their value would break `jit`, `vmap` and `grad`.
"""

import collections.abc
import dataclasses
import enum
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import AbstractArray, PyTree

from .._types import Number

Kind = Literal["data", "static"]


@dataclasses.dataclass(frozen=True)
class Range:
    """The values that a number may take, in words and as an interval, and a hint for one that is outside."""

    words: str
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = True
    hint: str = ""

    def holds(self, value: Any) -> bool:
        """Whether every entry is finite and inside."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        if isinstance(value, (int, float)):  # spares NumPy, for what is mostly given
            return above and below and math.isfinite(value)
        return bool(np.all(np.isfinite(value) & above & below))


@dataclasses.dataclass(frozen=True)
class Convert:
    """Brings a value into the form in which it is stored (a dict of boundaries into pairs, say)."""

    function: Callable[[Any], Any]


FINITE = Range("a finite number")
Data = Annotated[Any, "data"]
Static = Annotated[Any, "static"]
Scalar: TypeAlias = Annotated[Number, "data"]
NonNegative: TypeAlias = Annotated[Number, "data", Range("a finite number >= 0", low=0.0)]
Positive: TypeAlias = Annotated[Number, "data", Range("a finite number > 0", low=0.0, low_open=True)]
Decay: TypeAlias = Annotated[
    Number, "data", Range("in [0, 1)", low=0.0, high=1.0, hint="A decay of 1 would never let a new value in.")
]
SumDecay: TypeAlias = Annotated[Number, "data", Range("in [0, 1]", low=0.0, high=1.0, high_open=False)]
"""The decay of a sum, not of an average: at 1 nothing is forgotten."""
OneOrMore: TypeAlias = Annotated[Number, "data", Range("a finite number >= 1", low=1.0)]
"""A period, or a number of times, as data: it need not be whole."""
AtLeastOne: TypeAlias = Annotated[int, Range("a whole number >= 1", low=1)]


def _inexact(value: DTypeLike | None) -> np.dtype | None:
    dtype = None if value is None else jnp.dtype(value)
    if dtype is not None and not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(f"an accumulator needs a floating or complex dtype, got {dtype}")
    return dtype


DType: TypeAlias = Annotated[DTypeLike | None, "static", Convert(_inexact)]
Weights: TypeAlias = Annotated[PyTree, "data"]

_STATIC_TYPES = (bool, int, str, bytes, re.Pattern, enum.Enum, np.dtype, type)
_NUMBERS = (float, jax.Array, np.ndarray, np.floating, np.integer)
_SEQUENCES = (list, tuple, collections.abc.Sequence)
_MAPPINGS = (dict, collections.abc.Mapping)


@dataclasses.dataclass(frozen=True)
class Spec:
    """An annotation, read: the kind of a field, and which values it takes."""

    kind: Kind | None = None  # None for None itself
    numbers: bool = False
    nodes: tuple[Any, ...] = ()  # classes of pytree nodes (transformations, schedules); each coerces foreign values
    free: bool = False  # any value: weights, keys, masks
    optional: bool = False
    types: tuple[type, ...] = ()  # what a static value may be an instance of
    literals: tuple[Any, ...] = ()
    items: "Spec | None" = None  # of a tuple, list or mapping
    length: int | None = None  # of a tuple, where its annotation has one
    range: Range = FINITE
    convert: Callable[[Any], Any] | None = None

    def take(self, value: object, where: str, validate: bool) -> Any:
        """The value as it is stored: coerced, floats for integers, checked. Raises TypeError or ValueError."""
        if value is None and (self.optional or not validate):
            return None
        if type(value) is float and self.numbers:
            if validate and not self.range.holds(value):
                raise ValueError(_outside(where, self.range, repr(value)))
            return value
        if self.convert is not None:
            try:
                value = self.convert(value)
            except TypeError as error:
                raise TypeError(f"{where}: {error}") from error
        if self.kind == "static" and (self.items is None or not validate):
            return self._static(value, where) if validate else value
        if self.items is not None and isinstance(value, (tuple, list, Mapping)) and not hasattr(value, "init"):
            return self._container(value, where, validate)
        return self._data(value, where, validate)

    def _static(self, value: object, where: str) -> Any:
        if isinstance(value, np.integer) and (int in self.types or self.literals):
            value = int(value)
        if self.literals and (type(value), value) not in [(type(literal), literal) for literal in self.literals]:
            expected = " or ".join(map(repr, self.literals))
            raise ValueError(f"{where} must be {expected}, got {value!r}")
        if self.types and not (self.free or self.literals):
            is_bool = isinstance(value, bool) and bool not in self.types  # a bool is an int to Python
            if is_bool or not isinstance(value, self.types):
                expected = " or ".join(t.__name__ for t in self.types)
                raise TypeError(f"{where} must be {expected}, got {value!r} ({type(value).__name__})")
        if isinstance(value, int) and not self.range.holds(value):
            raise ValueError(_outside(where, self.range, repr(value)))
        return value

    def _container(self, value: Any, where: str, validate: bool) -> Any:
        """A container of the caller's becomes one of our own: tuples for lists, so that equal values compare equal."""
        assert self.items is not None
        if isinstance(value, Mapping):
            return {key: self.items.take(item, f"{where}[{key!r}]", validate) for key, item in value.items()}
        if validate and self.length not in (None, len(value)):
            raise ValueError(f"{where} must have {self.length} entries, got {len(value)}")
        return tuple(self.items.take(item, f"{where}[{i}]", validate) for i, item in enumerate(value))

    def _expected(self) -> str:
        items = self.items._expected() if self.items is not None else ""
        container = (
            [] if self.items is None else ["a tuple or dict" + (f" of values that are {items}" if items else "")]
        )
        numbers = ["a number", "an array of floats"] if self.numbers else []
        return " or ".join(
            [*numbers, *(node.describes for node in self.nodes), *container, *(t.__name__ for t in self.types)]
        )

    def _data(self, value: object, where: str, validate: bool) -> Any:
        if self.free:
            for leaf in jax.tree.leaves(value) if validate else []:
                if not isinstance(leaf, (int, float, complex)) and not hasattr(leaf, "dtype"):
                    raise TypeError(f"{where} must hold arrays and numbers, got {leaf!r} ({type(leaf).__name__})")
            return jax.tree.map(own, value)
        if isinstance(value, self.nodes):
            return value
        for node in self.nodes:
            coerced = node.coerce(value)
            if coerced is not None:
                return coerced
        expected = self._expected()
        if not self.numbers:
            call = f"; call it: {value.__name__}(...)" if isinstance(value, type) else ""
            raise TypeError(f"{where} must be {expected}, got {value!r} ({type(value).__name__}){call}")
        return _number(value, where, self.range, expected, validate)


def read(annotation: object, kind: Kind | None = None) -> Spec:
    """The annotation as a `Spec`. Raises TypeError where it does not decide between data and static."""
    if annotation is None or annotation is type(None):
        return Spec(optional=True)
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is re.Pattern:
        return read(origin, kind)
    if origin is Annotated:
        marks: list[Any] = [part for part in parts[1:] if part in ("data", "static")]
        spec = read(parts[0], kind or (marks[0] if marks else None))
        ranges = [part for part in parts[1:] if isinstance(part, Range)]
        converts = [part.function for part in parts[1:] if isinstance(part, Convert)]
        return dataclasses.replace(
            spec,
            range=ranges[-1] if ranges else spec.range,
            convert=converts[-1] if converts else spec.convert,
        )
    if origin in (typing.Union, types.UnionType):
        return _united(annotation, [read(part, kind) for part in parts])
    if origin in (*_SEQUENCES, *_MAPPINGS):
        members = parts[1:] if origin in _MAPPINGS else [part for part in parts if part is not Ellipsis]
        items = _united(annotation, [read(part, kind) for part in members])
        fixed = origin is tuple and Ellipsis not in parts
        return Spec(kind=items.kind, items=items, length=len(members) if fixed else None)
    if kind == "data" and annotation in _NUMBERS:
        return Spec(kind=kind, numbers=True)
    if origin is Literal:
        return Spec(kind="static", literals=parts)
    if origin is type or origin is collections.abc.Callable or annotation is collections.abc.Callable:
        # In a place for data (a schedule's) plain callables are coerced by the classes beside them.
        return Spec(kind=kind or "static", free=kind != "data")
    if annotation is PyTree or (getattr(annotation, "__module__", "").startswith("jaxtyping") and origin is None):
        return Spec(kind=kind or "data", free=True)
    if isinstance(annotation, type):
        if hasattr(annotation, "coerce"):
            return Spec(kind=kind or "data", nodes=(annotation,))
        if issubclass(annotation, (jax.Array, AbstractArray)):
            return Spec(kind=kind or "data", free=True)
        if issubclass(annotation, _STATIC_TYPES):
            return Spec(kind="static", types=(annotation,))
    if kind is not None:
        return Spec(kind=kind, free=True)
    raise TypeError(f"annotation {annotation!r} does not say whether the field is data or static")


def _united(annotation: object, specs: list[Spec]) -> Spec:
    kinds: set[Kind] = {spec.kind for spec in specs if spec.kind is not None}
    if len(kinds) > 1:
        raise TypeError(f"annotation {annotation!r} mixes data and static")
    nodes = tuple(node for spec in specs for node in spec.nodes)
    numbers = any(spec.numbers for spec in specs)
    return Spec(
        kind=kinds.pop() if kinds else None,
        numbers=numbers,
        nodes=nodes,
        free=any(spec.free for spec in specs) and not (numbers or nodes),
        optional=any(spec.optional for spec in specs),
        types=tuple(t for spec in specs for t in spec.types),
        literals=tuple(x for spec in specs for x in spec.literals),
        items=next((spec.items for spec in specs if spec.items), None),
        length=next((spec.length for spec in specs if spec.length is not None), None),
        range=next((spec.range for spec in specs if spec.range is not FINITE), FINITE),
        convert=next((spec.convert for spec in specs if spec.convert), None),
    )


def own(leaf: object) -> Any:
    """A copy of a NumPy array, so that one which is changed in place later does not change what was made of it."""
    if isinstance(leaf, np.ndarray):
        leaf = np.array(leaf)
        leaf.setflags(write=False)
    return leaf


def _number(value: object, where: str, range_: Range, expected: str, validate: bool) -> Any:
    """A hyperparameter as it is stored: a Python float, a float array, or a tracer."""
    wrong = TypeError(f"{where} must be {expected}, got {value!r} ({type(value).__name__})")
    # Scalars of `ml_dtypes` are NumPy's, and no `np.floating`.
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (int, float, np.floating)) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise ValueError(_outside(where, range_, "an int too large for a float")) from None
        if validate and not range_.holds(value):
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
    return own(value)


def _outside(where: str, range_: Range, came: str) -> str:
    return " ".join(filter(None, [f"{where} must be {range_.words}, got {came}.", range_.hint]))
