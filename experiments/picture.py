"""Pictures as files, for light pages and for dark ones. Equal results give equal files.

Text becomes outlines: a reader's fonts do not change where it ends.
"""

from __future__ import annotations

import contextlib
import io
import re
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


def render(picture: Picture, dataset: xr.Dataset, theme: Theme = LIGHT) -> str:
    """The picture as SVG."""
    with styled(theme):
        svg = _save(picture.draw(dataset), format="svg", metadata={"Date": None, "Creator": None}).decode()
    # Outlines have their text beside them as a comment, where it may hold what XML must not.
    return _NOT_XML.sub("", svg)


def render_png(picture: Picture, dataset: xr.Dataset, theme: Theme = LIGHT, dpi: int = 150) -> bytes:
    """The picture as PNG, for where SVG is not shown."""
    with styled(theme):
        return _save(picture.draw(dataset), format="png", dpi=dpi, metadata={"Software": None})


def size(svg: str) -> tuple[int, int]:
    """Width and height of a rendered picture, in CSS pixels."""
    found = re.search(r'<svg [^>]*width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    if found is None:
        raise ValueError("expected an SVG file by matplotlib, with its width and height in points")
    return round(float(found[1]) * PIXELS_PER_POINT), round(float(found[2]) * PIXELS_PER_POINT)


def _save(figure: Figure, **how: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, **how)
    return buffer.getvalue()
