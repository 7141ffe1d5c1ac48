"""What was found, as JSON for programs, as Markdown for pages, and for a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from experiments import findings
from experiments import tables as forms
from experiments.findings import StudyResults, fullest
from experiments.plain import plain
from experiments.tables import escape

JSON, MARKDOWN, CLAIMS = "summary.json", "table.md", "claims.md"

_STYLES = {"supported": "bold blue", "refuted": "bold yellow"}


def as_json(results: StudyResults) -> str:
    """Provenance, claims and tables. What is not a number is null."""
    study = results.study
    told = {
        "study": study.name,
        "tier": results.tier,
        "question": study.question,
        "figures": study.figures,
        "warnings": findings.warnings(results),
        "claims": [
            {
                "name": one.claim.name,
                "says": one.claim.says,
                "rule": one.claim.rule,
                "outcome": one.finding,
                "effect": one.effect,
            }
            for one in findings.judge(results)
        ],
        "tables": [asdict(table) for table in findings.tables(results)],
        "provenance": {plain(name): value for name, value in results.dataset.attrs.items()},
    }
    return json.dumps(_plain(told), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_markdown(results: StudyResults) -> str:
    """A page: question, verdicts, tables, and where it comes from."""
    study = results.study
    blocks = [f"# {escape(study.name)}, {escape(results.tier)} tier", escape(study.question)]
    blocks += [f"**{escape(warning)}**" for warning in findings.warnings(results)]
    judged = findings.judge(results)
    if judged:
        blocks += ["## Verdicts", "\n".join(_verdict(one) for one in judged)]
    blocks += [forms.markdown(table).rstrip() for table in findings.tables(results)]
    provenance = findings.provenance(results)
    if provenance:
        lines = [f"- {escape(label)}: {escape(text)}" for label, text in provenance.items()]
        blocks += ["## Provenance", "\n".join(lines)]
    return "\n\n".join(blocks) + "\n"


def claims(results: Sequence[StudyResults]) -> str:
    """All claims in one table, as Markdown: each judged on the fullest tier with results."""
    rows = []
    for one in fullest(results):
        small = " (small scale)" if findings.warnings(one) else ""
        rows += [
            (judged.claim.name, judged.claim.says, f"{judged.word}{small}", one.study.name)
            for judged in findings.judge(one)
        ]
    lines = [("claim", "it says", "found", "study"), (":--", ":--", ":--", ":--")]
    lines += [tuple(map(escape, row)) for row in sorted(rows, key=lambda row: findings.order(row[0]))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def show(console: Console, results: StudyResults) -> None:
    """Print tables and verdicts."""
    for warning in findings.warnings(results):
        console.print(Text(warning, style="bold"))
    for table in findings.tables(results):
        console.print(forms.terminal(table))
    for one in findings.judge(results):
        line = Text(f"{one.sign} {plain(one.claim.name)} {one.word}", style=_STYLES.get(one.finding, "bold"))
        line.append(f": {plain(one.claim.says)} {plain(one.found)}", style="not bold default")
        console.print(line)


def _verdict(one: findings.Judged) -> str:
    name, says, found = map(escape, (one.claim.name, one.claim.says, one.found))
    return f"- **{name}: {one.word}.** {says} *Found:* {found}"


def _plain(value: Any) -> Any:
    """As JSON has it."""
    match value:
        case dict():
            return {plain(name): _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case np.ndarray() | np.generic():
            return _plain(value.tolist())
        case bool() | int() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
    return plain(value)
