"""Wrappers in every order: the laws hold for the whole, or its construction is refused with a reason."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from syrupy.assertion import SnapshotAssertion

import gradtx
from gradtx.testing import LAWS, check_transformation

from .wrapped import small_params

WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "accumulate": partial(gradtx.accumulate, every=2),
    "apply_if_finite": partial(gradtx.apply_if_finite, max_consecutive_errors=2),
    "average": partial(gradtx.average, decay=0.8),
    "cautious": gradtx.cautious,
    "conditionally_mask": lambda inner: gradtx.conditionally_mask(inner, lambda step: step % 3 != 1),
    "decay_weights": partial(gradtx.decay_weights, weight_decay=0.1, mode="proximal", learning_rate=0.05),
    "dynamic_loss_scale": partial(gradtx.dynamic_loss_scale, init_scale=8.0, growth_interval=3),
    "ema_nesterov": partial(gradtx.ema_nesterov, gamma=0.8, beta=0.3),
    "extragradient": gradtx.extragradient,
    "grafting": lambda inner: gradtx.grafting(gradtx.sgd(0.05), inner),
    "guard": partial(gradtx.guard, sigma=6.0, window=4),
    "lawa": lambda inner: gradtx.lawa(inner, 2, 2),
    "lookahead": lambda inner: gradtx.lookahead(inner, 2, 0.5),
    "masked": lambda inner: gradtx.masked(inner, gradtx.by_rank(1)),
    "master_weights": gradtx.master_weights,
    "mechanize": partial(gradtx.mechanize, s_init=1e-3),
    "observe": gradtx.observe,
    "partition": lambda inner: gradtx.partition({gradtx.by_rank(2): gradtx.sgd(0.05), "*": inner}),
    "polyak_average": gradtx.polyak_average,
    "quantize_state": partial(gradtx.quantize_state, block_size=4, min_size=1),
    "sam": gradtx.sam,
    "schedule_free": lambda inner: gradtx.schedule_free(inner, 0.05),
    "state_dtype": partial(gradtx.state_dtype, dtypes={"*/mu": "bfloat16"}),
    "stochastic_round": gradtx.stochastic_round,
    "tail_average": gradtx.tail_average,
    "zero": partial(gradtx.zero, min_size=1),
}

# Those that what is outside could break for what is inside; all of them run over each wrapper, and here over triples.
QUICK = ("abstract_init", "stable_state", "same_updates", "any_tree", "points")


def value(params: Any, grads: Any) -> dict[str, Any]:
    """What a guard may read."""
    return {"value": 1.0}


def nested(names: tuple[str, ...]) -> Any:
    """The wrappers around adam, the first one outermost; or why they cannot be."""
    tx: Any = gradtx.adam(0.05)
    for name in reversed(names):
        try:
            tx = WRAPPERS[name](tx)
        except (TypeError, ValueError) as refusal:
            return refusal
    return tx


def broken(names: tuple[str, ...], laws: Any) -> str | None:
    """The law that the wrappers break together."""
    tx = nested(names)
    if isinstance(tx, Exception):
        return None
    try:
        check_transformation(tx, small_params(np.float32), extra=value, sign="any", laws=laws)
    except Exception as error:
        return f"{'('.join(names)}(adam: {error}"
    return None


def test_pairs_that_are_refused(snapshot: SnapshotAssertion) -> None:
    pairs = [(outer, inner) for outer in WRAPPERS for inner in WRAPPERS]
    refused = {pair: str(tx) for pair in pairs if isinstance(tx := nested(pair), Exception)}
    # Each says who refuses, and whom.
    assert [pair for pair, reason in refused.items() if not all(name in reason for name in pair)] == []
    assert {"(".join(pair): reason for pair, reason in refused.items()} == snapshot


@pytest.mark.exhaustive
@pytest.mark.parametrize("outer", WRAPPERS)
def test_pairs_keep_the_laws(outer: str) -> None:
    faults = [fault for inner in WRAPPERS if (fault := broken((outer, inner), QUICK))]
    assert not faults, "\n".join(faults)


def some_triples(count: int) -> list[tuple[str, ...]]:
    """Random triples that can be made."""
    drawn = random.Random(0)
    found: list[tuple[str, ...]] = []
    while len(found) < count:
        names = tuple(drawn.sample(list(WRAPPERS), 3))
        if names not in found and not isinstance(nested(names), Exception):
            found.append(names)
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize("names", some_triples(50), ids="-".join)
def test_triples_keep_the_laws(names: tuple[str, ...]) -> None:
    assert broken(names, LAWS) is None
