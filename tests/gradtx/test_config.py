"""Configurations: an exact round trip through JSON for everything, and what cannot be saved."""

import json
import math
from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import from_config, to_config

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
    "newton": gradtx.newton(0.5, 0.1, True, gradtx.scale_by_backtracking_linesearch(9)),
    "newton, its part": gradtx.scale_by_newton(0.1),
    "newton_cg": gradtx.newton_cg(9, rtol=0.1),
    "newton_cg, its part": gradtx.scale_by_newton_cg(9),
    "gauss_newton_cg": gradtx.gauss_newton_cg(9, linesearch=gradtx.scale_by_backtracking_linesearch(9)),
    "gauss_newton_cg, its part": gradtx.scale_by_gauss_newton_cg(9, 0.1),
    "stochastic_lbfgs": gradtx.stochastic_lbfgs(gradtx.linear_schedule(0.1, 0.0, 9), curvature="gradients"),
    "stochastic_lbfgs, its part": gradtx.scale_by_stochastic_lbfgs(3, 5, 0.1),
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
