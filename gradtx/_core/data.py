"""Immutable classes whose fields are pytree children (data) or part of the treedef (static).

The constructor does all the work: binding, coercion, validation. Unflattening does none, because JAX puts anything in
the place of a leaf: tracers, `None`, axis numbers, shapes.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import inspect
import itertools
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

import jax

from .fields import Spec, read
from .paths import find, set_at
from .values import StaticValues, key_of, same, show

N = TypeVar("N", bound="PyTreeNode")

# Inside a recipe's own `parts()`, values were validated already, and reading arrays back would stall the device.
_trusted: contextvars.ContextVar[bool] = contextvars.ContextVar("values are trusted", default=False)


@contextlib.contextmanager
def trusted() -> Iterator[None]:
    """Coerce values in constructors, and validate none."""
    token = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(token)


class Field(NamedTuple):
    """One field of a class, as its annotation describes it."""

    name: str
    spec: Spec
    default: Any


class Layout(NamedTuple):
    """The fields of a class, and the names of those that are data, and of those that are static."""

    fields: tuple[Field, ...]
    data: tuple[str, ...]
    static: tuple[str, ...]


registry: dict[str, type[PyTreeNode]] = {}
"""Every class by its public name, for saved configurations."""


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(dataclasses.field,))
class PyTreeNode:
    """Base of transformations and schedules: subclasses are frozen dataclasses, registered as pytrees."""

    describes: ClassVar[str] = "a pytree node"
    _takes_fields: ClassVar[bool] = True  # its constructor, by their names

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__post_init__" in cls.__dict__:
            raise TypeError(
                f"{cls.__name__}: write __check_init__ in place of __post_init__, which validates the fields"
            )
        for name in inspect.get_annotations(cls):
            if name == "_":  # of KW_ONLY
                continue
            if name.startswith("_") or any(hasattr(base, name) for base in cls.__mro__ if base in roots):
                raise TypeError(f"{cls.__name__}: the field `{name}` needs another name; it is taken, or private")
        if "__init__" in cls.__dict__:
            cls._takes_fields = False  # nor do those of its subclasses, which inherit it
        inherited = len(getattr(cls, "__dataclass_fields__", ()))
        dataclasses.dataclass(frozen=True, eq=False, repr=False, init=cls._takes_fields)(cls)
        # The dataclass's own refuse without saying what to write instead.
        del cls.__setattr__, cls.__delattr__
        fields: dict[str, dataclasses.Field[Any]] = cls.__dict__["__dataclass_fields__"]
        if "__init__" not in cls.__dict__ and len(fields) > inherited:
            raise TypeError(f"{cls.__name__}: write an __init__ for the further fields; the inherited one lacks them")
        if not all(field.init for field in fields.values()):
            raise TypeError(f"{cls.__name__}: every field is an argument; leave out init=False")
        jax.tree_util.register_pytree_with_keys(cls, _flatten_with_keys, functools.partial(_unflatten, cls), _flatten)
        known = registry.setdefault(public_name(cls), cls)
        if known.__module__ != cls.__module__:
            raise TypeError(
                f"{cls.__module__}.{cls.__qualname__}: saved configurations call it {public_name(cls)}, as a class in "
                f"{known.__module__}; rename one of the two"
            )
        registry[public_name(cls)] = cls  # the newest, where a cell of a notebook is run again

    def __new__(cls: type[N], *args: object, **kwargs: object) -> N:
        if kwargs and cls._takes_fields:
            known = [field.name for field in layout(cls).fields]
            for name in kwargs:
                if name not in known:
                    raise TypeError(f"{cls.__name__} has no argument {name!r}; it has {', '.join(known) or 'none'}")
        return object.__new__(cls)

    def _set_fields(self, **fields: Any) -> None:
        """Set the fields and validate them: what an `__init__` does whose parameters are others."""
        values, owner = {field.name: field.default for field in layout(type(self)).fields}, type(self).__name__
        unknown = [name for name in fields if name not in values]
        if unknown:
            raise TypeError(f"{owner} has no field {unknown[0]!r}; it has {', '.join(values) or 'none'}")
        values |= fields
        missing = [name for name, value in values.items() if value is dataclasses.MISSING]
        if missing:
            raise TypeError(f"{owner} needs the argument `{missing[0]}`")
        self.__dict__.update(values)
        self.__post_init__()

    def __post_init__(self) -> None:
        validate, owner, values = not _trusted.get(), type(self).__name__, self.__dict__
        for field in layout(type(self)).fields:
            name, spec = field.name, field.spec
            value = values[name]
            # The most frequent case, which `take` would treat alike.
            if type(value) is float and spec.numbers and (not validate or spec.range.holds(value)):
                continue
            taken = spec.take(value, f"{owner}: `{name}`", validate)
            if taken is not value:
                values[name] = taken
        if validate:
            _static_of(self)  # refuses what has no hash
            # What a check cannot ask, since it is traced, passes.
            with contextlib.suppress(jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
                try:
                    self._check()
                except ValueError as error:
                    if "truth value" not in str(error):
                        raise
                    words = f"{owner}: its __check_init__ takes no batch; write np.all(...)"
                    raise ValueError(f"{words}: {error}") from error

    def _check(self) -> None:
        """What is checked once all fields are known to be valid by themselves."""
        self.__check_init__()

    def __check_init__(self) -> None:
        """Raise where fields do not fit each other. Called after each field has been validated by itself."""

    @classmethod
    def _make(cls: type[N], values: Mapping[str, Any]) -> N:
        """An instance from fields by name, validated, for constructors whose parameters are not the fields."""
        self = object.__new__(cls)
        self._set_fields(**values)
        return self

    def _items(self) -> dict[str, Any]:
        """What a path may name next: the fields."""
        return self._values()

    def _with_items(self: N, changes: Mapping[str, Any]) -> N:
        """The same with other values at names of `_items`."""
        return type(self)._make({**self._values(), **changes})

    def _values(self) -> dict[str, Any]:
        """Every field by name."""
        return {field.name: self.__dict__[field.name] for field in layout(type(self)).fields}

    def replace(self: N, changes: Mapping[str, Any] | None = None, /, **more: object) -> N:
        """The same with some fields changed, validated anew.

            tx.replace(learning_rate=3e-4)
            tx.replace({"1.learning_rate.peak_value": 3e-4, "0.max_norm": 0.5})

        Args:
            changes: New values by path. A path is dotted: names of fields, and positions or names of stages; it may
                leave out the beginning where the rest names one place only.
            more: The same as keyword arguments.

        Raises:
            TypeError: if a path names no field, or several; the fields are listed.
        """
        own, items, owner = self._values(), self._items(), type(self).__name__
        if not isinstance(changes, (Mapping, types.NoneType)) or not all(isinstance(key, str) for key in changes or ()):
            raise TypeError(f"{owner}.replace takes names or paths with new values, {{'1.eps': 0.1}}; got {changes!r}")
        given = {**(changes or {}), **more}
        whole = {key: value for key, value in given.items() if key in own and key not in items}
        inside = {find(owner, self, key): value for key, value in given.items() if key not in whole}
        if len(inside) + len(whole) < len(given) or (whole and inside):
            raise TypeError(f"{owner}: {', '.join(given)} name one place twice; give each once")
        # All at once, so that fields which have to fit each other can change together.
        return type(self)._make({**own, **whole}) if whole else set_at(self, inside)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"{type(self).__name__} is immutable; use .replace({name}=...), or self._set_fields({name}=..., ...) in an "
            "`__init__` of your own"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def _shown(self) -> list[str]:
        """The arguments of `repr`: all data, and what is static where it is not the default."""
        shown = []
        for field in layout(type(self)).fields:
            value = self.__dict__[field.name]
            if field.spec.kind == "data" or not same(value, field.default):
                shown.append(f"{field.name}={show(value)}")
        return shown

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._shown())})"

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        """A foldable tree in notebooks (https://treescope.readthedocs.io)."""
        from treescope import repr_lib

        return repr_lib.render_object_constructor(
            object_type=type(self), attributes=self._items(), path=path, subtree_renderer=subtree_renderer
        )

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, PyTreeNode):
            return NotImplemented
        ours, theirs = jax.tree.flatten(self), jax.tree.flatten(other)
        return ours[1] == theirs[1] and all(map(same, ours[0], theirs[0]))

    def __hash__(self) -> int:
        # Once: as a static argument of `jit` it is asked for at each call, and arrays are read back for it.
        if "_hash" not in self.__dict__:
            leaves, structure = jax.tree.flatten(self)
            self.__dict__["_hash"] = hash((structure, tuple(map(key_of, leaves))))
        return self.__dict__["_hash"]

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the constructor, which would validate anew what a newer version may refuse.
        return restored_node, (type(self), self._values())


roots: list[type] = [PyTreeNode]
"""Classes whose attributes no field may hide."""


def public_name(cls: type) -> str:
    """The name in saved configurations: without private modules, so that moving a file breaks no saved one."""
    public = itertools.takewhile(lambda module: not module.startswith("_"), cls.__module__.split("."))
    return ".".join([*public, cls.__qualname__])


def layout(cls: type) -> Layout:
    """The fields, read at the first instance. Raises TypeError for an annotation that does not decide."""
    known = cls.__dict__.get("_gradtx_layout")
    if known is None:
        if cls.__dict__["__dataclass_params__"].eq:  # written over ours, which compare arrays
            raise TypeError(f"{cls.__name__}: leave out @dataclass; every subclass is a dataclass already")
        fields = tuple(_read_fields(cls))
        data = tuple(field.name for field in fields if field.spec.kind == "data")
        known = Layout(fields, data, tuple(field.name for field in fields if field.name not in data))
        type.__setattr__(cls, "_gradtx_layout", known)
    return known


def _read_fields(cls: type) -> Iterator[Field]:
    try:
        annotations = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{cls.__name__}: an annotation cannot be resolved: {error}. Import the name at the top of the module"
        ) from error
    for field in dataclasses.fields(cls):
        try:
            spec = read(annotations[field.name])
        except TypeError as error:
            raise TypeError(
                f"{cls.__name__}: field `{field.name}`: {error}. Annotate it with Scalar (data) or Static"
            ) from error
        factory = field.default_factory
        yield Field(field.name, spec, field.default if factory is dataclasses.MISSING else factory())


def _flatten(node: PyTreeNode) -> tuple[list[Any], StaticValues]:
    values = node.__dict__
    return [values[name] for name in layout(type(node)).data], _static_of(node)


def _flatten_with_keys(node: PyTreeNode) -> tuple[list[Any], StaticValues]:
    values = node.__dict__
    return [(jax.tree_util.GetAttrKey(name), values[name]) for name in layout(type(node)).data], _static_of(node)


def _unflatten(cls: type[PyTreeNode], static: StaticValues, children: Any) -> PyTreeNode:
    data = zip(layout(cls).data, children, strict=True)
    return restored_node(cls, {**static.values, **dict(data), "_static": static})


def restored_node(cls: type[PyTreeNode], values: dict[str, Any]) -> PyTreeNode:
    """An instance from values that were valid, or stand in for such."""
    node = object.__new__(cls)
    node.__dict__.update(values)
    return node


_NOTHING_STATIC = StaticValues("", {})


def _static_of(node: PyTreeNode) -> StaticValues:
    known = node.__dict__.get("_static")
    if known is None:
        values = {name: node.__dict__[name] for name in layout(type(node)).static}
        known = StaticValues(type(node).__name__, values) if values else _NOTHING_STATIC
        node.__dict__.update(known.values, _static=known)
    return known
