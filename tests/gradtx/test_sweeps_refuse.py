"""What `grid`, `stack`, `lane`, `sweep` and the searches refuse, and what they say."""

# Rows of bad input are wrong on purpose.
# pyright: reportArgumentType=false

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

from .test_sweeps import LANES, TARGET, explore, init, segment, train, train_from


class Unhashable:
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __call__(self, tx: Any) -> jax.Array:
        return jnp.zeros(())


ROWS: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "two optimizers": (
        ValueError,
        r"stack: lanes of one sweep may differ in numbers alone, but the transformation is adam\(.* in lane 0 and "
        r"sgd\(.* in lane 1. Make one sweep for each kind",
        lambda: gradtx.stack([gradtx.adam(0.1), gradtx.sgd(0.1)]),
    ),
    "a number and a schedule": (
        ValueError,
        r"`1.learning_rate` is 0.1 in lane 0 and linear_schedule\(.*Make one sweep for each kind",
        lambda: gradtx.stack(
            [gradtx.chain(gradtx.clip(1.0), gradtx.sgd(rate)) for rate in (0.1, gradtx.linear_schedule(0.1, 0.0, 10))]
        ),
    ),
    "two schedules": (
        ValueError,
        "`learning_rate` is linear_schedule",
        lambda: gradtx.stack(
            [gradtx.sgd(gradtx.linear_schedule(0.1, 0.0, 10)), gradtx.sgd(gradtx.cosine_decay_schedule(0.1, 10))]
        ),
    ),
    "two bools": (
        ValueError,
        "grid: .* `nesterov` is False in the lane nesterov=False and True in the lane nesterov=True. A static argument "
        "is part of the program: make one sweep for each of its values",
        lambda: gradtx.grid(functools.partial(gradtx.sgd, 0.1, 0.9), nesterov=[False, True]),
    ),
    "two memories": (
        ValueError,
        "grid: .* `memory_size` is 3 in .* and 5 in .*A static argument",
        lambda: gradtx.grid(gradtx.lbfgs, memory_size=[3, 5]),
    ),
    "two masks": (
        ValueError,
        "`mask` is by_rank",
        lambda: gradtx.stack([gradtx.adamw(0.1, mask=gradtx.by_rank(n)) for n in (1, 2)]),
    ),
    "None and a number": (
        ValueError,
        "`momentum` is None in lane 0 and 0.9 in lane 1. Give a number in every lane, or None in every lane",
        lambda: gradtx.stack([gradtx.sgd(0.1), gradtx.sgd(0.1, 0.9)]),
    ),
    "chains of two lengths": (
        ValueError,
        "the same stages with numbers that switch one off",
        lambda: gradtx.stack([gradtx.chain(gradtx.sgd(0.1)), gradtx.chain(gradtx.clip(1.0), gradtx.sgd(0.1))]),
    ),
    "plain functions": (
        ValueError,
        "`learning_rate.function` is .* A plain function is part of the program",
        lambda: gradtx.stack([gradtx.sgd(lambda count: 0.1), gradtx.sgd(lambda count: 0.2)]),
    ),
    "optax's in a chain": (
        ValueError,
        "`0.init_fn` is .* numbers inside it cannot be lanes",
        lambda: gradtx.stack([gradtx.chain(optax.sgd(rate)) for rate in (0.1, 0.2)]),
    ),
    "optax's": (
        TypeError,
        "grid: the lane learning_rate=0.1 must be a transformation of gradtx, whose numbers are data",
        lambda: gradtx.grid(optax.sgd, learning_rate=[0.1]),
    ),
    "different weights": (
        ValueError,
        r"lanes differ in `weights..*`, which is no hyperparameter but weights",
        lambda: gradtx.stack(
            [gradtx.learned.mlp(gradtx.learned.mlp_weights(jax.random.key(i), 4), hidden=4) for i in (0, 1)]
        ),
    ),
    "weights of different sizes": (
        ValueError,
        "`hidden` is 4 in lane 0 and 5 in lane 1|`weights",
        lambda: gradtx.stack(
            [gradtx.learned.mlp(gradtx.learned.mlp_weights(jax.random.key(0), n), hidden=n) for n in (4, 5)]
        ),
    ),
    "a batch of batches": (
        ValueError,
        r"lane 1 holds a batch already \(2 values\)",
        lambda: gradtx.stack([gradtx.sgd(0.1), gradtx.sgd(jnp.ones(2))]),
    ),
    "no lanes": (ValueError, "stack: there is nothing to stack", lambda: gradtx.stack([])),
    "no numbers": (ValueError, r"identity\(\) holds no number", lambda: gradtx.stack([gradtx.identity()] * 2)),
    "no axes": (ValueError, "grid: give at least one axis", lambda: gradtx.grid(gradtx.adam)),
    "an empty axis": (ValueError, "grid: `b1` has no values", lambda: gradtx.grid(gradtx.adam, b1=[])),
    "an axis that is one number": (
        TypeError,
        r"`learning_rate` must be a sequence of values, got 0.1 \(float\). What does not vary is set in the factory",
        lambda: gradtx.grid(gradtx.adam, learning_rate=0.1),
    ),
    "a table of values": (TypeError, "sequence", lambda: gradtx.grid(gradtx.adam, learning_rate=np.ones((2, 2)))),
    "a lane that is not there": (IndexError, "there are 6 lanes, 0 to 5; got 6", lambda: gradtx.lane(LANES, 6)),
    "lanes that are not there": (IndexError, r"0 to 5; got \[0, 6\]", lambda: gradtx.take(LANES, [0, 6])),
    "a mask for take": (IndexError, "expected a list of whole numbers", lambda: gradtx.take(LANES, [True] * 6)),
    "a lane of one": (ValueError, "lane: no number of adam.* is a batch", lambda: gradtx.lane(gradtx.adam(0.1), 0)),
    "a sweep of one": (
        ValueError,
        r"sweep: no number of adam.* is a batch. Make one with gradtx.grid",
        lambda: gradtx.sweep(train, gradtx.adam(0.1), TARGET),
    ),
    "batches of two lengths": (
        ValueError,
        "`learning_rate` has 2 entries and `b1` has 3 entries.* use gradtx.grid",
        lambda: gradtx.sweep(train, gradtx.adam(jnp.ones(2), jnp.full(3, 0.5)), TARGET),
    ),
    "a list for a batch": (
        TypeError,
        r"sweep takes a batch of transformations, made by gradtx.grid or gradtx.stack; got \[",
        lambda: gradtx.sweep(train, [gradtx.adam(0.1)], TARGET),
    ),
    "arguments in the wrong order": (
        TypeError,
        "sweep takes a function of one transformation first",
        lambda: gradtx.sweep(LANES.txs, LANES, TARGET),
    ),
    "a string returned": (
        TypeError,
        r"at \['name'\] it has 'adam' \(str\)",
        lambda: gradtx.sweep(lambda tx: {"name": "adam"}, LANES),
    ),
    "nothing returned": (TypeError, "`train` returns no array, but None", lambda: gradtx.sweep(lambda tx: None, LANES)),
    "an argument that is no array": (
        TypeError,
        r"argument 2\['how'\] of `train` is no array but 'fast' \(str\); bind it",
        lambda: gradtx.sweep(lambda tx, a, b: a, LANES, 1.0, {"how": "fast"}),
    ),
    "a function without a hash": (TypeError, "has no hash", lambda: gradtx.sweep(Unhashable(), LANES)),
    "another way": (
        ValueError,
        "`how` must be 'vmap' or 'map', got 'pmap'",
        lambda: gradtx.sweep(train, LANES, TARGET, how="pmap"),
    ),
    "no seeds": (ValueError, "`seeds` must be", lambda: gradtx.sweep(train_from, LANES, TARGET, seeds=0)),
    "a negative seed": (ValueError, "`seeds` must be", lambda: gradtx.sweep(train_from, LANES, TARGET, seeds=[-1])),
    "a large seed": (ValueError, "below", lambda: gradtx.sweep(train_from, LANES, TARGET, seeds=[2**32])),
    "an axis of seeds and seeds": (
        ValueError,
        "the grid has an axis `seed`",
        lambda: gradtx.sweep(train_from, gradtx.grid(lambda seed: gradtx.sgd(seed), seed=[0.1, 0.2]), TARGET, seeds=2),
    ),
    "a random key returned": (
        TypeError,
        "`key` is a random key",
        lambda: gradtx.sweep(lambda tx: {"key": jax.random.key(0)}, LANES),
    ),
    "a number of rungs": (
        ValueError,
        "expected rungs >= 1 and a factor >= 2, got 3",
        lambda: gradtx.successive_halving(init, segment, LANES, TARGET, rungs=3),
    ),
    "a score that is a dict": (
        ValueError,
        "`train` must return a pair",
        lambda: gradtx.successive_halving(init, lambda tx, carry: (carry, {"loss": 1.0}), LANES),
    ),
    "a complex score": (
        TypeError,
        "must be real, got complex64",
        lambda: gradtx.successive_halving(init, lambda tx, carry: (carry, 1j), LANES),
    ),
    "no rungs": (
        ValueError,
        "expected rungs >= 1 and a factor >= 2",
        lambda: gradtx.successive_halving(init, segment, LANES, TARGET, rungs=()),
    ),
    "a segment without a carry": (
        ValueError,
        "`train` must return a pair, a carry of the structure that `init` returns and a score",
        lambda: gradtx.successive_halving(init, lambda tx, carry: carry[0].sum(), LANES),
    ),
    "a score of several numbers": (
        ValueError,
        r"the score of a lane must be one number, got an array of shape \(3,\)",
        lambda: gradtx.successive_halving(init, lambda tx, carry: (carry, carry[0]), LANES),
    ),
    "a large share": (
        ValueError,
        "a share above 0, at most 0.5",
        lambda: gradtx.population_based_training(init, segment, explore, LANES, generations=1, share=0.7),
    ),
    "an exploration of structure": (
        ValueError,
        "population_based_training: lanes of one sweep may differ in numbers alone",
        lambda: gradtx.population_based_training(
            init, segment, lambda tx, rng: gradtx.sgd(0.1), LANES, TARGET, generations=2
        ),
    ),
}


def plain(function: Any) -> Any:
    """As users call it, without the type checks that tests add."""
    return getattr(function, "__wrapped__", function)


@pytest.mark.parametrize("name", ROWS)
def test_errors_say_what_came_and_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, words, call = ROWS[name]
    for public in ("grid", "stack", "lane", "take", "sweep", "successive_halving", "population_based_training"):
        monkeypatch.setattr(gradtx, public, plain(getattr(gradtx, public)))
    with pytest.raises(error, match=words):
        call()
