"""Configurations: a round trip through JSON, what cannot be saved, and what is not one."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis.extra import numpy as hnp

import gradtx
from gradtx import EmptyState, Params, Stateless, from_config, to_config

from .table import TABLE


def through_json(tx: Any) -> Any:
    """Saved and read again; strict JSON, sorted so that nothing rests on the order of keys."""
    return from_config(json.loads(json.dumps(to_config(tx), allow_nan=False, sort_keys=True)))


def assert_saved(tx: Any) -> None:
    """Equal, in structure too, so that `jit` traces once for both."""
    got = through_json(tx)
    assert got == tx
    assert jax.tree.structure(got) == jax.tree.structure(tx)
    assert hash(got) == hash(tx)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(tx), strict=True):
        assert getattr(a, "dtype", type(a)) == getattr(b, "dtype", type(b))
    assert to_config(got) == to_config(tx)


class assorted(Stateless):
    """Fields of every kind."""

    weights: gradtx.Data
    sizes: gradtx.Static = ()
    flag: bool = False
    optional: gradtx.Scalar | None = None

    def update(self, updates: Params, state: EmptyState, params: Params | None = None) -> tuple[Params, EmptyState]:
        return updates, state


class own_schedule(gradtx.Schedule):
    """A schedule of the user's own."""

    rate: gradtx.Scalar

    def at(self, step: jax.Array) -> Any:
        return self.rate / (1 + step)


def falling(count: Any) -> Any:
    """A plain function as a schedule."""
    return 1.0 / (1.0 + count)


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
    "join": gradtx.join_schedules([gradtx.cosine_decay_schedule(0.1, 9), gradtx.constant_schedule(0.1), 0.2], [9, 12]),
    "own": own_schedule(0.1),
}
OTHERS = {
    "named chain": gradtx.named_chain(
        ("z", gradtx.clip(1.0)), ("a", gradtx.chain(gradtx.adam(0.1), gradtx.chain())), ("name", gradtx.scale(2.0))
    ),
    "dtype": gradtx.chain(gradtx.adam(0.1, mu_dtype=jnp.bfloat16), gradtx.sgd(0.1, 0.9, accumulator_dtype="float32")),
    "mask": gradtx.adamw(0.1, mask={"a": True, "b": (False, (True,)), "c": {"d": np.bool_(True)}}),
    "mask by rank": gradtx.adamw(0.1, mask=gradtx.by_rank(2)),
    "mask by path": gradtx.adamw(0.1, mask=gradtx.by_path("*/kernel", "head/*")),
    "batch": gradtx.adam(jnp.asarray([1e-3, 1e-2])),
    "half": gradtx.adam(jnp.asarray(0.1, jnp.bfloat16), b1=jnp.float16(0.9)),
    "numpy": gradtx.adam(np.array([0.1, 1 / 3], np.float32), b1=np.array(0.9, np.float32)),
    "weights": assorted({"w": jnp.arange(6.0).reshape(2, 3), "n": (np.arange(3), 3, True, None)}),
    "unusual numbers": assorted(np.array([np.nan, np.inf, -np.inf, -0.0, 1e-38], np.float32), sizes=(math.inf,)),
    "dtypes": assorted({str(np.dtype(t)): jnp.ones((2, 0, 1), t) for t in ("int8", "uint32", "bool", "bfloat16")}),
    "strings": assorted(1.0, sizes=("\0 é", "")),
}
SAVED = {
    **{f"schedule {name}": schedule for name, schedule in SCHEDULES.items()},
    **{f"with {name}": gradtx.adam(schedule) for name, schedule in SCHEDULES.items()},
    **OTHERS,
}


@pytest.mark.parametrize("name", SAVED)
def test_round_trip(name: str) -> None:
    assert_saved(SAVED[name])


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_everything_is_saved_but_functions(row: Any) -> None:
    if row.holds_a_function:
        with pytest.raises(TypeError, match="cannot be saved"):
            to_config(row.make())
    else:
        assert_saved(row.make())


numbers = st.floats(0.0, 1e6, allow_subnormal=False)
arrays = hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=3), elements=st.floats(0, 1, width=32))


@hypothesis.given(numbers | arrays, st.booleans())
@hypothesis.settings(deadline=None, max_examples=50)
def test_round_trip_of_any_number(value: Any, flip: bool) -> None:
    assert_saved(gradtx.chain(gradtx.scale_by_learning_rate(value, flip_sign=flip)))


@pytest.mark.usefixtures("x64")
def test_round_trip_in_64_bits() -> None:
    for tx in (gradtx.adam(jnp.asarray([0.1, 1 / 3])), gradtx.adam(jnp.float32(0.1)), assorted((jnp.arange(3),))):
        assert_saved(tx)


def test_few_figures_name_a_number() -> None:
    def data(value: Any) -> Any:
        return to_config(assorted(value))["arguments"]["weights"]["$array"]["data"]

    assert data(np.array([0.1, 1 / 3], np.float32)) == [0.1, 0.33333334]
    assert data(jnp.array([-0.0, jnp.inf])) == [-0.0, "inf"]


def test_fields_left_out_have_their_defaults() -> None:
    assert from_config({"name": "gradtx.adam", "arguments": {"learning_rate": 1}}) == gradtx.adam(1)


def test_lists_stay_lists() -> None:
    params = {"layers": [jnp.ones(2), jnp.ones(2)], "pair": (jnp.ones(2),)}
    tx = gradtx.adamw(0.1, mask={"layers": [True, False], "pair": (True,)})
    read = from_config(json.loads(json.dumps(to_config(tx))))
    assert read == tx
    read.init(params)


def test_written_by_hand() -> None:
    steps = {"init_value": 1, "end_value": 0, "transition_steps": 10}
    config = {
        "name": "gradtx.adamw",
        "arguments": {
            "learning_rate": {"name": "gradtx.linear_schedule", "arguments": steps},
            "mu_dtype": "bfloat16",
            "mask": {"w": True},
        },
    }
    rate = gradtx.linear_schedule(1, 0, 10)
    assert from_config(config) == gradtx.adamw(rate, mu_dtype=jnp.bfloat16, mask={"w": True})


class Mask(NamedTuple):
    """A container that a file does not know."""

    w: bool


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gradtx.adam(falling), "adam.learning_rate: falling is a plain function.*subclass of gradtx.Schedule"),
        (lambda: gradtx.adam(optax.constant_schedule(0.1)), "<lambda> is a plain function, .*or use one of gradtx's"),
        (lambda: gradtx.chain(gradtx.clip(1.0), optax.adam(0.1)), r"transforms\[1\].*subclass of gradtx.Gradient"),
        (lambda: gradtx.stateless(lambda u, p: u), "stateless.* is a plain function"),
        (lambda: gradtx.adamw(0.1, mask=lambda p: p), "adamw.mask: the plain function .*gradtx.by_rank"),
        (lambda: assorted({"a": [np.ones(1, complex)]}), r"assorted\.weights\['a'\]\[0\]: an array of complex128"),
        (lambda: gradtx.adamw(0.1, mask=Mask(True)), r"adamw\.mask: Mask\(w=True\) .* cannot be saved"),
        (lambda: gradtx.adamw(0.1, mask={1: True}), r"adamw\.mask: {1: True} .* cannot be saved"),
        (lambda: assorted(object()), "assorted: `weights` must hold arrays and numbers, got <object"),
        (lambda: gradtx.adamw(0.1, mask={"$array": True}), r"adamw.mask: a dict with the keys \$array cannot be saved"),
        (
            lambda: gradtx.adamw(0.1, mask={"name": True, "arguments": {}}),
            "adamw.mask: a dict .*name cannot",
        ),
        (lambda: assorted(np.array(["a"])), "an array of <U1 cannot be saved"),
        (lambda: assorted(np.ones(1, np.complex64)), "an array of complex64 cannot be saved"),
    ],
)
def test_what_cannot_be_saved(make: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        to_config(make())


def test_a_tracer_cannot_be_saved() -> None:
    with pytest.raises(TypeError, match=r"adam\.learning_rate is a tracer; .*outside jit"):
        jax.jit(lambda rate: to_config(gradtx.adam(rate)))(0.1)


def call(name: str = "gradtx.adam", **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (3, r"takes a dict with `name` and `arguments`, got 3 \(int\)"),
        ({"name": "gradtx.adam"}, "takes a dict with `name` and `arguments`"),
        ({**call(learning_rate=1), "version": 2}, r"config.version is 2 \(int\), this gradtx reads version 1"),
        ({**call(learning_rate=1), "version": True}, r"config.version is True \(bool\)"),
        ({**call(learning_rate=1), "more": 2}, r"config: unknown key 'more'"),
        (call("gradtx.adan"), "no class is registered as 'gradtx.adan'.*did you mean gradtx.adam"),
        (call("os.system", command="true"), "no class is registered as 'os.system'"),
        (call(3), "no class is registered as 3"),  # pyright: ignore[reportArgumentType]
        (call("gradtx.stateless", function="x"), "gradtx.stateless holds a function"),
        ({"name": "gradtx.adam", "arguments": [1]}, r"config.arguments must be a dict, got \[1\]"),
        (call(lr=1), r"adam has no argument 'lr'.*it has learning_rate"),
        (call(), "adam needs the argument `learning_rate`"),
        (call(learning_rate=-1), "config: adam: `learning_rate` must be a finite number >= 0, got -1.0"),
        (call(learning_rate=call("gradtx.no")), r"config.learning_rate.name: no class is registered"),
        (
            call(learning_rate={"$array": {"dtype": "float32"}}),
            r"config.learning_rate: .* is not what to_config writes",
        ),
        (call(learning_rate={"$array": {"dtype": "f4", "shape": [2], "data": [1.0]}}), "is not what to_config writes"),
        (call(learning_rate={"$float": "many"}), "config.learning_rate: .* is not what to_config writes"),
        (call(learning_rate=1, mu_dtype={"$dtype": "float33"}), "config.mu_dtype: .* is not what to_config writes"),
        (call("gradtx.chain", transforms=[call()]), r"config.transforms\[0\]: adam needs the argument"),
        (call("gradtx.named_chain", transforms=[], names=["a"]), "config: named_chain: 1 names for 0 stages"),
        # What a size asks for is looked for in the weights before anything of that size is made.
        (
            call("gradtx.learned.lstm", weights={}, layers=10**12),
            r"`weights.* is missing. .*layers=1000000000000",
        ),
        (call("gradtx.learned.scale_by_lstm", weights={}, layers=10**12), r"lstm: `weights.* is missing"),
        (call("gradtx.learned.lstm", weights={}, hidden=10**12), r"lstm: `weights.* is missing"),
        (call("gradtx.learned.mlp", weights={}, hidden=10**12), r"mlp: `weights.* is missing"),
    ],
)
def test_what_is_no_configuration(config: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_config(config)
