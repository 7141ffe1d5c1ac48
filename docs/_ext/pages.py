"""The pages that list themselves.

In `api.md` the line `% every public name` becomes the API reference; in `from-optax.md` the directive `optax-names`
becomes a table of optax's names.
"""

from __future__ import annotations

from typing import Any

import optax_names
import public_api
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

MARK = "% every public name"


def setup(app: Any) -> dict[str, bool]:
    """Register."""
    app.connect("source-read", fill_in)
    app.add_directive("optax-names", OptaxNames)
    return {"parallel_read_safe": True}


def fill_in(app: Any, page: str, source: list[str]) -> None:
    """The marked line of `api.md` as sections."""
    if page == "api":
        source[0] = source[0].replace(MARK, public_api.reference())


class OptaxNames(SphinxDirective):
    """Every public name of optax, and what it is in gradtx, from both libraries as they are installed."""

    def run(self) -> list[nodes.Node]:
        """The table."""
        self.env.note_reread()
        return self.parse_text_to_nodes(optax_names.table())
