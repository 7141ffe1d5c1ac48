"""The site holds together, is the same for the same results, and does nothing that a results file tells it to."""

import pathlib
import urllib.parse
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from experiments.errors import ExperimentError
from experiments.findings import StudyResults
from experiments.site import names, write_site
from experiments.study import Claim, Picture
from tests.experiments import made_up
from tests.experiments.made_up import HOSTILE

VOID = {"meta", "link", "img", "source", "br"}


class Page(HTMLParser):
    """All elements and the text of a page; fails where tags do not match."""

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def values(self, *attributes: str) -> list[str]:
        return [value for _, attrs in self.elements for name, value in attrs.items() if name in attributes and value]


def pages(site: pathlib.Path) -> dict[str, Page]:
    return {path.name: Page(path) for path in sorted(site.glob("*.html"))}


def content(site: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(site)): path.read_bytes() for path in site.rglob("*") if path.is_file()}


def check(site: pathlib.Path) -> None:
    """What must hold of every site."""
    read = pages(site)
    for name, page in read.items():
        tags = [tag for tag, _ in page.elements]
        assert {"script", "style", "iframe", "object", "form", "svg"}.isdisjoint(tags)
        assert tags.count("h1") == tags.count("title") == tags.count("main") == 1
        assert page.elements[0] == ("html", {"lang": "en"})
        for tag, attrs in page.elements:
            assert not [attribute for attribute in attrs if attribute.startswith("on") or attribute == "style"]
            if tag == "img":
                assert attrs["alt"]
                assert (attrs["src"] or "").endswith("-light.svg")
        for target in page.values("href", "src", "srcset"):
            path, _, fragment = target.partition("#")
            assert not urllib.parse.urlparse(target).scheme
            assert not target.startswith("/")
            file = (site / (path or name)).resolve()
            assert file.is_relative_to(site.resolve())
            assert file.is_file()
            if fragment:
                assert fragment in read[file.name].values("id")


@pytest.fixture
def site(tmp_path):
    return tmp_path / "site"


def test_pages_pictures_and_links(site):
    front = write_site(
        [made_up.results("cpu"), made_up.results("smoke"), made_up.results("cpu", "other")],
        site,
        [made_up.study("first"), made_up.study()],
    )
    assert front == site / "index.html"
    assert set(pages(site)) == {"index.html", "fake-cpu.html", "fake-smoke.html", "other-cpu.html"}
    assert (site / "pictures" / "fake-cpu-line-light.svg").exists()
    assert (site / "pictures" / "fake-cpu-line-dark.svg").exists()
    check(site)
    sources = [attrs for tag, attrs in Page(site / "fake-cpu.html").elements if tag == "source"]
    assert sources == [
        {"media": "(prefers-color-scheme: dark)", "srcset": "pictures/fake-cpu-line-dark.svg"},
    ]


def test_a_page_says_what_was_found_and_where_it_comes_from(site):
    attrs = {"command": "python -m x", "device": "1 x cpu", "jax_version": "1.2", "data_fingerprint": "abc"}
    write_site([made_up.results(**attrs, elapsed_seconds=9876.5)], site)
    text = Page(site / "fake-cpu.html").text
    for said in ("Which?", "A beats B.", "0.3 (0.2 to 0.4).", "Supported if above 0.", "A line that rises.", "A note."):
        assert said in text
    for said in ("python -m experiments run fake --tier cpu", "python -m x", "1 x cpu", "1.2", "abc", "2 h 45 min"):
        assert said in text


def test_the_front_page_lists_claims_by_number_and_studies_not_run(site):
    claims = [Claim(name, "Says.", "Rule.", made_up.decided("refuted")) for name in ("C10", "C2")]
    late = made_up.study("late", claims=claims)
    write_site([StudyResults(late, "cpu", made_up.dataset())], site, [made_up.study("never")])
    page = Page(site / "index.html")
    assert page.text.index("C1 ") < page.text.index("C2 ") < page.text.index("C10 ")
    for said in ("not run", "python -m experiments run never --tier cpu", "3 minutes", "2 refuted", "figure 2"):
        assert said in page.text
    assert "late-cpu.html#claim-c2" in page.values("href")
    assert "#study-never" in page.values("href")


def test_the_front_page_judges_by_the_fullest_tier(site):
    write_site([made_up.results("smoke"), made_up.results("cpu"), made_up.results("accelerator")], site)
    hrefs = Page(site / "index.html").values("href")
    assert "fake-accelerator.html#claim-c1" in hrefs
    assert "fake-smoke.html#claim-c1" not in hrefs
    assert "fake-smoke.html" in hrefs


def test_small_runs_say_so(site):
    write_site([made_up.results("smoke"), made_up.results("cpu", "b", scale="5 epochs for 100")], site)
    text = {name: page.text for name, page in pages(site).items()}
    assert "shows that it works; not a result" in text["fake-smoke.html"]
    assert "Small scale: 5 epochs for 100." in text["b-cpu.html"]
    assert "shows that it works; not a result" in text["index.html"]
    assert "Small scale: 5 epochs for 100." in text["index.html"]
    pictures = {path.name: path.read_text() for path in (site / "pictures").iterdir()}
    assert pictures
    for name, svg in pictures.items():
        assert ("Small scale: 5 epochs for 100." if name.startswith("b-") else "not a result") in svg
    write_site([made_up.results("cpu")], site)
    assert not [page for page in pages(site).values() if "mall scale" in page.text or "not a result" in page.text]


def test_results_of_another_study_or_tier_say_so(site):
    write_site([StudyResults(made_up.study(), "cpu", made_up.dataset(study="foreign", tier="smoke"))], site)
    text = Page(site / "fake-cpu.html").text
    assert "The results file says that it is of another study: foreign." in text
    assert "The results file says that it is of another tier: smoke." in text
    assert "shows that it works; not a result" in text


def test_what_fails_says_so_in_its_place(site):
    broken = made_up.study(
        tables=made_up.fails,
        pictures=[Picture("x", "A caption.", made_up.fails)],
        claims=[Claim("C1", "Says.", "Rule.", made_up.fails)],
    )
    write_site([StudyResults(broken, "cpu", made_up.dataset())], site)
    check(site)
    text = Page(site / "fake-cpu.html").text
    assert "Cannot be decided: KeyError: " in text
    assert "This picture cannot be drawn of these results: KeyError: " in text
    assert "Tables cannot be made of these results: KeyError: " in text
    assert "The results file does not tell where it comes from." in text


@pytest.fixture(scope="module")
def harmless(tmp_path_factory) -> list[list[str]]:
    """The elements of each page with harmless text."""
    site, plain = tmp_path_factory.mktemp("harmless") / "site", made_up.hostile("harmless")
    write_site([plain, plain], site, [made_up.study("x")])
    return sorted(sorted(tag for tag, _ in page.elements) for page in pages(site).values())


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_text_of_a_stranger_stays_text(site, text, harmless):
    hostile = made_up.hostile(text)
    write_site([hostile, hostile], site, [made_up.study("x")])
    check(site)
    # Not one element more or less than with harmless text.
    assert sorted(sorted(tag for tag, _ in page.elements) for page in pages(site).values()) == harmless
    assert [path.name for path in site.parent.iterdir()] == ["site"]
    for file in site.rglob("*.svg"):
        ElementTree.fromstring(file.read_bytes())


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_names_of_files_are_safe(text):
    assert set(names.slug(text)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert 0 < len(names.slug(text)) <= 80


def test_names_of_files_are_unique():
    unique = names.Unique("index")
    assert [unique(name) for name in ("A b", "a-b", "index", "", "../..")] == [
        "a-b",
        "a-b-2",
        "index-2",
        "unnamed",
        "unnamed-2",
    ]


def test_the_same_results_give_the_same_site(site):
    results = [made_up.results(), made_up.results("smoke")]
    write_site(results, site)
    first = content(site)
    write_site(results, site)
    assert content(site) == first


def test_a_former_site_is_replaced_and_nothing_else(site):
    write_site([made_up.results("smoke")], site)
    write_site([made_up.results("cpu")], site)
    assert set(pages(site)) == {"index.html", "fake-cpu.html"}
    mine = site.parent / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("Years of work.")
    with pytest.raises(ExperimentError, match="is no former report, and would be replaced whole"):
        write_site([made_up.results()], mine)
    assert (mine / "thesis.txt").exists()


def test_a_failure_leaves_the_former_site(site, monkeypatch):
    write_site([made_up.results()], site)
    before = content(site)
    monkeypatch.setattr(pathlib.Path, "write_text", _full)
    with pytest.raises(ExperimentError, match=r"cannot write the report to .*No space left"):
        write_site([made_up.results("smoke")], site)
    assert content(site) == before
    assert [path.name for path in site.parent.iterdir()] == ["site"]


def test_nothing_run_yet(site):
    write_site([], site, [made_up.study()])
    check(site)
    assert "python -m experiments run fake --tier cpu" in Page(site / "index.html").text


def _full(*_, **__):
    raise OSError(28, "No space left on device")
