"""Studies that were never run, and text that means harm."""

import dataclasses
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.findings import StudyResults
from experiments.looks import LOOKS, look
from experiments.study import Claim, Outcome, Picture, Study, Table, Verdict

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "[bold]loud[/bold] [link=https://example.com]here[/link] [/nothing]",
    "a | b * c _d_ `e` $f$ {g}`h` [i](javascript:alert(1))",
    "../../../../tmp/outside",
    "w" * 5000,
    "\u202eright to left\u2066 \u0645\u0631\u062d\u0628\u0627",
    "\x1b[2J\x1b]0;title\x07 cleared",
    "half a pair \ud800, a null \x00, a line\nand another",
    "{{ 7 * 7 }}{% raw %}",
    "</style></dd></main><!-- --!>",
]


RANKS = Table("Ranks", ("optimizer", "loss"), [("Adam", "0.1"), ("SGD", "–")], "A note.")


@dataclasses.dataclass(frozen=True)
class Tier:
    estimate: str = "3 minutes"
    scale: str = ""


def draw(dataset: xr.Dataset) -> Figure:
    figure = Figure(figsize=(6, 3))
    axes = figure.subplots()
    for name in LOOKS:
        colour, marker = look(name)
        axes.plot(dataset.x, dataset.y, color=colour, marker=marker, label=name)
    axes.set(xlabel="x", ylabel="y", title="A line")
    axes.legend()
    return figure


def decided(outcome: Outcome, effect: str = "0.3 (0.2 to 0.4).") -> Any:
    return lambda dataset: Verdict(outcome, effect)


def fails(dataset: xr.Dataset) -> Any:
    return dataset["nothing"]


def study(name: str = "fake", **other: Any) -> Study[Any]:
    return Study(
        **{
            "name": name,
            "question": "Which?",
            "figures": "figure 2",
            "data": None,
            "tiers": {"smoke": Tier("10 seconds"), "cpu": Tier()},
            "run": lambda tier, context: dataset(),
            "tables": lambda dataset: [RANKS],
            "pictures": [Picture("line", "A line that rises.", draw)],
            "claims": [Claim("C1", "A beats B.", "Supported if above 0.", decided("supported"))],
            **other,
        }
    )


def dataset(**attrs: Any) -> xr.Dataset:
    return xr.Dataset({"y": ("x", np.arange(4.0))}, coords={"x": np.arange(4.0)}, attrs=attrs)


def results(tier: str = "cpu", name: str = "fake", **attrs: Any) -> StudyResults:
    return StudyResults(study(name), tier, dataset(**attrs))


def hostile(text: str) -> StudyResults:
    """Results in which every text is this one."""

    def draw_text(dataset: xr.Dataset) -> Figure:
        figure = draw(dataset)
        figure.axes[0].set_title(text[:100].replace("$", "").encode(errors="replace").decode())
        return figure

    def raises(dataset: xr.Dataset) -> Any:
        raise ValueError(text)

    made = study(
        text,
        question=text,
        figures=text,
        tables=lambda dataset: [Table(text, (text, text), [(text, text)], text)],
        pictures=[Picture(text, text, draw_text), Picture(text, text, raises)],
        claims=[
            Claim(text, text, text, decided("refuted", text)),
            Claim(text, text, text, raises),
        ],
    )
    names = ("study", "tier", "question", "command", "data", "scale", "elapsed_seconds", "jax_version", "date", text)
    return StudyResults(made, text, dataset(**dict.fromkeys(names, text)))
