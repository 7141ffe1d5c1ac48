"""A table for a terminal, as Markdown, and as HTML. Cells are text: nothing in them is markup, wherever they go."""

from __future__ import annotations

import re
import string

from markupsafe import Markup
from rich import table as rich_table
from rich.text import Text

from experiments.plain import plain
from experiments.study import Table

_MARKUP = re.compile(r"([\\`*_\[\]|$~#&<>{}])")


def terminal(table: Table) -> rich_table.Table:
    """For `rich`. The note becomes the caption."""
    made = rich_table.Table(
        title=Text(plain(table.title)),
        caption=Text(plain(table.note)) if table.note else None,
        title_justify="left",
        caption_justify="left",
    )
    for i, column in enumerate(table.columns):
        made.add_column(Text(plain(column)), justify="left" if i == 0 else "right", overflow="fold")
    for row in table.rows:
        made.add_row(*(Text(plain(cell)) for cell in row))
    return made


def markdown(table: Table, level: int = 2) -> str:
    """With the title as a heading of that level."""
    blocks = [f"{'#' * level} {escape(table.title)}"]
    if table.columns:
        rule = [":--", *["--:"] * (len(table.columns) - 1)]
        lines = [map(escape, table.columns), rule, *(map(escape, row) for row in table.rows)]
        blocks.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    if table.note:
        blocks.append(escape(table.note))
    return "\n\n".join(blocks) + "\n"


def escape(text: object) -> str:
    """Text for Markdown with tables, mathematics and colon fences (MyST): what is markup loses its meaning."""
    escaped = _MARKUP.sub(r"\\\1", plain(text))
    # Some signs have a meaning at the beginning alone: of lists, quotations, fences, comments.
    return f"\\{escaped}" if escaped[:1] in set(string.punctuation) - {"\\"} and escaped else escaped


def html(table: Table) -> Markup:
    """A `table` element. The first cell of a row is its heading."""
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(plain(column)) for column in table.columns)
    body = Markup("\n").join(_html_row([plain(cell) for cell in row]) for row in table.rows)
    return Markup("<table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table>").format(head, body)


def _html_row(cells: list[str]) -> Markup:
    first = Markup('<th scope="row">{}</th>').format(*cells[:1]) if cells else Markup("")
    rest = Markup("").join(Markup("<td>{}</td>").format(cell) for cell in cells[1:])
    return Markup("<tr>{}{}</tr>").format(first, rest)
