"""Rules that decide claims about who is best or who is alike, from test accuracies by seed.

Each rule is fixed before the runs, and can come out in three ways. A claim that several comparisons must all bear
out needs no correction for their number; one that any of several can refute does, and is refuted by intervals that
hold together (Bonferroni). Tests simulate how often a rule errs at its boundary.

A run that diverged has no accuracy; the rules count it as 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping

import numpy as np

from experiments.statistics import Interval, Values, differ, paired
from experiments.study import Verdict

DIVERGED = "A run that diverged counts as accuracy 0."
BEST_RULE = (
    "Supported if {champions} each have a higher mean test accuracy than every other method, and each of these "
    "differences is significant (paired t tests over seeds, 5 % for all pairs together by Holm's correction). Refuted "
    f"if some other method is significantly better than one of them. Else inconclusive. {DIVERGED}"
)
ALIKE_RULE = (
    "Refuted if two of {alike} differ by more than {margin:g} points, or one of {behind} is less than {margin:g} "
    "points behind each of them (whole paired intervals over seeds, 95 % for all of them together by Bonferroni's "
    "correction). Else supported if the paired 95 % intervals of all differences among {alike} lie within {margin:g} "
    "points, and each of {behind} is behind every one of those by an interval that excludes zero. Else inconclusive. "
    f"{DIVERGED}"
)


def best(accuracies: Mapping[str, Values], champions: Collection[str]) -> Verdict:
    """Whether the champions are better than all others; see `BEST_RULE`."""
    others = [name for name in accuracies if name not in champions]
    values = counted(accuracies)
    apart = differ(values)

    def beats(one: str, other: str) -> bool:
        return values[one].mean() > values[other].mean() and frozenset((one, other)) in apart

    order = sorted(values, key=lambda name: -values[name].mean())
    told = [f"{name} {percent(values[name].mean())}" for name in order]
    rival = max(others, key=lambda name: values[name].mean())
    against = ", ".join(f"{name} minus {rival} {points(paired(values[name], values[rival]))}" for name in champions)
    effect = f"Mean test accuracy: {', '.join(told)}. {against}."
    if any(beats(other, champion) for other in others for champion in champions):
        return Verdict("refuted", effect)
    if all(beats(champion, other) for other in others for champion in champions):
        return Verdict("supported", effect)
    return Verdict("inconclusive", effect)


def alike_but(accuracies: Mapping[str, Values], behind: Collection[str], margin: float) -> Verdict:
    """Whether all are alike but those that are behind; see `ALIKE_RULE`. `margin`: an accuracy, from 0 to 1."""
    values = counted(accuracies)
    alike = [name for name in values if name not in behind]
    among = {pair: paired(values[pair[0]], values[pair[1]]) for pair in itertools.combinations(alike, 2)}
    gaps = {(slow, fast): paired(values[fast], values[slow]) for slow in behind for fast in alike}
    widest = max(among, key=lambda pair: abs(among[pair].mean))
    told = [f"{name} {percent(values[name].mean())}" for name in sorted(values, key=lambda name: -values[name].mean())]
    least = {slow: min((gaps[slow, fast] for fast in alike), key=lambda gap: gap.mean) for slow in behind}
    behind_told = ", ".join(f"{slow} is behind by at least {points(gap)}" for slow, gap in least.items())
    effect = (
        f"Mean test accuracy: {', '.join(told)}. Widest difference among the alike: {widest[0]} minus {widest[1]} "
        f"{points(among[widest])}. {behind_told}."
    )
    tests = len(among) + len(behind)
    differing = any(paired(values[a], values[b], tests).beyond(margin) for a, b in among)
    caught_up = any(all(paired(values[fast], values[slow], tests).high < margin for fast in alike) for slow in behind)
    if differing or caught_up:
        return Verdict("refuted", effect)
    if all(gap.within(margin) for gap in among.values()) and all(gap.low > 0 for gap in gaps.values()):
        return Verdict("supported", effect)
    return Verdict("inconclusive", effect)


def counted(accuracies: Mapping[str, Values]) -> dict[str, Values]:
    """Accuracies with 0 for each run that diverged."""
    return {name: np.nan_to_num(one, nan=0.0) for name, one in accuracies.items()}


def points(interval: Interval) -> str:
    """A difference of accuracies in points, with its interval."""
    mean, low, high = (100 * value for value in interval)
    return f"{mean:+.2f} points [{low:+.2f}, {high:+.2f}]"


def percent(accuracy: float) -> str:
    """An accuracy in percent."""
    return f"{100 * accuracy:.2f} %"
