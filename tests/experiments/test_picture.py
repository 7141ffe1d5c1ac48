"""Pictures are the same for the same results, and can be read on light pages and dark, in any colour vision."""

import itertools

import matplotlib
import numpy as np
import pytest

from experiments import looks, picture
from experiments.looks import DARK, LIGHT, LOOKS, THEMES
from experiments.methods import METHODS
from experiments.study import Picture
from tests.experiments import made_up

LINE = Picture("line", "A line.", made_up.draw)
THEME = pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)


def test_every_optimizer_has_a_look_of_its_own():
    assert list(LOOKS) == [method.name for method in METHODS]
    assert len({one.colour for one in LOOKS.values()}) == len({one.marker for one in LOOKS.values()}) == len(LOOKS)
    assert looks.look("an optimizer of tomorrow") == looks.OTHER


@THEME
def test_sgd_is_drawn_like_the_text(theme):
    with picture.styled(theme):
        assert looks.look("SGD").colour == theme.text
        assert looks.look("Adam") == LOOKS["Adam"]


def test_light_and_dark_differ_and_equal_results_give_equal_files():
    light, dark = (picture.render(LINE, made_up.dataset(), theme) for theme in THEMES)
    assert light == picture.render(LINE, made_up.dataset(), LIGHT)
    assert LIGHT.page.lower() in light
    assert DARK.page.lower() in dark
    assert LIGHT.page.lower() not in dark


def test_no_letters_dates_or_names_of_programs_in_a_file():
    svg = picture.render(LINE, made_up.dataset())
    assert "<text" not in svg
    assert "dc:date" not in svg
    assert "dc:creator" not in svg


def test_a_warning_stands_in_the_picture():
    told = "Small scale: 2 of 5 $\\frac{ epochs, and more words than one line of the picture has room for."
    first = told[:60]
    plain, warned = (picture.render(LINE, made_up.dataset(), warning=warning) for warning in ("", told))
    assert first not in plain
    assert first in warned  # outlines have their text beside them, line by line
    assert told not in warned
    pngs = [picture.render_png(LINE, made_up.dataset(), warning=warning, dpi=30) for warning in ("", told)]
    assert pngs[0] != pngs[1]


def test_a_persons_own_settings_do_not_matter():
    svg = picture.render(LINE, made_up.dataset())
    with matplotlib.rc_context({"lines.linewidth": 7, "axes.facecolor": "red"}):
        assert picture.render(LINE, made_up.dataset()) == svg
        assert matplotlib.rcParams["lines.linewidth"] == 7


def test_size_is_in_css_pixels():
    # 6 by 3 inches of 96 pixels.
    assert picture.size(picture.render(LINE, made_up.dataset())) == (576, 288)
    with pytest.raises(ValueError, match="expected an SVG file by matplotlib"):
        picture.size("<svg>")


@THEME
def test_png(theme):
    png = picture.render_png(LINE, made_up.dataset(), theme, dpi=50)
    assert png.startswith(b"\x89PNG")
    assert png == picture.render_png(LINE, made_up.dataset(), theme, dpi=50)


def test_letters_that_the_font_does_not_have_are_boxes():
    def draw(dataset):
        made = made_up.draw(dataset)
        made.axes[0].set_title("\u6e2c\u8a66 \U0001f600")
        return made

    assert "<svg" in picture.render(Picture("x", "", draw), made_up.dataset())


@THEME
def test_contrast_of_text(theme):
    """4.5 is level AA of WCAG 2.2 for text, 3 for what is no text."""
    for name in ("text", "muted", "link", "supported", "refuted", "inconclusive"):
        for behind in (theme.page, theme.panel):
            assert contrast(getattr(theme, name), behind) >= 4.5, (name, behind)


@THEME
def test_contrast_of_optimizers(theme):
    with picture.styled(theme):
        for name in [*LOOKS, "another"]:
            assert contrast(looks.look(name).colour, theme.page) >= 3, name


@THEME
@pytest.mark.parametrize("vision", ["any", "protanopia", "deuteranopia", "tritanopia"])
def test_two_optimizers_do_not_look_alike(theme, vision):
    """At least 16 apart in CIELAB, which is what the colours of Okabe and Ito reach; 2.3 can just be seen."""
    with picture.styled(theme):
        seen = {name: lab(VISIONS[vision] @ linear(looks.look(name).colour)) for name in LOOKS}
    for (one, a), (other, b) in itertools.combinations(seen.items(), 2):
        assert np.linalg.norm(a - b) >= 16, (one, other)


# Machado, Oliveira and Fernandes (2009), severity 1.
VISIONS = {
    "any": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colour: str) -> np.ndarray:
    """Linear light of an sRGB colour."""
    encoded = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(linear(colour) @ np.array([0.2126, 0.7152, 0.0722])) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(light: np.ndarray) -> np.ndarray:
    """CIELAB with the white of D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(light, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
