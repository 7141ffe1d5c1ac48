"""Timing that survives a noisy machine: contenders take turns, and are compared within a turn.

Two programs timed one after the other differ by whatever else the machine did in between. Here every round
times each contender once, in an order that alternates, and a comparison is the median over rounds of the
ratio *within* a round. Its interval is a bootstrap over rounds.
"""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
LONGEST_BLOCK = 10_000  # steps

Run = Callable[[int], object]
"""Does that many steps, and returns when their results are ready."""


@dataclass(frozen=True)
class Spread:
    """What was measured, once a round, and its quartiles. Unit: seconds."""

    median: float
    lower_quartile: float
    upper_quartile: float
    samples: tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Spread":
        lower, median, upper = np.quantile(samples, [0.25, 0.5, 0.75]).tolist()
        return cls(median, lower, upper, tuple(samples))


@dataclass(frozen=True)
class Ratio:
    """The median of a ratio taken within rounds, and its bootstrap interval."""

    median: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> "Ratio":
        """A ratio of numbers that have no noise: read from a compiled program."""
        return cls(value, value, value)


def paired(numerator: Spread, denominator: Spread) -> Ratio:
    """Compare two contenders of the same rounds."""
    ratios = np.asarray(numerator.samples) / np.asarray(denominator.samples)
    draws = np.random.default_rng(0).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    medians = np.median(ratios[draws], axis=1)
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return Ratio(float(np.median(ratios)), low, high)


def alternate(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Each name once a round; every second round backwards, so that none always follows the same one."""
    for index in range(rounds):
        yield from names if index % 2 == 0 else reversed(names)


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Collect garbage now, and not again until the block ends."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def seconds_of(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interleave(runs: Mapping[str, Run], *, rounds: int, block_seconds: float) -> dict[str, Spread]:
    """Seconds a step of each contender, in blocks of about `block_seconds`.

    The first calls compile, and are not counted; nor is the short run before each block, which brings the
    contender's own data back into the caches and lets the threads of the one before come to rest.
    """
    for run in runs.values():
        run(1)
    steps = {
        name: int(np.clip(block_seconds / seconds_of(lambda run=run: run(1)), 1, LONGEST_BLOCK))
        for name, run in runs.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in runs}
    with collector_off():
        for name in alternate(list(runs), rounds):
            run, count = runs[name], steps[name]
            run(1 + count // 8)
            samples[name].append(seconds_of(lambda run=run, count=count: run(count)) / count)
    return {name: Spread.of(values) for name, values in samples.items()}
