"""Goals, and whether a measurement meets them.

A ratio is known up to its bootstrap interval, so the verdict has three values. `yes`: the median meets the
bound. `noise`: it does not, but the interval reaches the bound. `no`: the whole interval misses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from experiments.bench.timing import Ratio

Verdict = Literal["yes", "noise", "no"]

RULE = "met: yes if the median meets the goal; noise if only its 95 % bootstrap interval does; else no"


@dataclass(frozen=True)
class Goal:
    """What was wanted, what came, and where (the row that came out worst)."""

    claim: str
    measured: Ratio
    met: Verdict
    where: str = ""


def at_most(claim: str, bound: float, rows: Mapping[str, Ratio]) -> Goal:
    """Every row's ratio is at most `bound`. The goal shows the row that is worst."""
    where = max(rows, key=lambda name: (rows[name].median > bound, rows[name].low, rows[name].median))
    worst = rows[where]
    met: Verdict = "yes" if worst.median <= bound else "noise" if worst.low <= bound else "no"
    return Goal(f"{claim} ≤ {bound:g}", worst, met, where)


def at_least(claim: str, bound: float, rows: Mapping[str, Ratio]) -> Goal:
    """Every row's ratio is at least `bound`. The goal shows the row that is worst."""
    where = min(rows, key=lambda name: (rows[name].median >= bound, rows[name].high, rows[name].median))
    worst = rows[where]
    met: Verdict = "yes" if worst.median >= bound else "noise" if worst.high >= bound else "no"
    return Goal(f"{claim} ≥ {bound:g}", worst, met, where)
