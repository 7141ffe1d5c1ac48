"""Who needs the fewest steps: the readings on which claims of the form "X is first" are decided.

"At equal learning rates" and "each at its own best learning rate" are different questions, and neither is the only
fair one: a rate of 0.1 is a long step for one rule and a short one for another, while a best rate is known to nobody
beforehand. A claim is decided where all readings that have an answer agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from experiments.study import Outcome, Table

Answer = Literal["yes", "no", "tie"]


class Reading(NamedTuple):
    """One way of asking whether a thing is so.

    Attributes:
        answer: "tie" where nothing separates them, also where nobody arrives.
        numbers: What it rests on, as part of a sentence.
    """

    answer: Answer
    numbers: str


def at_equal_rates(steps: xr.DataArray, who: str) -> Reading:
    """Whether `who` is first alone at more learning rates than those at which somebody is before it.

    Args:
        steps: Over `optimizer` and `learning_rate`; NaN for never.
        who: An optimizer.
    """
    own, others = _split(steps, who)
    first, beaten = int((own < others).sum()), int((own > others).sum())
    numbers = f"{who} is first at {first} of {steps.sizes['learning_rate']} equal rates, and beaten at {beaten}"
    return Reading(_compare(beaten, first), numbers)


def at_own_best(steps: xr.DataArray, who: str) -> Reading:
    """Whether `who` needs fewest steps where each has the rate of the grid at which it needs fewest."""
    own, others = _split(steps.fillna(np.inf).min("learning_rate"), who)
    counts = best_steps(steps)
    numbers = "at own best rates, " + ", ".join(f"{name} {_count(counts, name)}" for name in _ranked(counts))
    return Reading(_compare(float(own), float(others)), numbers)


def outcome(answers: Sequence[Answer]) -> Outcome:
    """Supported or refuted if every answer that is no tie says so; inconclusive if they differ or there is none."""
    given = set(answers) - {"tie"}
    if len(given) != 1:
        return "inconclusive"
    return "supported" if given == {"yes"} else "refuted"


def both(parts: Sequence[Outcome]) -> Outcome:
    """A claim that says several things is supported if all are, and refuted if one is."""
    if "refuted" in parts:
        return "refuted"
    return "supported" if set(parts) == {"supported"} else "inconclusive"


def best_steps(steps: xr.DataArray) -> xr.DataArray:
    """The fewest steps over the learning rates; NaN for an optimizer that never arrives."""
    best = steps.fillna(np.inf).min("learning_rate")
    return best.where(np.isfinite(best))


def best_rate(steps: xr.DataArray) -> xr.DataArray:
    """The least learning rate at which the steps are fewest; NaN for an optimizer that never arrives."""
    known = steps.fillna(np.inf)
    rate = steps.learning_rate[known.argmin("learning_rate")].drop_vars("learning_rate")
    return rate.where(np.isfinite(known.min("learning_rate")))


def table_at_equal_rates(title: str, steps: xr.DataArray) -> Table:
    """Steps of each optimizer at the learning rates that are powers of ten."""
    rates = [rate for rate in steps.learning_rate.values if np.isclose(np.log10(rate), round(np.log10(rate)))]
    rows = [
        [str(name), *(count(float(steps.sel(optimizer=name, learning_rate=rate))) for rate in rates)]
        for name in steps.optimizer.values
    ]
    return Table(title, ["optimizer", *(f"{rate:g}" for rate in rates)], rows)


def fewest(steps: xr.DataArray) -> tuple[str, str]:
    """An optimizer's fewest steps and their learning rate, for people; with a star where that is an end of the grid."""
    rate = float(best_rate(steps))
    mark = "*" if rate in (steps.learning_rate.values[0], steps.learning_rate.values[-1]) else ""
    return count(float(best_steps(steps))), f"{rate:.3g}{mark}" if np.isfinite(rate) else "-"


def count(steps: float) -> str:
    """A number of steps for people."""
    return f"{steps:.0f}" if np.isfinite(steps) else "never"


def _split(steps: xr.DataArray, who: str) -> tuple[xr.DataArray, xr.DataArray]:
    known = steps.fillna(np.inf)
    return known.sel(optimizer=who), known.drop_sel(optimizer=who).min("optimizer")


def _compare(own: float, others: float) -> Answer:
    if own == others:
        return "tie"
    return "yes" if own < others else "no"


def _ranked(counts: xr.DataArray) -> list[str]:
    return [str(name) for name in counts.sortby(counts.fillna(np.inf)).optimizer.values]


def _count(counts: xr.DataArray, name: str) -> str:
    return count(float(counts.sel(optimizer=name)))
