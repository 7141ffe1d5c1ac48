"""What others wrote, as text that may be shown: in a terminal, on a page, in a file.

A results file may come from a stranger. Its text may hold codes that move a terminal's cursor, turn the direction of
reading, or cannot be written as UTF-8. A sign stands for each of them.
"""

from __future__ import annotations

import re

MOST = 2000
"""Characters after which text is cut."""

_INSTEAD = "\N{REPLACEMENT CHARACTER}"
_FORBIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # control, among them the escape of terminals
    r"\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069"  # direction of reading
    r"\ufffe\uffff\ud800-\udfff]"  # no characters
)


def plain(value: object, most: int = MOST) -> str:
    """The value in one line."""
    text = value if isinstance(value, str) else str(value)
    text = _FORBIDDEN.sub(_INSTEAD, " ".join(text.split()))
    return text if len(text) <= most else f"{text[:most]}…"
