"""Pictures as files, for light pages and for dark ones. Equal results give equal files.

Text becomes outlines: a reader's fonts do not change where it ends. What a reader must know first (that the run was
small, say) stands in the picture too, which may be shown without its page.
"""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any, cast

import matplotlib
import xarray as xr
from cycler import cycler
from matplotlib.figure import Figure

from experiments.looks import LIGHT as LIGHT
from experiments.looks import LOOKS as LOOKS
from experiments.looks import THEMES as THEMES
from experiments.looks import Look as Look
from experiments.looks import Theme as Theme
from experiments.looks import look as look
from experiments.study import Picture

PIXELS_PER_POINT = 4 / 3  # CSS
LETTERS_PER_INCH = 13  # of a warning; an average one of DejaVu Sans takes 0.6 of its size
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def style(theme: Theme) -> dict[str, Any]:
    """Matplotlib's parameters."""
    return {
        "figure.facecolor": theme.page,
        "axes.facecolor": theme.page,
        "savefig.facecolor": "auto",
        "text.color": theme.text,
        "axes.labelcolor": theme.text,
        "axes.titlecolor": theme.text,
        "axes.edgecolor": theme.muted,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelcolor": theme.text,
        "ytick.labelcolor": theme.text,
        "lines.color": theme.text,
        "patch.edgecolor": theme.text,
        "hatch.color": theme.text,
        "boxplot.boxprops.color": theme.text,
        "boxplot.capprops.color": theme.text,
        "boxplot.whiskerprops.color": theme.text,
        "boxplot.flierprops.color": theme.text,
        "legend.facecolor": theme.page,
        "legend.edgecolor": theme.line,
        "grid.color": theme.line,
        "grid.linewidth": 0.6,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=[theme.text, *(one.colour for one in list(LOOKS.values())[1:])]),
        "font.family": ["DejaVu Sans"],  # comes with matplotlib
        "font.size": 11,
        "svg.fonttype": "path",
        "svg.hashsalt": "gradtx",
    }


@contextlib.contextmanager
def styled(theme: Theme) -> Iterator[None]:
    """Matplotlib's defaults with the theme, whatever a person's own settings are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A stranger's letters may be missing in the font; boxes stand for them.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, style(theme)))
        yield


def render(picture: Picture, dataset: xr.Dataset, theme: Theme = LIGHT, warning: str = "") -> str:
    """The picture as SVG, with the warning above it if there is one."""
    with styled(theme):
        return _as_svg(_warned(picture.draw(dataset), warning))


def render_both(picture: Picture, dataset: xr.Dataset, warning: str = "", dpi: int = 150) -> tuple[bytes, bytes]:
    """SVG and PNG, for light pages, drawn and laid out once: that is most of the time."""
    with styled(LIGHT):
        figure = _warned(picture.draw(dataset), warning)
        svg = _as_svg(figure)
        figure.set_layout_engine("none")  # its parts stay where they are
        return svg.encode(), _as_png(figure, dpi)


def render_png(picture: Picture, dataset: xr.Dataset, theme: Theme = LIGHT, warning: str = "", dpi: int = 150) -> bytes:
    """The same as PNG, for where SVG is not shown."""
    with styled(theme):
        return _as_png(_warned(picture.draw(dataset), warning), dpi)


def size(svg: str) -> tuple[int, int]:
    """Width and height of a rendered picture, in CSS pixels."""
    found = re.search(r'<svg [^>]*width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    if found is None:
        raise ValueError("expected an SVG file by matplotlib, with its width and height in points")
    return round(float(found[1]) * PIXELS_PER_POINT), round(float(found[2]) * PIXELS_PER_POINT)


def _warned(figure: Figure, warning: str) -> Figure:
    """The figure, with the warning in lines that fit its width. A stranger's text is no mathematics."""
    if warning:
        lines = textwrap.wrap(warning, max(20, int(figure.get_figwidth() * LETTERS_PER_INCH)))
        colour = matplotlib.rcParams["ytick.color"]
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize="small", color=colour, parse_math=False)
    return figure


def _as_svg(figure: Figure) -> str:
    svg = _save(figure, format="svg", metadata={"Date": None, "Creator": None}).decode()
    # Outlines have their text beside them as a comment, where it may hold what XML must not.
    return _NOT_XML.sub("", svg)


def _as_png(figure: Figure, dpi: int) -> bytes:
    return _save(figure, format="png", dpi=dpi, metadata={"Software": None})


def _save(figure: Figure, **how: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, **how)
    return buffer.getvalue()
