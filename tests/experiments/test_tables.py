"""A cell is text in a terminal, in Markdown, in HTML and in JSON, whatever is in it."""

import io
import json
import math
import re

import numpy as np
import pytest
from rich.console import Console

from experiments import summary, tables
from experiments.plain import plain
from experiments.study import Claim, Table
from tests.experiments import made_up
from tests.experiments.made_up import HOSTILE

RANKS = Table("Ranks", ("optimizer", "loss"), [("Adam", "0.1"), ("SGD", "0.25")], "A note.")
EVERY = pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))


def printed(what: object, width: int = 200) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False, highlight=False).print(what)
    return stream.getvalue()


def test_terminal_has_the_first_column_to_the_left():
    shown = printed(tables.terminal(RANKS))
    assert re.search(r"│ Adam +│ +0\.1 │", shown)
    assert "A note." in shown


def test_markdown():
    assert tables.markdown(RANKS) == (
        "## Ranks\n\n| optimizer | loss |\n| :-- | --: |\n| Adam | 0.1 |\n| SGD | 0.25 |\n\nA note.\n"
    )
    assert tables.markdown(Table("None", (), (), "Why."), level=3) == "### None\n\nWhy.\n"


def test_html():
    assert tables.html(RANKS) == (
        '<table>\n<thead><tr><th scope="col">optimizer</th><th scope="col">loss</th></tr></thead>\n<tbody>\n'
        '<tr><th scope="row">Adam</th><td>0.1</td></tr>\n<tr><th scope="row">SGD</th><td>0.25</td></tr>\n'
        "</tbody>\n</table>"
    )


@EVERY
def test_rich_markup_and_codes_of_the_terminal_are_shown_not_done(text):
    shown = printed(tables.terminal(Table(text, (text, "b"), [(text, text)], text)), width=20000)
    assert plain(text) in shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", shown)


@EVERY
def test_markdown_stays_one_table_of_two_columns(text):
    made = tables.markdown(Table(text, (text, "b"), [(text, text)], text))
    made.encode()
    rows = [line for line in made.splitlines() if line.startswith("| ")]
    assert len(rows) == 3
    for row in rows:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3
    # A sign of markup has a backslash before it, everywhere but in the frame of the table.
    inside = [tables.escape(text)]
    for cell in inside:
        assert not re.search(r"[`*_\[\]|$<>{}#&]", re.sub(r"\\.", "", cell))


@pytest.mark.parametrize("start", ["- item", "+ item", ":::{note}", "% comment", "=====", "(target)=", "~~~", '"'])
def test_what_has_a_meaning_at_the_beginning_of_a_line_loses_it(start):
    assert tables.escape(start).startswith("\\" + start[0])


def test_plain():
    assert plain("a\n\tb\u202ec\x1b[1m") == "a b\ufffdc\ufffd[1m"
    assert plain("x" * 10, most=4) == "xxxx…"
    assert plain(np.float64(0.5)) == "0.5"
    assert plain("naïve 測試 😀 مرحبا") == "naïve 測試 😀 مرحبا"


def test_json_has_null_for_what_is_no_number():
    attrs = {"elapsed_seconds": math.nan, "sizes": np.array([1.0, np.inf]), "n": np.int64(3), "ok": True}
    told = json.loads(summary.as_json(made_up.results(**attrs)))
    assert told["provenance"] == {"elapsed_seconds": None, "sizes": [1.0, None], "n": 3, "ok": True}
    assert told["tables"][0]["rows"] == [["Adam", "0.1"], ["SGD", "–"]]
    (claim,) = told["claims"]
    assert (claim["name"], claim["outcome"], claim["effect"]) == ("C1", "supported", "0.3 (0.2 to 0.4).")


def test_summary_as_markdown():
    page = summary.as_markdown(made_up.results("smoke", command="python", jax_version="1.2"))
    assert page.startswith("# fake, smoke tier\n\nWhich?\n\n**Smoke tier: shows that it works; not a result.**\n")
    assert "- **C1: supported.** A beats B. *Found:* 0.3 (0.2 to 0.4).\n" in page
    assert "| Adam | 0.1 |" in page
    assert "- jax version: 1.2\n" in page


@EVERY
def test_summary_of_a_strangers_results(text):
    results = made_up.hostile(text)
    assert json.loads(summary.as_json(results))["claims"][1]["outcome"] == "undecided"
    stream = io.StringIO()
    summary.show(Console(file=stream, width=100), results)
    assert "cannot be decided" in stream.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", stream.getvalue())


def test_tables_that_cannot_be_made_say_why():
    results = made_up.results()
    broken = made_up.study(tables=made_up.fails, claims=[Claim("C2", "Says.", "Rule.", made_up.fails)])
    page = summary.as_markdown(type(results)(broken, "cpu", results.dataset))
    assert "Tables cannot be made of these results: KeyError" in page
    assert "**C2: cannot be decided.**" in page
