"""What the pages say, as data for the templates. All that can fail on a stranger's results has been tried here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from experiments import findings, picture, summary, tables
from experiments.findings import Judged, StudyResults
from experiments.plain import plain
from experiments.site.names import Unique, slug
from experiments.study import Picture, Study, Table, TierName


@dataclass(frozen=True)
class Drawn:
    """A picture for light pages and dark, or why there is none.

    Attributes:
        file: Path on the site, without `-light.svg` or `-dark.svg`.
        width, height: In CSS pixels.
    """

    caption: str
    file: str = ""
    svgs: dict[str, str] = field(default_factory=dict)
    width: int = 0
    height: int = 0
    trouble: str = ""


@dataclass(frozen=True)
class ResultPage:
    """The page of a study's results in a tier."""

    name: str
    study: Study[Any]
    tier: str
    command: str
    warnings: Sequence[str]
    judged: Sequence[Judged]
    drawn: Sequence[Drawn]
    tables: Sequence[tuple[Table, Markup]]
    provenance: dict[str, str]
    json: str

    @property
    def thumbnail(self) -> Drawn | None:
        """The first picture that could be drawn."""
        return next((one for one in self.drawn if not one.trouble), None)

    def anchor(self, claim: str) -> str:
        """Where the page speaks of the claim."""
        return f"claim-{slug(claim)}"


@dataclass(frozen=True)
class Listed:
    """A study on the front page: its results, the fullest tier first, or the command that makes some."""

    study: Study[Any]
    pages: Sequence[ResultPage]
    command: str
    estimate: str

    @property
    def anchor(self) -> str:
        """Where the front page speaks of the study."""
        return f"study-{slug(self.study.name)}"


@dataclass(frozen=True)
class Glance:
    """A claim on the front page. Without a page, its study has not been run."""

    name: str
    says: str
    listed: Listed
    judged: Judged | None
    page: ResultPage | None

    @property
    def finding(self) -> str:
        """Also a class in the style sheet, with a hyphen for the space."""
        return self.judged.finding if self.judged else "not run"

    @property
    def sign(self) -> str:
        """What stands beside the word."""
        return findings.SIGNS[self.finding]

    @property
    def word(self) -> str:
        """The finding, in words."""
        return self.judged.word if self.judged else self.finding


def result_page(results: StudyResults, unique: Unique) -> ResultPage:
    """Judge, draw and tabulate."""
    name = unique(f"{results.study.name}-{results.tier}")
    files = Unique()
    return ResultPage(
        name=name,
        study=results.study,
        tier=results.tier,
        command=_command(results.study, results.tier),
        warnings=findings.warnings(results),
        judged=findings.judge(results),
        drawn=[_draw(one, results, f"pictures/{name}-{files(one.name)}") for one in results.study.pictures],
        tables=[(table, tables.html(table)) for table in findings.tables(results)],
        provenance=findings.provenance(results),
        json=summary.as_json(results),
    )


def listed(study: Study[Any], pages: Sequence[ResultPage]) -> Listed:
    """The study with those of the pages that are its own."""
    own = [page for page in pages if page.study.name == study.name]
    tiers: list[TierName] = [*study.tiers, "cpu"]
    name = "cpu" if "cpu" in study.tiers else tiers[0]
    tier = study.tiers.get(name)
    own = sorted(own, key=lambda page: findings.fullness(page.tier))
    return Listed(study, own, _command(study, name), tier.estimate if tier else "")


def glances(studies: Sequence[Listed]) -> list[Glance]:
    """Every claim of every study, by the claims' numbers; judged on the fullest tier that was run."""
    made = []
    for one in studies:
        if one.pages:
            page = one.pages[0]
            made += [Glance(judged.claim.name, judged.claim.says, one, judged, page) for judged in page.judged]
        else:
            made += [Glance(claim.name, claim.says, one, None, None) for claim in one.study.claims]
    return sorted(made, key=lambda glance: findings.order(glance.name))


def _draw(one: Picture, results: StudyResults, file: str) -> Drawn:
    try:
        warning = findings.warning(results)
        svgs = {theme.name: picture.render(one, results.dataset, theme, warning) for theme in picture.THEMES}
        width, height = picture.size(svgs["light"])
    except Exception as error:
        return Drawn(one.caption, trouble=f"This picture cannot be drawn of these results: {findings.reason(error)}.")
    return Drawn(one.caption, file, svgs, width, height)


def _command(study: Study[Any], tier: str) -> str:
    # Of the study and the tier, not as the file tells it: a reader may paste it into a shell.
    return shlex.join(["python", "-m", "experiments", "run", plain(study.name), "--tier", plain(tier)])
