"""Arrays as plain data, bit for bit: numbers that a person can read where there are few, base64 where not."""

import base64
import binascii
import math
import reprlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DTYPES: dict[str, np.dtype] = {
    name: np.dtype(getattr(jnp, name))
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    )
}
READABLE = 256  # entries; beyond them nobody reads
_RANK = 32
_ENTRIES = 2**48
_FIELDS = frozenset(("kind", "dtype", "shape", "data"))
_UNUSUAL = ("nan", "inf", "-inf")


def encode_array(value: Any, where: str) -> dict[str, Any]:
    """A jax array, a NumPy array or a NumPy scalar as a dict. Raises TypeError for a dtype that is not listed."""
    kind = "jax" if isinstance(value, jax.Array) else "numpy" if isinstance(value, np.ndarray) else "scalar"
    if str(value.dtype) not in DTYPES:
        raise TypeError(f"{where}: an array of {value.dtype} cannot be saved; known are {', '.join(DTYPES)}")
    array = np.asarray(value)
    weak = {"weak_type": True} if getattr(value, "weak_type", False) else {}
    return {"kind": kind, "dtype": str(array.dtype), "shape": list(array.shape), "data": _data(array), **weak}


def _data(array: np.ndarray) -> list[Any] | str:
    if array.size <= READABLE and not np.iscomplexobj(array):
        numbers = [_readable(entry) for entry in array.ravel()]
        if _from_numbers(numbers, array.dtype, "").tobytes() == array.tobytes():  # not so for some NaNs
            return numbers
    return base64.b64encode(_little_endian(array).tobytes()).decode()


def _readable(entry: Any) -> Any:
    number = entry.item()
    if not isinstance(number, float):
        return number
    if not math.isfinite(number):
        return repr(number)
    short = float(str(entry))  # 0.1, and not the 0.10000000149011612 that a float32 of 0.1 is
    return short if entry.dtype.type(short) == entry else number


def _little_endian(array: np.ndarray) -> np.ndarray:
    return array.byteswap() if sys.byteorder == "big" else array


def decode_array(value: Any, where: str) -> Any:
    """What `encode_array` made, from a source that is not trusted. Raises ValueError."""
    if type(value) is not dict or not _FIELDS <= value.keys() <= _FIELDS | {"weak_type"}:
        raise ValueError(f"{where} must be a dict of kind, dtype, shape and data, got {reprlib.repr(value)}")
    kind, name, shape, data = (value[field] for field in ("kind", "dtype", "shape", "data"))
    weak = value.get("weak_type", False)
    if kind not in ("jax", "numpy", "scalar") or type(weak) is not bool or (weak and kind != "jax"):
        raise ValueError(f"{where}: kind must be jax (which alone may be weak), numpy or scalar, got {kind!r}")
    if not isinstance(name, str) or name not in DTYPES:
        raise ValueError(f"{where}: dtype must be one of {', '.join(DTYPES)}, got {reprlib.repr(name)}")
    if type(shape) is not list or len(shape) > _RANK or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{where}: shape must be a list of sizes, got {reprlib.repr(shape)}")
    flat = _flat(data, DTYPES[name], where)
    # The entries are there already: a shape that promises more allocates nothing. Without entries its sizes may still
    # be too large for NumPy.
    if flat.size != math.prod(shape) or math.prod(n for n in shape if n) > _ENTRIES or (kind == "scalar" and shape):
        raise ValueError(f"{where}: shape {reprlib.repr(shape)} does not fit {flat.size} entries")
    array = flat.reshape(shape)
    if kind == "jax":
        return _to_jax(array, weak, where)
    return array if kind == "numpy" else array[()]


def _flat(data: Any, dtype: np.dtype, where: str) -> np.ndarray:
    if type(data) is list:
        return _from_numbers(data, dtype, where)
    try:
        flat = np.frombuffer(base64.b64decode(data, validate=True), dtype)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ValueError(f"{where}: data must be a list of numbers, or {dtype} entries in base64: {error}") from None
    if dtype == np.bool_ and flat.view(np.uint8).max(initial=0) > 1:
        raise ValueError(f"{where}: data has a bool that is neither 0 nor 1")
    return _little_endian(flat).copy()


def _from_numbers(numbers: list[Any], dtype: np.dtype, where: str) -> np.ndarray:
    floating = jnp.issubdtype(dtype, jnp.floating)
    allowed = (float, int) if floating else (bool,) if dtype == np.bool_ else (int,)
    for number in numbers:
        if type(number) not in allowed and not (floating and type(number) is str and number in _UNUSUAL):
            raise ValueError(f"{where}: data has {reprlib.repr(number)}, which is not of dtype {dtype}")
    finite = [type(number) is not str for number in numbers]
    try:
        with np.errstate(all="ignore"):
            wide = [float(number) for number in numbers] if floating else numbers
            array = np.array(wide, np.float64 if floating else dtype).astype(dtype)
    except OverflowError as error:
        raise ValueError(f"{where}: data has a number that {dtype} cannot hold: {error}") from None
    # Too large a number has become an infinity, or NaN in a dtype that has none.
    if floating and not np.all(np.isfinite(array.astype(np.float64))[finite]):
        raise ValueError(f"{where}: data has a number that {dtype} cannot hold")
    return array


def _to_jax(array: np.ndarray, weak: bool, where: str) -> jax.Array:
    made = jnp.asarray(array)
    if weak and made.dtype == array.dtype:
        # A weak type comes from a Python number; its dtype is the default one of 32 or 64 bits.
        with jax.enable_x64(array.dtype in (np.float64, np.complex128, np.int64)):
            zero = 0j if np.iscomplexobj(array) else 0.0 if jnp.issubdtype(array.dtype, jnp.floating) else 0
            made = jnp.full(array.shape, zero).at[...].set(made)
    if made.dtype != array.dtype or made.weak_type != weak:
        is64 = array.dtype.itemsize == (16 if np.iscomplexobj(array) else 8)
        mend = "enable 64-bit types: jax.config.update('jax_enable_x64', True)" if is64 else "its weak type is unusual"
        raise ValueError(f"{where}: JAX cannot make this array of {array.dtype} now; {mend}")
    return made
