"""Configurations as plain data: what JSON holds, and back again, exactly.

A call of a factory is `{"name": "gradtx.adam", "arguments": {"learning_rate": 0.001, ...}}`, with every argument, so
that a default which changes later changes no saved run. Numbers, strings, bools, null, lists and dicts of strings
stand for themselves; what JSON has no form for is a dict of one key that begins with `$` (`{"$tuple": [...]}`).

Reading resolves registered names only: a file cannot import anything, and runs nothing but the constructors of
factories that the program has registered, which check the arguments as they check any others.
"""

import base64
import binascii
import difflib
import math
import reprlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from .configured import Configured, Factory, registry
from .encoding import DTYPES, decode_array, encode_array
from .schedule import foreign_schedule
from .transformation import foreign, stateless

VERSION = 1
DEPTH = 64  # far more than anybody nests, far less than Python's stack
_CALL = frozenset(("name", "arguments"))

# Factories that hold a function: no file can.
_OPAQUE = {
    maker.factory: mend
    for maker, mend in {
        foreign_schedule: "Write the schedule as a factory under @gradtx.schedule, or use one of gradtx's",
        foreign: "Write the pair as a factory under @gradtx.transformation, or use gradtx's of the same name",
        stateless: "Write it as a factory under @gradtx.transformation",
    }.items()
}


def to_config(tx: Configured) -> dict[str, Any]:
    """A transformation or schedule as plain data for JSON: `from_config` gives back one that is equal.

    Arguments stand under their names; arrays keep their dtype, kind and weak type.

    Raises:
        TypeError: An argument cannot be saved: a plain function (a schedule, a mask, a foreign pair), a tracer, or a
            type that is not listed above. It is named, and what to write instead.
    """
    if not isinstance(tx, Configured):
        raise TypeError(f"to_config takes a gradtx transformation or schedule, got {_brief(tx)}")
    return {"version": VERSION, **_write_call(tx, tx._factory.short, 0)}


def from_config(config: Any) -> Any:
    """The transformation or schedule that `to_config` saved; its constructor checks the arguments.

    A configuration may leave out arguments that have a default.

    Args:
        config: A dict: what `to_config` returned, or `json.load` read. It may come from anybody: names are looked up
            among the registered factories, and nothing is imported.

    Raises:
        ValueError: The configuration does not say what to make; the place in it is named.
    """
    if not isinstance(config, dict):
        raise ValueError(f"from_config takes a dict as to_config makes it, got {_brief(config)}")
    version = config.get("version", VERSION)
    if type(version) is not int or version != VERSION:
        raise ValueError(f"config.version is {_brief(version)}, this gradtx reads version {VERSION}")
    if not config.keys() >= _CALL:
        raise ValueError(f"config must have `name` and `arguments`, it has {_brief(list(config))}")
    return _read_call({key: value for key, value in config.items() if key != "version"}, "config", 0)


def _brief(value: Any) -> str:
    return f"{reprlib.repr(value)} ({type(value).__name__})"


# Writing


def _write_call(tx: Configured, where: str, depth: int) -> dict[str, Any]:
    factory = tx._factory
    if factory in _OPAQUE:
        function = next(iter(tx.arguments.values()))
        name = getattr(function, "__qualname__", type(function).__name__)
        raise TypeError(f"{where}: the plain function {name} cannot be saved. {_OPAQUE[factory]}")
    arguments = {}
    for name, value in tx.arguments.items():
        if name == factory.variadic:
            # As the call had them: a mapping was made of pairs, and is made of them again.
            items = value.items() if isinstance(value, dict) else value
            arguments[name] = [_write(item, f"{where}.{name}[{i}]", depth + 2) for i, item in enumerate(items)]
        else:
            arguments[name] = _write(value, f"{where}.{name}", depth + 1)
    return {"name": factory.name, "arguments": arguments}


def _write(value: Any, where: str, depth: int) -> Any:
    if depth > DEPTH:
        raise TypeError(f"{where}: nested more than {DEPTH} deep; from_config would refuse it")
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Tracer):
        raise TypeError(f"{where} is a tracer; only concrete values can be saved. Call to_config outside jit")
    if isinstance(value, Configured):
        return _write_call(value, where, depth)
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return {"$array": encode_array(value, where)}
    if isinstance(value, np.dtype):
        if value.name in DTYPES:
            return {"$dtype": value.name}
        raise TypeError(f"{where}: {_brief(value)} cannot be saved; known dtypes are {', '.join(DTYPES)}")
    if type(value) is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if type(value) in (list, tuple):
        items = [_write(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
        return items if type(value) is list else {"$tuple": items}
    if isinstance(value, dict) and type(value) in (dict, OrderedDict):
        pairs = [
            [_write(key, f"{where}: key {key!r}", depth + 1), _write(item, f"{where}[{key!r}]", depth + 1)]
            for key, item in value.items()
        ]
        if type(value) is OrderedDict:
            return {"$ordered": pairs}
        plain = all(type(key) is str and not key.startswith("$") for key in value) and not value.keys() >= _CALL
        return dict(pairs) if plain else {"$dict": pairs}
    if callable(value):
        name = getattr(value, "__qualname__", type(value).__name__)
        raise TypeError(f"{where}: the plain function {name} cannot be saved. Give a mask as a tree of bools")
    raise TypeError(f"{where}: {_brief(value)} cannot be saved; use numbers, strings, arrays, dicts, lists or tuples")


# Reading


def _read_call(config: dict[str, Any], where: str, depth: int) -> Configured:
    unknown = [key for key in config if key not in _CALL]
    if unknown:
        raise ValueError(f"{where}: unknown key {_brief(unknown[0])}; a call has `name` and `arguments`")
    factory, given = _factory(config["name"], where), config["arguments"]
    if not isinstance(given, dict):
        raise ValueError(f"{where}.arguments must be a dict, got {_brief(given)}")
    values = dict(factory.defaults)
    if factory.variadic is not None:
        values[factory.variadic] = ()
    known = [argument.name for argument in factory.arguments]
    for name, value in given.items():
        if name not in known:
            close = difflib.get_close_matches(str(name)[:80], known, cutoff=0.5)
            raise ValueError(
                f"{where}: {factory.short} has no argument {_brief(name)}{_mean(close)}; it has {', '.join(known)}"
            )
        values[name] = _read(value, f"{where}.{name}", depth + 1)
        if name == factory.variadic:
            if not isinstance(value, list):
                raise ValueError(f"{where}.{name} must be a list, got {_brief(value)}")
            values[name] = tuple(values[name])
    missing = [name for name in known if name not in values]
    if missing:
        raise ValueError(f"{where}: {factory.short} needs the argument `{missing[0]}`")
    try:
        return factory.store(values)
    except Exception as error:  # whatever a constructor raises for these arguments, the configuration is at fault
        raise ValueError(f"{where}: {error}") from error


def _factory(name: Any, where: str) -> Factory:
    factory = registry.get(name) if isinstance(name, str) else None
    if factory is None:
        close = difflib.get_close_matches(name[:80], registry, cutoff=0.7) if isinstance(name, str) else []
        raise ValueError(
            f"{where}.name: nothing is registered as {_brief(name)}{_mean(close)}. "
            "If it is your own, import the module that defines it first"
        )
    if factory in _OPAQUE:
        raise ValueError(f"{where}.name: {name} holds a function, which a configuration cannot. {_OPAQUE[factory]}")
    return factory


def _mean(close: list[str]) -> str:
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _read(value: Any, where: str, depth: int) -> Any:
    if depth > DEPTH:
        raise ValueError(f"{where}: nested more than {DEPTH} deep")
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError(f'{where}: {value} is not JSON; write {{"$float": "{value}"}}')
        return value
    if type(value) is list:
        return [_read(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if type(value) is not dict or not all(type(key) is str for key in value):
        raise ValueError(f"{where}: {_brief(value)} is not what JSON holds")
    if value.keys() >= _CALL:
        return _read_call(value, where, depth)
    tag = next((key for key in value if key.startswith("$")), None)
    if tag is None:
        return {key: _read(item, f"{where}[{key!r}]", depth + 1) for key, item in value.items()}
    if len(value) > 1 or tag not in _TAGS:
        raise ValueError(f"{where}: expected one of {', '.join(_TAGS)} alone, got keys {_brief(list(value))}")
    return _TAGS[tag](value[tag], f"{where}[{tag!r}]", depth)


def _listed(value: Any, where: str) -> list[Any]:
    if type(value) is not list:
        raise ValueError(f"{where} must be a list, got {_brief(value)}")
    return value


def _read_pairs(value: Any, where: str, depth: int) -> list[tuple[Any, Any]]:
    if not all(type(pair) is list and len(pair) == 2 for pair in _listed(value, where)):
        raise ValueError(f"{where} must be a list of pairs [key, value], got {_brief(value)}")
    pairs = [(_read(key, where, depth + 1), _read(item, f"{where}[{key!r}]", depth + 1)) for key, item in value]
    try:
        distinct = len({key for key, _ in pairs})
    except TypeError as error:
        raise ValueError(f"{where}: a key must be hashable: {error}") from None
    if distinct < len(pairs):
        raise ValueError(f"{where}: keys must differ, got {_brief([key for key, _ in pairs])}")
    return pairs


def _read_tuple(value: Any, where: str, depth: int) -> tuple[Any, ...]:
    return tuple(_read(_listed(value, where), where, depth))


def _read_float(value: Any, where: str, depth: int) -> float:
    if value not in ("nan", "inf", "-inf"):
        raise ValueError(f"{where} must be nan, inf or -inf, got {_brief(value)}")
    return float(value)


def _read_dtype(value: Any, where: str, depth: int) -> np.dtype:
    if not isinstance(value, str) or value not in DTYPES:
        raise ValueError(f"{where} must be one of {', '.join(DTYPES)}, got {_brief(value)}")
    return DTYPES[value]


def _read_bytes(value: Any, where: str, depth: int) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise ValueError(f"{where} must be base64, got {_brief(value)}") from None


_TAGS: dict[str, Callable[[Any, str, int], Any]] = {
    "$tuple": _read_tuple,
    "$dict": lambda value, where, depth: dict(_read_pairs(value, where, depth)),
    "$ordered": lambda value, where, depth: OrderedDict(_read_pairs(value, where, depth)),
    "$float": _read_float,
    "$dtype": _read_dtype,
    "$bytes": _read_bytes,
    "$array": lambda value, where, depth: decode_array(value, where),
}
