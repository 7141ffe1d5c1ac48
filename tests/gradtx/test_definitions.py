"""Definitions that are wrong, and values that fields do not take: refused, with what to write instead."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import Recipe, Scalar, Stateless

from .test_chain import GRADS, PARAMS
from .test_data import Passes, holders, kinds


def test_fields_that_have_to_fit_change_together() -> None:
    rate = gradtx.warmup_cosine_decay_schedule(0.0, 1.0, 10, 100)
    longer = gradtx.warmup_cosine_decay_schedule(0.0, 1.0, 200, 300)
    assert rate.replace(warmup_steps=200, decay_steps=300) == longer
    assert gradtx.adam(rate).replace(decay_steps=300, warmup_steps=200) == gradtx.adam(longer)
    tx = gradtx.chain(gradtx.adam(rate))
    with pytest.raises(TypeError, match="`0` is replaced whole and in part"):
        tx.replace({"0": gradtx.sgd(0.1), "0.b1": 0.5})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gradtx.by_path("*/kernel").replace(patterns="*/bias"), "by_path: `patterns` must be a tuple or dict"),
        (lambda: gradtx.by_path(3), r"by_path: `patterns`\[0\] must be str or Pattern, got 3"),  # pyright: ignore
        (lambda: holders(gradtx.scale(1.0)), "holders: `stages` must be a tuple or dict of .* transformation"),  # pyright: ignore
    ],
)
def test_containers_are_containers(make: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        make()


def test_a_post_init_of_ones_own_is_refused() -> None:
    with pytest.raises(TypeError, match="late: write __check_init__ in place of __post_init__"):

        class late(Passes):
            def __post_init__(self) -> None: ...


class foreign_parts(Recipe):
    """Parts of another library, or none at all."""

    learning_rate: Scalar
    listed: bool = False

    def parts(self) -> Any:
        return [optax.sgd(0.1)] if self.listed else optax.sgd(0.1)


def test_parts_are_a_transformation() -> None:
    tx = gradtx.chain(foreign_parts(0.1))
    assert tx.update(jnp.ones(2), tx.init(jnp.ones(2)))[0][0] == pytest.approx(-0.1)
    with pytest.raises(TypeError, match=r"foreign_parts.parts\(\) must return a transformation, got \[.*gradtx.chain"):
        foreign_parts(0.1, True)


class Mixed:
    """An `update` from a class that is no transformation."""

    def update(self, updates: Any, state: Any, params: Any = None, *, value: Any) -> Any:
        return updates, state


class mixed(Mixed, Stateless):
    """Extra arguments are selected for it all the same."""


def test_an_inherited_update_gets_what_it_declares() -> None:
    tx = gradtx.chain(mixed())
    tx.update(GRADS, tx.init(PARAMS), PARAMS, value=1.0, other=2.0)


class clipped(gradtx.chain):
    """A chain of ones own, made as `chain` is."""


class thresholds(Passes):
    """A constructor whose parameters are not the fields."""

    low: Scalar
    high: Scalar = 2.0

    def __init__(self, around: float, *, width: float = 1.0) -> None:
        self._set_fields(low=around - width, high=around + width)

    def __check_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("thresholds: `low` must not be above `high`")


class lazily(Passes):
    """A default that a function makes."""

    rates: tuple[Scalar, ...] = dataclasses.field(default_factory=lambda: (1.0, 2.0))


def test_a_constructor_is_inherited() -> None:
    make: Any = clipped  # pyright gives it a constructor of its fields
    tx = make(gradtx.clip(1.0), gradtx.sgd(0.1))
    assert tx.replace({"1.learning_rate": 0.2}) == make(gradtx.clip(1.0), gradtx.sgd(0.2))
    assert gradtx.from_config(gradtx.to_config(tx)) == tx
    with pytest.raises(TypeError, match="more: write an __init__ for the further fields"):

        class more(gradtx.chain):
            extra: Scalar = 1.0


def test_a_constructor_of_ones_own() -> None:
    tx = thresholds(1, width=0.5)
    assert (tx.low, tx.high) == (0.5, 1.5)
    assert tx.replace(low=1.0) == thresholds(1.25, width=0.25)
    assert gradtx.from_config(gradtx.to_config(tx)) == tx
    with pytest.raises(ValueError, match="`low` must not be above `high`"):
        thresholds(1, width=-1.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'wide'"):
        thresholds(1, wide=1.0)  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match=r"thresholds: its __check_init__ takes no batch; write np.all"):
        thresholds(np.ones(2))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="thresholds has no field 'lower'; it has low, high"):
        thresholds(1)._set_fields(low=1.0, lower=0.0)
    with pytest.raises(TypeError, match="thresholds needs the argument `low`"):
        thresholds(1)._set_fields(high=1.0)
    assert lazily() == lazily((1.0, 2.0))
    assert gradtx.from_config({"name": gradtx.to_config(lazily())["name"], "arguments": {}}) == lazily()


def test_dataclass_options_that_make_no_field_are_refused() -> None:
    with pytest.raises(TypeError, match="hidden: every field is an argument; leave out init=False"):

        class hidden(Passes):
            number: Scalar = dataclasses.field(init=False, default=1.0)

    @dataclasses.dataclass(frozen=True)
    class twice(Passes):
        number: Scalar = 1.0

    with pytest.raises(TypeError, match="twice: leave out @dataclass"):
        twice()


class exact(Passes):
    """Static values of exact kinds."""

    level: Literal[1, 2] = 1
    size: int = 3
    pair: tuple[Scalar, Scalar] = (1.0, 2.0)
    array: gradtx.Data = None


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"level": True}, ValueError, "`level` must be 1 or 2, got True"),
        ({"pair": (1.0,)}, ValueError, "`pair` must have 2 entries, got 1"),
        ({"array": "text"}, TypeError, r"`array` must hold arrays and numbers, got 'text' \(str\)"),
        ({"array": [1.0, object]}, TypeError, "`array` must hold arrays and numbers, got <class 'object'>"),
    ],
)
def test_kinds_are_exact(given: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        exact(**given)


def test_integers_of_numpy_are_integers() -> None:
    assert exact(np.int64(2), np.int32(5)) == exact(2, 5)  # pyright: ignore[reportArgumentType]


def test_weights_are_no_batch() -> None:
    tx = kinds(jnp.ones(3), rate=gradtx.constant_schedule(jnp.ones(3)), weights={"w": jnp.ones(2)})
    axes = gradtx.batch_axes(holders((tx, tx), {"a": tx}))
    for one in (*axes.stages, axes.groups["a"]):
        assert (one.number, one.rate.value, one.maybe, one.weights) == (0, 0, None, {"w": None})
    lanes = jax.vmap(lambda tx: tx.number + tx.weights["w"].sum(), in_axes=(gradtx.batch_axes(tx),))(tx)
    assert lanes.shape == (3,)
