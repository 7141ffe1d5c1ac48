"""What a study is, as data: a question, how it is run, and what is made of its results.

A study computes one labelled `xarray.Dataset`, and everything that people see is a function of that alone: tables,
pictures, and a verdict on each claim. The rule of a claim is code, written before the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

import xarray as xr
from matplotlib.figure import Figure

from experiments.data import Dataset
from experiments.progress import Progress
from experiments.store import Checkpoint, ShardedCheckpoint, Store

TierName = Literal["smoke", "cpu", "accelerator"]
TIERS: tuple[TierName, ...] = get_args(TierName)

Outcome = Literal["supported", "refuted", "inconclusive"]


class Tier(Protocol):
    """How much of a study is run: a frozen dataclass whose `repr` tells all that the results depend on, and no more.

    A run whose tier has another `repr` begins anew; so `estimate` and `scale` are left out of it.
    """

    @property
    def estimate(self) -> str:
        """How long it takes on 2 CPU cores, measured."""
        ...

    @property
    def scale(self) -> str:
        """What is smaller than in the question, for tables and pictures; empty if nothing is."""
        ...


@dataclass(frozen=True)
class Table:
    """Cells as text. The first column is to the left, the others to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture of the results.

    Attributes:
        name: The file's, without its ending.
        caption: What is seen, in a sentence or two; plain text.
        draw: Makes it. Called in matplotlib's style for light and for dark pages (`experiments.picture`).
    """

    name: str
    caption: str
    draw: Callable[[xr.Dataset], Figure]


@dataclass(frozen=True)
class Verdict:
    """What a claim's rule made of results.

    Attributes:
        effect: The numbers that decided, with their intervals, as a sentence.
    """

    outcome: Outcome
    effect: str


@dataclass(frozen=True)
class Claim:
    """A claim of the study of 2016, and the rule that decides it.

    Attributes:
        name: C1 to C12 of the study itself; B, D, L, N, R, S, V and a number for what is added.
        says: The claim.
        rule: When it is supported, when refuted, else inconclusive; in words.
        decide: The same as code.
    """

    name: str
    says: str
    rule: str
    decide: Callable[[xr.Dataset], Verdict]


@dataclass(frozen=True)
class Context:
    """What a study is run with.

    Attributes:
        store: Keeps the parts of the work that are done.
        progress: Where to say how far it is.
        dataset: The real data, if the study names some.
        others: The further data sets that it names.
        say: Prints a line for the person who waits.
    """

    store: Store
    progress: Progress
    dataset: Dataset | None = None
    say: Callable[[str], None] = print
    others: Sequence[Dataset] = ()
    _plans: set[str] = field(default_factory=set)

    def named(self, name: str) -> Dataset:
        """The data set of that name, of those that the study names."""
        return next(one for one in (self.dataset, *self.others) if one is not None and one.name == name)

    def part(self, name: str, cost: float, compute: Callable[[Checkpoint], xr.Dataset]) -> xr.Dataset:
        """A part's result, which is kept or computed now; then so much of the work is done.

        Args:
            name: The part's.
            cost: Its share of the progress. What `compute` does not advance on its way is added at the end.
            compute: As `Store.part` has it.
        """
        return self._counted(name, cost, lambda: self.store.part(name, compute))

    def sharded_part(self, name: str, cost: float, compute: Callable[[ShardedCheckpoint], xr.Dataset]) -> xr.Dataset:
        """The same of work whose state is spread over processes."""
        return self._counted(name, cost, lambda: self.store.sharded_part(name, compute))

    def _counted(self, name: str, cost: float, found: Callable[[], xr.Dataset]) -> xr.Dataset:
        self.progress.describe(name)
        until = self.progress.done + cost
        result = found()
        self.progress.advance(until - self.progress.done)
        return result

    def plan(self, plan: str) -> None:
        """Say how lanes will run, unless that was said before."""
        if plan not in self._plans:
            self._plans.add(plan)
            self.say(f"Plan: {plan}.")


T = TypeVar("T", bound=Tier)


@dataclass(frozen=True)
class Study(Generic[T]):
    """A question about optimizers, and all that is needed to answer it.

    Attributes:
        name: What the command line calls it.
        question: In one sentence.
        figures: What of the study of 2016 it stands for, as in "figure 2"; empty for what is added to it.
        data: A name in `experiments.data.DATASETS`, or none.
        others: Names of further data sets, for a study that compares them.
        tiers: What `run` may be given.
        run: Does the work of a tier, or what is left of it.
        tables, pictures, claims: What people see of the results.
        expected: Names of the parts of the work that are known before it begins, with their cost in any unit.
        trainings: What a tier trains, as `comparison.Training`, for a dry run; none where there is no such run.
    """

    name: str
    question: str
    figures: str
    data: str | None
    tiers: Mapping[TierName, T]
    run: Callable[[T, Context], xr.Dataset]
    tables: Callable[[xr.Dataset], Sequence[Table]]
    pictures: Sequence[Picture] = ()
    claims: Sequence[Claim] = ()
    expected: Callable[[T], Mapping[str, float]] = field(default=lambda tier: {})
    others: tuple[str, ...] = ()
    trainings: Callable[[T], Sequence[Any]] = field(default=lambda tier: ())

    def spec(self, tier: T, fingerprint: str | None) -> str:
        """All that a run's results depend on: study, tier, and data by its fingerprint."""
        return "\n".join([self.name, repr(tier), fingerprint or "no data", ""])
