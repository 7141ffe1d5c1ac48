"""Transformations and schedules as plain data: what JSON holds, and back again.

One is `{"name": "gradtx.adam", "arguments": {"learning_rate": 0.001, ...}}`, with every argument, so that a default
which changes later changes no saved run. Numbers, strings, bools, null, lists and dicts of strings stand for themselves
(a tuple is a list, and a list `{"$list": ...}`); an array is `{"$array": ...}`, a dtype `{"$dtype": ...}`, a
regular expression `{"$regex": ...}`, a number that JSON has not `{"$float": "nan"}`.

Reading looks names up among the classes that the program has defined: a file can import nothing, and runs nothing but
their constructors, which check the arguments as they check any others.
"""

from __future__ import annotations

import difflib
import math
import re
import reprlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ._core.contract import Recipe, Stateless, _Functions
from ._core.data import PyTreeNode, layout, public_name, registry, roots
from ._core.schedule import _Function
from ._core.values import shortest
from ._transforms.identity import stateless

VERSION = 1

# What holds a function: no file can.
_OPAQUE = {
    _Function: "Write the schedule as a subclass of gradtx.Schedule, or use one of gradtx's",
    _Functions: "Write the pair as a subclass of gradtx.GradientTransformation, or use gradtx's of the same name",
    stateless: "Write it as a subclass of gradtx.GradientTransformation",
}


def to_config(tx: PyTreeNode) -> dict[str, Any]:
    """A transformation or schedule as plain data for JSON: `from_config` gives back one that is equal.

    Raises:
        TypeError: if an argument cannot be saved: a plain function (a schedule, a mask, a foreign pair), a tracer, or
            an object of another type. It is named, and what to write instead.
    """
    if not isinstance(tx, PyTreeNode):
        raise TypeError(f"to_config takes a gradtx transformation or schedule, got {_brief(tx)}")
    return {"version": VERSION, **_write_node(tx, type(tx).__name__)}


def from_config(config: Any) -> Any:
    """The transformation or schedule that `to_config` saved; its constructor checks the arguments.

    A configuration may leave out arguments that have a default.

    Args:
        config: A dict: what `to_config` returned, or `json.load` read.

    Raises:
        ValueError: if the configuration does not say what to make; the place in it is named.
    """
    if not _is_node(config):
        raise ValueError(f"from_config takes a dict with `name` and `arguments`, got {_brief(config)}")
    version = config.get("version", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise ValueError(f"config.version is {_brief(version)}, this gradtx reads version {VERSION}")
    return _read({key: value for key, value in config.items() if key != "version"}, "config")


def _brief(value: object) -> str:
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def _is_node(value: object) -> bool:
    return isinstance(value, dict) and value.keys() >= {"name", "arguments"}


# Writing


def _write_node(node: PyTreeNode, where: str) -> dict[str, Any]:
    for opaque, hint in _OPAQUE.items():
        if isinstance(node, opaque):
            raise TypeError(f"{where}: {node!r} is a plain function, which cannot be saved. {hint}")
    arguments = {name: _write(value, f"{where}.{name}") for name, value in node._values().items()}
    return {"name": public_name(type(node)), "arguments": arguments}


def _write(value: Any, where: str) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Tracer):
        raise TypeError(f"{where} is a tracer; only concrete values can be saved. Call to_config outside jit")
    if isinstance(value, PyTreeNode):
        return _write_node(value, where)
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return {"$array": encode_array(value, where)}
    if isinstance(value, np.dtype):
        return {"$dtype": value.name}
    if isinstance(value, re.Pattern):
        return {"$regex": value.pattern, "flags": value.flags}
    if type(value) in (list, tuple):
        items = [_write(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return {"$list": items} if type(value) is list else items
    if isinstance(value, dict) and all(type(key) is str for key in value):
        if _is_node(value) or any(key.startswith("$") for key in value):
            raise TypeError(
                f"{where}: a dict with the keys {', '.join(value)} cannot be saved: they have a meaning here"
            )
        return {key: _write(item, f"{where}[{key!r}]") for key, item in value.items()}
    if callable(value):
        name = getattr(value, "__qualname__", type(value).__name__)
        raise TypeError(
            f"{where}: the plain function {name} cannot be saved. If it is a mask, give a tree of bools or a rule: "
            "gradtx.by_rank(2), gradtx.by_path('*/kernel')"
        )
    raise TypeError(f"{where}: {_brief(value)} cannot be saved; use numbers, strings, arrays, dicts, lists or tuples")


def encode_array(array: Any, where: str) -> dict[str, Any]:
    """An array as a dict: dtype, shape, and its entries in one list, each exactly.

    A random key is saved as its numbers, with the name of its generator.
    """
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return {**encode_array(jax.random.key_data(array), where), "key": str(jax.random.key_impl(array))}
    dtype = np.dtype(array.dtype)
    if not (jnp.issubdtype(dtype, np.number) or dtype.kind == "b") or jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"{where}: an array of {dtype} cannot be saved; real numbers and bools can")
    # The shortest figures that give the entry back: 0.1, and not the 0.10000000149011612 that a float32 of 0.1 is.
    entries = np.asarray(array).ravel()
    kind = jnp.issubdtype(dtype, jnp.floating)
    return {
        "dtype": dtype.name,
        "shape": list(array.shape),
        "data": [_shortest(entry) if kind else entry.item() for entry in entries],
    }


def _shortest(entry: Any) -> float | str:
    number = shortest(entry)
    return number if math.isfinite(number) else repr(number)


# Reading


def _read(value: object, where: str) -> Any:
    if isinstance(value, list):
        return tuple(_read(item, f"{where}[{i}]") for i, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    if _is_node(value):
        return _read_node(value, where)
    try:
        match value:
            case {"$array": array}:
                return decode_array(array)
            case {"$regex": str(pattern), "flags": int(flags)}:
                return re.compile(pattern, flags)
            case {"$dtype": str(name)}:
                return jnp.dtype(name)
            case {"$float": str(number)}:
                return float(number)
            case {"$list": list(items)}:
                return list(_read(items, where))
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, re.error) as error:
        raise ValueError(f"{where}: {_brief(value)} is not what to_config writes: {error}") from None
    return {key: _read(item, f"{where}[{key!r}]") for key, item in value.items()}


def _read_node(config: dict[str, Any], where: str) -> PyTreeNode:
    unknown = [key for key in config if key not in ("name", "arguments")]
    if unknown:
        raise ValueError(f"{where}: unknown key {_brief(unknown[0])}; expected `name` and `arguments`")
    cls, given = _class(config["name"], where), config["arguments"]
    if not isinstance(given, dict):
        raise ValueError(f"{where}.arguments must be a dict, got {_brief(given)}")
    fields = {field.name: field for field in layout(cls).fields}
    for name in given:
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, cutoff=0.5)
            raise ValueError(
                f"{where}: {cls.__name__} has no argument {_brief(name)}{_mean(close)}; it has {', '.join(fields)}"
            )
    values = {name: _read(value, f"{where}.{name}") for name, value in given.items()}
    try:
        return cls._make(values)
    except Exception as error:  # whatever a constructor raises for these arguments, the configuration is at fault
        raise ValueError(f"{where}: {error}") from error


def _class(name: object, where: str) -> type[PyTreeNode]:
    cls = registry.get(name) if isinstance(name, str) else None
    if cls is None:
        close = difflib.get_close_matches(name, registry, cutoff=0.7) if isinstance(name, str) else []
        raise ValueError(
            f"{where}.name: no class is registered as {_brief(name)}{_mean(close)}. "
            "If it is your own, import the module that defines it first"
        )
    if cls in (*roots, Stateless, Recipe):
        raise ValueError(f"{where}.name: {name} is a base of others, and makes nothing by itself")
    if cls in _OPAQUE:
        raise ValueError(f"{where}.name: {name} holds a function, which a configuration cannot. {_OPAQUE[cls]}")
    return cls


def _mean(close: list[str]) -> str:
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def decode_array(value: dict[str, Any]) -> Any:
    """What `encode_array` made. Raises whatever NumPy raises for what it did not."""
    dtype = jnp.dtype(value["dtype"])
    entries = [float(entry) if isinstance(entry, str) else entry for entry in value["data"]]
    array = np.array(entries, np.float64 if jnp.issubdtype(dtype, jnp.floating) else dtype).astype(dtype)
    array = array.reshape(value["shape"])
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        return array  # 64 bits where JAX has 32
    return jax.random.wrap_key_data(jnp.asarray(array), impl=value["key"]) if "key" in value else jnp.asarray(array)
