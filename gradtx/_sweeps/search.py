"""Searches that train a batch in segments, and choose between them which lanes go on.

Both take the same two pure functions, of one lane: `init(tx) -> carry` and `train(tx, carry, *args) -> (carry, score)`,
which trains for a segment and says how good the lane is, less being better. The carry is whatever goes on: parameters,
state, a key. NaN is the worst score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .._core.data import PyTreeNode
from .._types import PyTree
from .lanes import Grid, batch_of, lane, stacked, take
from .plan import fetch
from .sweep import How, run

Init = Callable[[Any], Any]
Train = Callable[..., tuple[Any, Any]]
Explore = Callable[[Any, np.random.Generator], Any]


class Halving(NamedTuple):
    """What `successive_halving` found. Lanes that were trained to the end come best first."""

    lanes: np.ndarray
    """Their positions in the batch: `gradtx.lane(txs, found.lanes[0])` is the best."""
    carry: Any
    """What their training carried, leading with them."""
    scores: np.ndarray
    """After each rung (rungs, lanes); NaN for lanes that were out by then."""


def successive_halving(
    init: Init,
    train: Train,
    txs: PyTreeNode | Grid,
    *args: PyTree,
    rungs: Sequence[int] = (1, 1, 2, 4),
    factor: int = 2,
    how: How = "vmap",
    devices: Sequence[Any] | None = None,
) -> Halving:
    """Train all lanes for a while, keep the better half, train that for longer, and so on.

    Sixteen lanes and the default rungs cost 16 + 8 + 8 + 8 segments, where training all to the end costs 128.

    Args:
        init: What a lane begins with, of its transformation.
        train: One segment of a lane: `train(tx, carry, *args)` returns the new carry and a score, less being better.
        txs: A batch: what `grid` or `stack` returned, or a transformation made with arrays.
        args: What all lanes share, as in `sweep`.
        rungs: Segments that each rung adds. After each but the last the worse lanes go.
        factor: One of so many lanes is kept.
        how: As in `sweep`.
        devices: As in `sweep`.

    Raises:
        ValueError: if `rungs` or `factor` ask for nothing, or a score is not a single number; and as `sweep`.
        TypeError: if a score is complex; and as `sweep`.

    Source: Jamieson and Talwalkar, 2016. Differs: lanes are kept by their last score alone.
    """
    owner = "successive_halving"
    batch, count = batch_of(owner, txs)
    if not isinstance(rungs, Sequence) or not rungs or min(rungs) < 1 or factor < 2:
        raise ValueError(f"{owner}: expected rungs >= 1 and a factor >= 2, got {rungs!r} and {factor!r}")
    alive, scores = np.arange(count), np.full((len(rungs), count), np.nan)
    carry = run(owner, init, batch, count, (), (), how, None, devices)
    for i, segments in enumerate(rungs):
        score = None
        for _ in range(segments):
            carry, score = _segment(owner, train, batch, len(alive), carry, args, how, devices)
        scores[i, alive] = score = _scores(owner, score)
        is_last = i == len(rungs) - 1
        best = np.argsort(score, kind="stable")[: len(alive) if is_last else max(1, len(alive) // factor)]
        alive, batch, carry = alive[best], take(batch, best), _rows(carry, best)
    return Halving(alive, carry, scores)


class Population(NamedTuple):
    """What `population_based_training` found."""

    txs: Any
    """The batch of the last generation."""
    carry: Any
    """What its training carried, leading with the lanes."""
    scores: np.ndarray
    """After each generation (generations, lanes)."""
    parents: np.ndarray
    """Whose carry each lane went on with, (generations - 1, lanes)."""
    history: list[Any]
    """The batch of each generation: what its hyperparameters were."""


def population_based_training(
    init: Init,
    train: Train,
    explore: Explore,
    txs: PyTreeNode | Grid,
    *args: PyTree,
    generations: int,
    share: float = 0.25,
    seed: int = 0,
    how: How = "vmap",
    devices: Sequence[Any] | None = None,
) -> Population:
    """Train a population; after each generation the worst go on from copies of the best, with other hyperparameters.

    Args:
        init: What a lane begins with, of its transformation.
        train: One generation of a lane: `train(tx, carry, *args)` returns the new carry and a score, less being better.
        explore: The transformation of a copy, of the one that is copied, with plain numbers, and of a NumPy generator:
            `lambda tx, rng: tx.replace(learning_rate=tx.learning_rate * rng.choice([0.8, 1.25]))`.
        txs: The first batch: what `grid` or `stack` returned, or a transformation made with arrays.
        args: What all lanes share, as in `sweep`.
        generations: How many.
        share: Of the lanes, as many are replaced after a generation, by copies of as many of the best. At most 1/2.
        seed: Of the choices and of `explore`'s random numbers.
        how: As in `sweep`.
        devices: As in `sweep`.

    Raises:
        ValueError: if `generations` or `share` are out of range, a score is not a single number, or what `explore`
            returns differs in more than numbers; and as `sweep`.
        TypeError: if a score is complex; and as `sweep`.

    Source: Jaderberg et al., 2017 (truncation selection).
    """
    owner, rng, history, parents = "population_based_training", np.random.default_rng(seed), [], []
    batch, count = batch_of(owner, txs)
    if generations < 1 or not 0 < share <= 0.5:
        raise ValueError(
            f"{owner}: expected generations >= 1 and a share above 0, at most 0.5; got {generations}, {share}"
        )
    moved, scores = min(max(1, int(share * count)), count // 2), []
    carry = run(owner, init, batch, count, (), (), how, None, devices)
    for generation in range(generations):
        if generation:
            order, parent = np.argsort(scores[-1], kind="stable"), np.arange(count)
            worst = order[count - moved :]
            parent[worst] = rng.choice(order[:moved], moved) if moved else []
            lanes = [lane(batch, i) for i in parent]
            for i in worst:
                lanes[i] = explore(lanes[i], rng)
            batch, carry = stacked(owner, lanes, "lane {}".format), _rows(carry, parent)
            parents.append(parent)
        carry, score = _segment(owner, train, batch, count, carry, args, how, devices)
        scores.append(_scores(owner, score))
        history.append(batch)
    return Population(batch, carry, np.stack(scores), np.reshape(parents, (-1, count)).astype(int), history)


def _segment(
    owner: str,
    train: Train,
    txs: PyTreeNode,
    count: int,
    carry: PyTree,
    args: tuple[PyTree, ...],
    how: How,
    devices: Sequence[Any] | None,
) -> tuple[PyTree, PyTree]:
    found = run(owner, train, txs, count, (carry,), args, how, None, devices)
    expected = jax.tree.structure((carry, 0.0))
    if jax.tree.structure(found) != expected:
        raise ValueError(
            f"{owner}: `train` must return a pair, a carry of the structure that `init` returns and a score, "
            f"{expected}; got {jax.tree.structure(found)}"
        )
    return found


def _scores(owner: str, score: PyTree) -> np.ndarray:
    scores = np.asarray(fetch(score))
    if scores.ndim != 1:
        raise ValueError(f"{owner}: the score of a lane must be one number, got an array of shape {scores.shape[1:]}")
    if np.iscomplexobj(scores):
        raise TypeError(f"{owner}: the score of a lane must be real, got {scores.dtype}")
    return scores.astype(np.float64)


def _rows(tree: PyTree, indices: np.ndarray) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[indices], tree)
