"""How pictures look. Colours: of pages, light and dark, and of optimizers, whose look is the same everywhere.

The optimizers' colours have the hues of Okabe and Ito (2008), which people with any colour vision can tell apart.
Their lightness is chosen anew, so that each has a contrast of 3 with a light page and with a dark one, and any two
stay as far apart as those of Okabe and Ito. A test measures both. The markers say the same again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import matplotlib
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator


@dataclass(frozen=True)
class Theme:
    """Colours of a page and of the pictures on it.

    Attributes:
        name: `light` or `dark`; pictures' files end in it.
        page: Behind text and pictures.
        panel: Behind cards.
        text: Of text, axes and SGD.
        muted: Of what is said in passing.
        line: Of borders and of the grid.
        link: Of links.
        supported, refuted, inconclusive: Of verdicts; a word and a sign stand beside the colour.
    """

    name: str
    page: str
    panel: str
    text: str
    muted: str
    line: str
    link: str
    supported: str
    refuted: str
    inconclusive: str


LIGHT = Theme(
    name="light",
    page="#FFFFFF",
    panel="#F4F6F8",
    text="#1B1F24",
    muted="#57606A",
    line="#D8DEE4",
    link="#0A58B0",
    supported="#0A58B0",
    refuted="#A33A00",
    inconclusive="#57606A",
)
DARK = Theme(
    name="dark",
    page="#161B22",
    panel="#1F262F",
    text="#E6E9EE",
    muted="#A3ADB8",
    line="#39424E",
    link="#7CB8FF",
    supported="#7CB8FF",
    refuted="#FFA06B",
    inconclusive="#A3ADB8",
)
THEMES = (LIGHT, DARK)


class Look(NamedTuple):
    """How an optimizer is drawn."""

    colour: str
    marker: str


LOOKS = {
    "SGD": Look(LIGHT.text, "o"),
    "Momentum": Look("#D68000", "s"),
    "NAG": Look("#1A9FD0", "D"),
    "Adagrad": Look("#007A50", "^"),
    "Adadelta": Look("#C27DA5", "v"),
    "RMSprop": Look("#0060D8", "P"),
    "Adam": Look("#B04300", "X"),
}
SAME = {"Nesterov": "NAG"}
"""As on a light page. What draws uses `look`."""

OTHER = Look("#777777", ".")


def plain_numbers(axis: Axis) -> None:
    """Of an axis in log scale: 0.2 and 5, and no powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7), numticks=12))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def look(name: str) -> Look:
    """How the optimizer is drawn under matplotlib's present style: SGD has the colour of the text.

    A variant, as in "Adam (Keras)", looks like its optimizer; a picture tells variants apart by their lines.
    """
    optimizer = name.partition(" (")[0]
    optimizer = SAME.get(optimizer, optimizer)
    if optimizer == "SGD":
        return LOOKS[optimizer]._replace(colour=str(matplotlib.rcParams["text.color"]))
    return LOOKS.get(optimizer, OTHER)
