"""Names of files and anchors, made of names that may be anything."""

from __future__ import annotations

import itertools
import re

_MOST = 80


def slug(name: str) -> str:
    """Lower-case ASCII letters, digits and single hyphens: no path, no hidden file, no code of a URL."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_MOST] or "unnamed"


class Unique:
    """Slugs that were not given before."""

    def __init__(self, *taken: str) -> None:
        self._taken = set(taken)

    def __call__(self, name: str) -> str:
        """The slug of the name, with a number if it is taken."""
        for ending in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
            if (free := slug(name) + ending) not in self._taken:
                self._taken.add(free)
                return free
        raise AssertionError("count() does not end")
