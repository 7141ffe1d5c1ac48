"""What people see of a study's results, in words: verdicts, tables, warnings, provenance.

The results may be a stranger's, or older than the study's code. What cannot be made of them says so in its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import xarray as xr

from experiments.errors import one_line
from experiments.plain import plain
from experiments.study import Claim, Outcome, Study, Table

Finding = Literal[Outcome, "undecided"]

SIGNS: dict[str, str] = {"supported": "✓", "refuted": "✗", "inconclusive": "~", "undecided": "?", "not run": "–"}
WORDS: dict[str, str] = {"undecided": "cannot be decided"}
"""Where the word for a finding is not its name."""

SMOKE_WARNING = "Smoke tier: shows that it works; not a result."

LABELS = {
    "command": "command",
    "date": "date",
    "elapsed_seconds": "time",
    "device": "device",
    "system": "system",
    "commit": "commit",
    "data": "data",
    "data_fingerprint": "data fingerprint",
}
_SHOWN_ELSEWHERE = {"study", "tier", "question", "scale"}


@dataclass(frozen=True)
class StudyResults:
    """The results of a study in a tier.

    Attributes:
        tier: By the directory it was read from; the file may say otherwise.
        dataset: As read: with a stranger's attributes, or without them.
    """

    study: Study[Any]
    tier: str
    dataset: xr.Dataset


@dataclass(frozen=True)
class Judged:
    """A claim and what was found; `effect` is the reason where it is undecided."""

    claim: Claim
    finding: Finding
    effect: str

    @property
    def sign(self) -> str:
        """What stands beside the word."""
        return SIGNS[self.finding]

    @property
    def found(self) -> str:
        """The numbers that decided, or why there are none, as a sentence."""
        return f"Cannot be decided: {self.effect}." if self.finding == "undecided" else self.effect

    @property
    def word(self) -> str:
        """The finding, in words."""
        return WORDS.get(self.finding, self.finding)


def judge(results: StudyResults) -> list[Judged]:
    """The study's claims, in its order."""
    return [_judge_one(claim, results.dataset) for claim in results.study.claims]


def tables(results: StudyResults) -> Sequence[Table]:
    """The study's tables, or one without columns whose note says why there are none."""
    try:
        return list(results.study.tables(results.dataset))
    except Exception as error:
        return [Table("No tables", (), (), note=f"Tables cannot be made of these results: {reason(error)}.")]


def warnings(results: StudyResults) -> list[str]:
    """What a reader must know first: that the run was small, or no result at all, or of another study."""
    told = {name: plain(results.dataset.attrs.get(name, "")) for name in ("scale", "study", "tier")}
    said = [SMOKE_WARNING] if "smoke" in (results.tier, told["tier"]) else []
    if told["scale"]:
        said.append(f"Small scale: {told['scale'].removesuffix('.')}.")
    for name, here in (("study", results.study.name), ("tier", results.tier)):
        if told[name] not in ("", plain(here)):
            said.append(f"The results file says that it is of another {name}: {told[name]}.")
    return said


def warning(results: StudyResults) -> str:
    """The same in a few words, for a picture."""
    return plain(" ".join(warnings(results)), 300)


def provenance(results: StudyResults) -> dict[str, str]:
    """Where the results come from, as the file says: label and text. What has no label of its own comes last."""
    told = {str(name): value for name, value in results.dataset.attrs.items() if name not in _SHOWN_ELSEWHERE}
    known = {label: _tell(name, told.pop(name)) for name, label in LABELS.items() if name in told}
    rest = {plain(name, 100).replace("_", " "): _tell(name, value) for name, value in told.items()}
    return known | {name: text for name, text in sorted(rest.items()) if name not in known}


def order(claim: str) -> tuple[bool, str, int]:
    """Sorts claims by name: the study's own first, C2 before C10; then what is added."""
    letters = claim.rstrip("0123456789")
    return letters != "C", letters, int(claim[len(letters) :] or 0)


def fullest(results: Sequence[StudyResults]) -> list[StudyResults]:
    """One result a study: of the largest tier that there is."""
    found: dict[str, StudyResults] = {}
    for one in sorted(results, key=lambda one: fullness(one.tier)):
        found.setdefault(one.study.name, one)
    return list(found.values())


def fullness(tier: str) -> tuple[int, str]:
    """Sorts tiers, the fullest first."""
    names = ("accelerator", "cpu", "smoke")
    return (names.index(tier) if tier in names else len(names), tier)


def reason(error: Exception) -> str:
    """An exception as the end of a sentence."""
    return plain(f"{type(error).__name__}: {one_line(error)}", 300).removesuffix(".")


def duration(seconds: float) -> str:
    """As a person says it."""
    if seconds < 100:
        return f"{seconds:.3g} seconds"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} minutes"
    return f"{minutes // 60} h {minutes % 60} min"


def _judge_one(claim: Claim, dataset: xr.Dataset) -> Judged:
    try:
        verdict = claim.decide(dataset)
        return Judged(claim, verdict.outcome, verdict.effect)
    except Exception as error:  # a rule may stumble over any part of results that are not of its making
        return Judged(claim, "undecided", reason(error))


def _tell(name: str, value: Any) -> str:
    if name == "elapsed_seconds":
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            return plain(value)
        return duration(seconds) if seconds >= 0 and math.isfinite(seconds) else plain(value)
    return plain(value)
