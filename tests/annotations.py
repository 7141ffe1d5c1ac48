"""Annotations are executed by beartype, which is asked once for each signature.

The body of a transformation defines its functions anew at each call, and making a checker takes beartype milliseconds:
without this, a third of the time of all tests.
"""

from collections.abc import Callable
from typing import Any

from beartype import beartype

_checkers: dict[Any, Callable[..., Any]] = {}


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`beartype(function)`, for the stand-ins that jaxtyping makes: they have a signature, and no body of their own."""
    if function.__name__ == "__init__":
        return function  # constructors coerce what they are given, and check it themselves
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    defaults = (len(function.__defaults__ or ()), *(function.__kwdefaults__ or ()))
    signature = (function.__module__, function.__qualname__, code.co_flags, code.co_code, names, defaults)
    try:
        key = (signature, tuple(function.__annotations__.items()))
        known = _checkers.get(key)
    except TypeError:  # an annotation that has no hash
        return beartype(function)
    if known is None:
        known = _checkers[key] = beartype(function)
    return known
