"""Definitions that are wrong, and values that fields do not take: refused, with what to write instead."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax
import pytest

import gradtx
from gradtx import Recipe, Scalar, Stateless

from .test_chain import GRADS, PARAMS
from .test_data import Passes, holders


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
        (lambda: gradtx.by_path(3), r"by_path: `patterns`\[0\] must be str, got 3"),  # pyright: ignore
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
