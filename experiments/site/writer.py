"""Write the site, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from experiments import atomic
from experiments.errors import ExperimentError, explained
from experiments.findings import StudyResults
from experiments.looks import DARK, LIGHT
from experiments.plain import plain
from experiments.site.names import Unique
from experiments.site.pages import ResultPage, glances, listed, result_page
from experiments.study import Study

INDEX, STYLE = "index.html", "style.css"
MARK = '<meta name="generator" content="gradtx experiments">'
"""By this a former site is known, which may be replaced."""


def write_site(
    results: Sequence[StudyResults], out: Path, studies: Sequence[Study[Any]] = (), left_out: Sequence[str] = ()
) -> Path:
    """Write the site in place of a former one. The same results give the same bytes.

    Args:
        results: What was run, in any tiers.
        out: The site's directory. Everything in it is replaced.
        studies: All there are: those without results are listed as not run.
        left_out: Of results that cannot be read, why.

    Returns:
        The front page.

    Raises:
        ExperimentError: `out` holds something else than a site, or cannot be written.
    """
    unique = Unique("index")
    pages = [result_page(one, unique) for one in results]
    by_name = {study.name: study for study in (*studies, *(one.study for one in results))}
    every = [listed(study, pages) for study in by_name.values()]
    templates = _templates()
    texts = {
        INDEX: templates.get_template("index.html").render(studies=every, glances=glances(every), left_out=left_out),
        STYLE: templates.get_template("style.css").render(light=LIGHT, dark=DARK),
    }
    for page in pages:
        texts |= _page_files(page, templates)
    with explained(f"cannot write the report to {out}"):
        _check_replaceable(out)
        with atomic.new_directory(out) as staged:
            for name, text in texts.items():
                (staged / name).parent.mkdir(exist_ok=True)
                (staged / name).write_text(text, encoding="utf-8", newline="\n")
    return out / INDEX


def _page_files(page: ResultPage, templates: jinja2.Environment) -> dict[str, str]:
    pictures = {f"{one.file}-{theme}.svg": svg for one in page.drawn for theme, svg in one.svgs.items()}
    html = templates.get_template("study.html").render(page=page)
    return {f"{page.name}.html": html, f"data/{page.name}.json": page.json, **pictures}


def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else plain(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _check_replaceable(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    index = out / INDEX
    if not (index.is_file() and MARK in index.read_text(encoding="utf-8", errors="replace")[:1000]):
        raise ExperimentError(
            f"{out} is no former report, and would be replaced whole; give a directory that is new, empty or a report"
        )
