"""Configurations, generated: whatever can be made comes back, and whatever is not one is a ValueError."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import gradtx
from gradtx import from_config, to_config
from gradtx._core.configured import _same

from .test_config import assert_exact, assorted, through_json


class Call(NamedTuple):
    """Made in the test and not in the strategy: the checks of annotations draw random numbers of their own."""

    make: Any
    args: Any

    def __call__(self) -> Any:
        return self.make(*[arg() if isinstance(arg, Call) else arg for arg in self.args])


def calls(make: Any, *args: Any) -> st.SearchStrategy[Call]:
    return st.tuples(*args).map(lambda drawn: Call(make, drawn))


numbers = st.floats(0.0, 1e6, allow_subnormal=True) | calls(jnp.float32, st.floats(0.0, 0.5, width=32))
decays = st.floats(0.0, 1.0, exclude_max=True) | st.floats(0.0, 0.96875, width=16).map(lambda x: np.array(x, "f2"))
schedules = st.one_of(
    calls(gradtx.constant_schedule, numbers),
    calls(gradtx.linear_schedule, numbers, numbers, numbers),
    calls(
        gradtx.piecewise_constant_schedule, numbers, st.dictionaries(st.integers(0, 99), st.floats(0, 1), max_size=3)
    ),
)
rates = numbers | schedules
masks = st.recursive(
    st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
singles = st.one_of(
    calls(gradtx.sgd, rates, st.none() | decays),
    calls(gradtx.momentum, decays, st.booleans(), st.sampled_from([None, "float32", jnp.bfloat16])),
    calls(gradtx.adamw, rates, decays, decays, *map(st.just, (1e-8, 0.0, None)), rates, st.none() | masks),
    calls(gradtx.clip, st.floats(1e-300, 1e300)),
    calls(gradtx.scale, st.floats(allow_nan=False, allow_infinity=False)),
)


def named(*stages: Any) -> Any:
    """Names and transformations in turn."""
    return gradtx.named_chain(*zip(stages[::2], stages[1::2], strict=True))


transformations = st.recursive(
    singles,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda stages: Call(gradtx.chain, stages))
        | st.dictionaries(st.text(max_size=4), inner, max_size=3).map(
            lambda stages: Call(named, [part for pair in stages.items() for part in pair])
        )
    ),
    max_leaves=4,
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(transformations)
def test_round_trip_of_anything(call):
    tx = call()
    assert_exact(through_json(tx), tx)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["name", "arguments", "$tuple"]), inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(plain)
def test_round_trip_of_plain_static_values(value):
    got = through_json(assorted(0.0, sizes=value)).sizes
    assert repr(got) == repr(assorted(0.0, sizes=value).sizes)  # NaN equals itself in words


arrays = st.tuples(
    st.sampled_from(
        ["float16", "bfloat16", "float32", "float64", "int8", "uint32", "bool", "complex64", "float8_e5m2"]
    ),
    st.sampled_from([(), (0,), (3,), (2, 0), (2, 2), (300,)]),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(arrays)
def test_arrays_come_back_bit_for_bit(described):
    name, shape, seed = described
    dtype = np.dtype(getattr(jnp, name))
    size = math.prod(shape) * dtype.itemsize
    raw = np.random.default_rng(seed).integers(0, 2 if name == "bool" else 256, size, np.uint8)
    value = raw.view(dtype).reshape(shape)  # any bits: all kinds of NaN too
    got = through_json(assorted(value)).weights
    assert got.dtype == value.dtype
    assert got.shape == value.shape
    assert got.tobytes() == value.tobytes()
    assert _same(got, value)


hostile_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("name", "arguments", "version", "learning_rate", "transforms", "mask", "weights", "sizes"),
                    *("$tuple", "$dict", "$ordered", "$float", "$dtype", "$bytes", "$array"),
                    *("kind", "dtype", "shape", "data", "weak_type"),
                ]
            ),
            inner | st.sampled_from(["jax", "numpy", "float32", "nan", "AAAA"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from(["gradtx.adamw", "gradtx.chain", "gradtx.named_chain", assorted.factory.name]), hostile_json)  # type: ignore[attr-defined]
def test_anything_else_is_a_value_error(name, junk):
    for config in (
        junk,
        {"name": name, "arguments": junk},
        {"name": name, "arguments": {"learning_rate": junk, "mask": junk}},
        {"name": name, "arguments": {"weights": junk, "sizes": junk}},
        {"name": name, "arguments": {"transforms": [junk]}},
    ):
        try:
            tx = from_config(config)
        except ValueError:
            continue
        to_config(tx)
