"""Configurations: an exact round trip through JSON for everything, and a clear no to everything else."""

import json
import math
from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradtx
from gradtx import from_config, to_config
from gradtx._core.configured import _same, registry

from .table import OPTIMIZERS, PARTS, falling


def through_json(tx: Any) -> Any:
    """Saved and read again; strict JSON, sorted so that nothing rests on the order of keys."""
    return from_config(json.loads(json.dumps(to_config(tx), allow_nan=False, sort_keys=True)))


def assert_exact(got: Any, expected: Any) -> None:
    """Equal, in structure too, with leaves of one kind: `jit` traces once for both."""
    assert got == expected
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    assert hash(got) == hash(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert type(a) is type(b)
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None)
        assert getattr(a, "weak_type", None) == getattr(b, "weak_type", None)
    assert to_config(got) == to_config(expected)


SCHEDULES = {
    "constant": gradtx.constant_schedule(0.1),
    "linear": gradtx.linear_schedule(0.1, 0.0, 100),
    "polynomial": gradtx.polynomial_schedule(0.1, 0.0, 2, 100, 5),
    "exponential": gradtx.exponential_decay(0.1, 10, 0.5, 3, True),
    "exponential, end": gradtx.exponential_decay(0.1, 10, 0.5, end_value=0.01),
    "cosine": gradtx.cosine_decay_schedule(0.1, 100),
    "warmup": gradtx.warmup_cosine_decay_schedule(0.0, 0.1, 10, 100),
    "piecewise": gradtx.piecewise_constant_schedule(0.1, {30: 0.5, 60: 0.1}),
    "piecewise, nothing": gradtx.piecewise_constant_schedule(0.1),
    "join, a tuple": gradtx.join_schedules((gradtx.constant_schedule(0.1), 0.2), (5,)),
    "join, a list": gradtx.join_schedules([gradtx.cosine_decay_schedule(0.1, 9), gradtx.constant_schedule(0.1)], [9]),
}


@gradtx.transformation
def assorted(
    weights: gradtx.Data, sizes: gradtx.Static = (), flag: bool = False, optional: gradtx.Scalar | None = None
) -> gradtx.Transform:
    """Arguments of every kind."""
    return gradtx.Transform(lambda params: (), lambda updates, state, params=None: (updates, state))


@gradtx.transformation(name="a name of its own")
def elsewhere(rate: gradtx.Scalar) -> gradtx.GradientTransformation:
    """A recipe that is saved under another name."""
    return gradtx.sgd(rate)


TREES = {
    "named chain": gradtx.named_chain(
        ("z", gradtx.clip(1.0)),
        ("a", gradtx.chain(gradtx.adam(0.1), gradtx.chain())),
        ("name", gradtx.scale(2.0)),
    ),
    "empty": gradtx.chain(),
    "schedule in a chain": gradtx.chain(gradtx.adam(SCHEDULES["join, a list"]), gradtx.scale_by_schedule(0.5)),
    "None": gradtx.rmsprop(0.1, momentum=None),
    "dtype": gradtx.chain(gradtx.adam(0.1, mu_dtype=jnp.bfloat16), gradtx.sgd(0.1, 0.9, accumulator_dtype="float32")),
    "mask": gradtx.adamw(0.1, mask={"a": True, "b": (False, [True]), "c": {"d": np.bool_(True), "e": np.array(False)}}),
    "mask with odd keys": gradtx.adamw(0.1, mask={"$tuple": True, "w": {1: True, 2: False}, "x": {"name": True}}),
    "mask like a call": gradtx.adamw(0.1, mask={"name": True, "arguments": {"name": False}}),
    "ordered mask": gradtx.adamw(0.1, mask=OrderedDict(z=True, a=OrderedDict([((1, "t"), False)]))),
    "jax": gradtx.adam(jnp.asarray([1e-3, 1e-2])),
    "weak": gradtx.adam(jnp.asarray(0.1)),
    "weak batch": gradtx.adam(jnp.stack([jnp.asarray(0.1), jnp.asarray(0.7)])),
    "half": gradtx.adam(jnp.asarray(0.1, jnp.bfloat16), b1=jnp.float16(0.9)),
    "numpy": gradtx.adam(np.array([0.1, 1 / 3]), b1=np.array(0.9, np.float32)),
    "own name": elsewhere(0.1),
    "bias correction": gradtx.chain(gradtx.ema(0.9, debias=False), gradtx.bias_correction(0.9)),
    "weights": assorted({"w": jnp.arange(6.0).reshape(2, 3), "n": [np.arange(3), 3, True, None, "text"]}),
    "many weights": assorted(np.random.default_rng(0).normal(size=(40, 20)).astype(np.float32)),
    "unusual numbers": assorted(np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])),
    "unusual NaN": assorted(np.array([0x7FC00123, 0x7FC00000, 0xFFC00000], np.uint32).view(np.float32)),
    "complex": assorted(jnp.array([1 + 2j]), sizes=(np.complex64(1j), np.array([[1j]]))),
    "dtypes": assorted(
        {
            str(np.dtype(t)): jnp.ones((2, 0, 1), t) if i % 2 else np.ones((3,), t)
            for i, t in enumerate(("int8", "uint8", "int32", "uint32", "bool", "float16", jnp.bfloat16, "float8_e5m2"))
        }
    ),
    "static": assorted(
        0.0,
        sizes=[
            1,
            -2.5,
            math.inf,
            -math.inf,
            "a",
            b"\x00\xff",
            None,
            True,
            np.dtype("float32"),
            np.int8(3),
            {"k": (1,)},
        ],
        flag=True,
        optional=0.5,
    ),
    "large integers": assorted(2**70, sizes=(-(2**70),)),
    "strings": assorted("\ud800 \0 é", sizes=("$name", "")),
}


EVERYTHING = {
    **{case.name: case.make() for case in OPTIMIZERS},
    **{part.name: part.make() for part in PARTS if falling not in part.arguments.values()},
    "lbfgs": gradtx.lbfgs(3),
    "lbfgs, its parts": gradtx.chain(gradtx.scale_by_lbfgs(3), gradtx.scale_by_zoom_linesearch(9, curv_rtol=0.5)),
    **{f"schedule {name}": schedule for name, schedule in SCHEDULES.items()},
    **{f"with {name}": gradtx.adam(schedule) for name, schedule in SCHEDULES.items()},
    **TREES,
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_round_trip(name):
    assert_exact(through_json(EVERYTHING[name]), EVERYTHING[name])


def _names(config: Any) -> set[str]:
    """Every factory in it."""
    if isinstance(config, dict):
        own = {config["name"]} if isinstance(config.get("name"), str) else set()
        return own.union(*map(_names, config.values()))
    return set().union(*map(_names, config)) if isinstance(config, list) else set()


def test_every_factory_of_the_library_is_in_the_table():
    seen = _names([to_config(tx) for tx in EVERYTHING.values()])
    public = {value.factory.name for value in vars(gradtx).values() if hasattr(value, "factory")}
    assert public - seen == {"gradtx.stateless"}
    with pytest.raises(TypeError, match="the plain function"):
        to_config(gradtx.stateless(max))


@pytest.mark.usefixtures("x64")
def test_round_trip_in_64_bits():
    for tx in (
        gradtx.adam(jnp.asarray([0.1, 1 / 3])),
        gradtx.adam(jnp.asarray(1 / 3)),  # weak
        gradtx.adam(jnp.float32(0.1)),
        assorted([jnp.arange(3), jnp.array([1 / 3 + 1j])]),
    ):
        assert_exact(through_json(tx), tx)


def test_weak_float32_from_a_program_without_64_bits():
    tx = gradtx.adam(jnp.asarray(0.1))
    with jax.enable_x64(True):
        got = through_json(tx)
        assert got.learning_rate.dtype == jnp.float32
        assert got.learning_rate.weak_type


def test_64_bits_are_asked_for_where_they_are_off():
    with jax.enable_x64(True):
        config = to_config(gradtx.adam(jnp.asarray([1 / 3])))
    with pytest.raises(ValueError, match=r"config\.learning_rate.*float64 now; enable 64-bit types.*jax_enable_x64"):
        from_config(config)


def test_few_numbers_are_readable_and_many_are_compact():
    def data(value: Any) -> Any:
        return to_config(assorted(value))["arguments"]["weights"]["$array"]["data"]

    assert data(np.array([0.1, 1 / 3], np.float32)) == [0.1, 0.33333334]
    assert data(jnp.array([0.1, -0.0, jnp.inf], jnp.bfloat16)) == [0.100098, -0.0, "inf"]
    assert len(data(np.zeros(1000, np.float32))) == 5336  # four characters for three bytes


def test_static_arrays_are_frozen_again():
    mask = through_json(gradtx.adamw(0.1, mask=[np.array(True)])).mask
    with pytest.raises(ValueError, match="read-only"):
        mask[0][...] = False


def test_arguments_left_out_have_their_defaults():
    assert from_config({"name": "gradtx.adam", "arguments": {"learning_rate": 1}}) == gradtx.adam(1)
    assert from_config({"name": "gradtx.chain", "arguments": {}}) == gradtx.chain()


def test_written_by_hand():
    steps = {"init_value": 1, "end_value": 0, "transition_steps": 10}
    config = {
        "name": "gradtx.adamw",
        "arguments": {
            "learning_rate": {"name": "gradtx.linear_schedule", "arguments": steps},
            "mu_dtype": "bfloat16",
            "mask": {"w": True},
        },
    }
    assert from_config(config) == gradtx.adamw(
        gradtx.linear_schedule(1, 0, 10), mu_dtype=jnp.bfloat16, mask={"w": True}
    )


# Hypothesis


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


# What cannot be saved


class Mask(NamedTuple):
    """A container that a file does not know."""

    w: bool


@gradtx.schedule
def own_schedule(rate: gradtx.Scalar) -> Any:
    """A schedule of the user's own."""
    return lambda step: rate / (1 + step)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gradtx.adam(falling), "adam.learning_rate: the plain function falling.*@gradtx.schedule"),
        (lambda: gradtx.adam(optax.constant_schedule(0.1)), "<lambda> cannot be saved.*or use one of gradtx's"),
        (lambda: gradtx.chain(gradtx.clip(1.0), optax.adam(0.1)), r"transforms\[1\].*init_fn.*@gradtx.transformation"),
        (lambda: gradtx.named_chain(("a", optax.adam(0.1))), r"transforms\[0\]\[1\].*@gradtx.transformation"),
        (lambda: gradtx.stateless(lambda u, p: u), "stateless: the plain function .*@gradtx.transformation"),
        (
            lambda: gradtx.adamw(0.1, mask=lambda p: p),
            "adamw.mask: the plain function .* Give a mask as a tree of bools",
        ),
        (lambda: gradtx.adamw(0.1, mask={"a": [max]}), r"adamw\.mask\['a'\]\[0\]: the plain function max"),
        (lambda: gradtx.adamw(0.1, mask=Mask(True)), r"adamw\.mask: Mask\(w=True\) .* cannot be saved"),
        (lambda: assorted(object()), "assorted.weights: <object .* cannot be saved; use numbers"),
        (lambda: assorted(1j), "cannot be saved"),
        (lambda: assorted(jax.random.key(0)), r"an array of key<fry> cannot be saved"),
        (lambda: assorted(np.array(["a"])), "an array of <U1 cannot be saved"),
        (lambda: assorted(np.array([1.0], ">f4")), "an array of >f4 cannot be saved"),
        (lambda: assorted(0.0, sizes=np.dtype("M8[s]")), "known dtypes are"),
    ],
)
def test_what_cannot_be_saved(make, words):
    with pytest.raises(TypeError, match=words):
        to_config(make())


def test_a_tracer_cannot_be_saved():
    with pytest.raises(TypeError, match=r"adam\.learning_rate is a tracer; .*outside jit"):
        jax.jit(lambda rate: to_config(gradtx.adam(rate)))(0.1)


def test_registered_schedules_can_be_saved():
    tx = gradtx.adam(own_schedule(0.1))
    assert_exact(through_json(tx), tx)


def nested(depth: int) -> dict[str, Any]:
    """Chains in chains."""
    config: dict[str, Any] = {"name": "gradtx.chain", "arguments": {"transforms": []}}
    for _ in range(depth):
        config = {"name": "gradtx.chain", "arguments": {"transforms": [config]}}
    return config


def test_depth_is_limited_both_ways():
    tx = from_config(nested(8))
    assert_exact(through_json(tx), tx)
    mask: Any = True
    for _ in range(60):
        mask = [mask]
    assert_exact(through_json(gradtx.adamw(0.1, mask=mask)), gradtx.adamw(0.1, mask=mask))
    with pytest.raises(TypeError, match="nested more than 64 deep"):
        to_config(gradtx.adamw(0.1, mask=[[[[[mask]]]]]))
    for depth in (70, 50_000):
        with pytest.raises(ValueError, match="nested more than 64 deep"):
            from_config(nested(depth))


@pytest.mark.parametrize(
    "wrap",
    [lambda x: [x], lambda x: (x,), lambda x: {"a": x}, lambda x: {1: x}, lambda x: OrderedDict(a=x)],
    ids=["list", "tuple", "dict", "other keys", "ordered"],
)
def test_what_is_not_too_deep_to_write_is_not_too_deep_to_read(wrap):
    mask, deepest = True, 0
    for depth in range(1, 70):
        mask = wrap(mask)
        if depth < 58:
            continue
        tx = gradtx.chain(gradtx.adamw(0.1, mask=mask))
        try:
            config = to_config(tx)
        except TypeError:
            continue
        deepest = depth
        assert from_config(config) == tx
    assert deepest >= 58


def adam(**arguments: Any) -> dict[str, Any]:
    return {"name": "gradtx.adam", "arguments": {"learning_rate": 0.1, **arguments}}


def array(**changes: Any) -> dict[str, Any]:
    """Adam with an array for a rate."""
    return adam(learning_rate={"$array": {"kind": "jax", "dtype": "float32", "shape": [1], "data": [0.1], **changes}})


CONSTANT = {"name": "gradtx.constant_schedule", "arguments": {"value": 1}}
SHARED: list[Any] = []
SHARED.append(SHARED)

HOSTILE = {
    "nothing": (None, "takes a dict"),
    "a list": ([adam()], "takes a dict"),
    "a string": (json.dumps(adam()), "takes a dict"),
    "an empty dict": ({}, "must have `name` and `arguments`"),
    "no arguments": ({"name": "gradtx.adam"}, "must have `name` and `arguments`"),
    "another version": ({"version": 2, **adam()}, "version is 2 .*reads version 1"),
    "a version of another type": ({"version": True, **adam()}, "version is True"),
    "a version inside": (adam(learning_rate={"version": 1, **adam()}), "unknown key 'version'"),
    "an unknown name": ({**adam(), "name": "gradtx.adm"}, "did you mean gradtx.adam"),
    "an importable name": (
        {"name": "os.system", "arguments": {"command": "true"}},
        "nothing is registered as 'os.system'",
    ),
    "a private name": ({**adam(), "name": "gradtx._core.configured.registry"}, "import the module that defines it"),
    "a function that is not a factory": ({**adam(), "name": "gradtx.apply_updates"}, "nothing is registered"),
    "a long name": ({**adam(), "name": "gradtx.adam" * 10**5}, "nothing is registered"),
    "a name of another type": ({**adam(), "name": ["gradtx.adam"]}, "nothing is registered"),
    "a dunder": ({**adam(), "name": "__import__"}, "nothing is registered"),
    "foreign": ({"name": "gradtx.foreign", "arguments": {"init": "print", "update": "print"}}, "holds a function"),
    "stateless": ({"name": "gradtx.stateless", "arguments": {"function": adam()}}, "holds a function"),
    "a schedule by name": (adam(learning_rate="builtins.eval"), "learning_rate` must be a number"),
    "a callable mask by name": ({"name": "gradtx.adamw", "arguments": {}}, "needs the argument `learning_rate`"),
    "arguments as a list": ({"name": "gradtx.adam", "arguments": [0.1]}, "arguments must be a dict"),
    "an unknown argument": (adam(beta1=0.9), "adam has no argument 'beta1'.*did you mean b1"),
    "an argument with a private name": (adam(_factory=1), "no argument '_factory'"),
    "an argument that is no string": ({"name": "gradtx.adam", "arguments": {1: 0.1}}, "no argument 1"),
    "an unknown key": ({"__class__": "x", **adam()}, "unknown key '__class__'"),
    "an unknown key inside": (adam(learning_rate={"evil": 1, **adam()}), "config.learning_rate: unknown key 'evil'"),
    "a negative rate": (adam(learning_rate=-0.1), "learning_rate` must be a finite number >= 0, got -0.1"),
    "a decay of 1": (adam(b1=1), r"b1` must be in \[0, 1\)"),
    "a string for a number": (adam(b1="0.9"), "b1` must be a number"),
    "a bool for a number": (adam(b1=True), "b1` must be a number"),
    "a number for a bool": (adam(nesterov=1), "nesterov` must be bool"),
    "null for a number": (adam(nesterov=None), "nesterov` must be bool"),
    "a dict for a number": (adam(b1={"a": 1}), "b1` must be a number"),
    "a list for a number": (adam(b1=[0.9]), "b1` must be a number"),
    "a transformation for a number": (adam(b1=adam()), "b1` must be a number"),
    "a transformation for a rate": (adam(learning_rate=adam()), "learning_rate` must be a number"),
    "a schedule for a stage": (
        {
            "name": "gradtx.chain",
            "arguments": {"transforms": [{"name": "gradtx.constant_schedule", "arguments": {"value": 1}}]},
        },
        r"transforms`\[0\] must be a gradient transformation",
    ),
    "NaN as Python reads it": (json.loads(json.dumps(adam(b1=math.nan))), r'nan is not JSON; write {"\$float": "nan"}'),
    "infinity": (adam(eps=math.inf), "inf is not JSON"),
    "NaN as we write it": (adam(b1={"$float": "nan"}), r"b1` must be in \[0, 1\), got nan"),
    "a float in words": (adam(b1={"$float": "0.5"}), "must be nan, inf or -inf"),
    "a float of another type": (adam(b1={"$float": [1]}), "must be nan, inf or -inf"),
    "a huge integer": (adam(b1=10**400), "int too large"),
    "an unknown tag": (adam(b1={"$eval": "1"}), r"expected one of \$tuple"),
    "a tag and more": (adam(b1={"$float": "nan", "x": 1}), "alone"),
    "a tag of another type": (adam(b1={"$tuple": 5}), "must be a list"),
    "keys that are not strings": (adam(b1={1: 2}), "is not what JSON holds"),
    "an object": (adam(b1=object()), "is not what JSON holds"),
    "an array that JSON does not hold": (adam(b1=np.float32(0.5)), "is not what JSON holds"),
    "a list that holds itself": (adam(b1=SHARED), "nested more than 64 deep"),
    "unhashable keys": (adam(b1={"$dict": [[[1], 2]]}), "key must be hashable"),
    "equal keys": (adam(b1={"$dict": [["a", 2], ["a", 3]]}), "keys must differ"),
    "pairs of three": (adam(b1={"$ordered": [[1, 2, 3]]}), "list of pairs"),
    "a dtype that runs code": (adam(mu_dtype={"$dtype": "object"}), "must be one of bool, int8"),
    "a dtype in words": (adam(mu_dtype="O"), "floating or complex dtype"),
    "a dtype of another kind": (adam(mu_dtype={"$dtype": "int32"}), "floating or complex dtype"),
    "bytes that are not base64": (adam(b1={"$bytes": "?"}), "must be base64"),
    "bytes of another type": (adam(b1={"$bytes": 5}), "must be base64"),
    "stages as a dict": ({"name": "gradtx.chain", "arguments": {"transforms": {}}}, "transforms must be a list"),
    "stages that are numbers": (
        {"name": "gradtx.chain", "arguments": {"transforms": [1]}},
        "must be a gradient transf",
    ),
    "names that are equal": (
        {"name": "gradtx.named_chain", "arguments": {"transforms": [{"$tuple": ["a", adam()]}] * 2}},
        "names must differ",
    ),
    "names that are missing": ({"name": "gradtx.named_chain", "arguments": {"transforms": [adam()]}}, "expected pairs"),
    "too few boundaries": (
        {"name": "gradtx.join_schedules", "arguments": {"schedules": [0.1, 0.2], "boundaries": []}},
        "2 schedules need 1 boundaries",
    ),
    "schedules that are null": (
        {"name": "gradtx.join_schedules", "arguments": {"schedules": None, "boundaries": []}},
        "config: ",
    ),
    "boundaries that are a string": (
        {"name": "gradtx.piecewise_constant_schedule", "arguments": {"init_value": 1, "boundaries_and_scales": "ab"}},
        "config: ",
    ),
    "an array that is a list": (adam(b1={"$array": [1]}), "must be a dict of kind, dtype, shape and data"),
    "an array with more fields": (array(pickle=""), "must be a dict of kind"),
    "an array of objects": (array(dtype="object"), "dtype must be one of"),
    "an array of a structured dtype": (array(dtype="i4,O"), "dtype must be one of"),
    "an array of an unknown kind": (array(kind="torch"), "kind must be jax"),
    "a weak array of NumPy": (array(kind="numpy", weak_type=True), "which alone may be weak"),
    "an array of a huge shape": (array(shape=[10**12]), r"shape \[1000000000000\] does not fit 1 entries"),
    "an array of a huge empty shape": (array(shape=[0, 10**30], data=[]), "does not fit 0 entries"),
    "an array too large to address": (array(shape=[0, 2**40, 2**40], data=[]), "config.learning_rate"),
    "an array of many dimensions": (array(shape=[1] * 99), "shape must be a list of sizes"),
    "an array of a negative shape": (array(shape=[-1]), "shape must be a list of sizes"),
    "an array of a shape of bools": (array(shape=[True]), "shape must be a list of sizes"),
    "an array with a string inside": (array(data=["0.1"]), "data has '0.1'"),
    "an array with a list inside": (array(data=[[0.1]]), r"data has \[0.1\]"),
    "an array with a bool inside": (array(data=[True]), "data has True"),
    "an array with a float for an integer": (array(dtype="int32", data=[0.5]), "not of dtype int32"),
    "an array with too large a number": (array(data=[1e300]), "a number that float32 cannot hold"),
    "an array with a huge integer": (array(data=[10**400]), "a number that float32 cannot hold"),
    "an array with too large an integer": (array(dtype="int8", data=[300]), "a number that int8 cannot hold"),
    "an array of bytes that do not fit": (array(data="AAA="), "float32 entries in base64"),
    "an array of bytes that are not": (array(data="%"), "in base64"),
    "an array of null": (array(data=None), "in base64"),
    "an array of bools that are not": (array(dtype="bool", data="Ag=="), "neither 0 nor 1"),
    "a scalar with a shape": (array(kind="scalar"), "does not fit"),
    "an array with a NaN for a rate": (array(data=["nan"]), r"must be a finite number >= 0, got \[nan\]"),
    "an array of complex numbers": (array(dtype="complex64", data="AAAAAAAAAAA="), "must be real"),
    "an array of bools for a rate": (array(dtype="bool", data=[True]), "must be a number"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_configurations(name):
    config, words = HOSTILE[name]
    with pytest.raises(ValueError, match=words):
        from_config(config)


def test_nothing_is_imported_or_run(monkeypatch):
    import builtins

    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"called with {args}")

    registered = dict(registry)
    monkeypatch.setattr("os.system", forbidden)
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", forbidden)
        for name in ("os.system", "builtins.eval", "tests.gradtx.study.anything"):
            with pytest.raises(ValueError, match="nothing is registered"):
                from_config({"name": name, "arguments": {}})
    assert registry == registered
