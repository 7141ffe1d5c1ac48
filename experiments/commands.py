"""What the commands `list`, `run`, `status` and `report` do."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments import (
    atomic,
    compilation,
    data,
    distributed,
    findings,
    picture,
    provenance,
    results,
    sealed,
    site,
    status,
    store,
    summary,
    tables,
)
from experiments.changes import Changes
from experiments.comparison import Training
from experiments.errors import ExperimentError, explained, raised_at
from experiments.findings import StudyResults
from experiments.progress import Progress
from experiments.studies import STUDIES, TIERS, Study, find, find_tier
from experiments.study import Context

NEEDED_BYTES = 10_000_000
"""Free space without which no run starts. Results take less than 1 MB, their making somewhat more."""

SITE = "site"


def list_studies(console: Console) -> None:
    """Print all studies."""
    table = Table("study", "question", "of the study", "data", "tier", "time on 2 cores", box=None, pad_edge=False)
    for study in STUDIES.values():
        tiers = "\n".join(study.tiers)
        times = "\n".join(tier.estimate for tier in study.tiers.values())
        table.add_row(
            study.name,
            study.question,
            study.figures or "none",
            ", ".join(filter(None, [study.data, *study.others])) or "none",
            tiers,
            times,
        )
    console.print(table)
    console.print("\nRun one with: python -m experiments run NAME --tier TIER (default: cpu)", markup=False)


def run_study(
    console: Console,
    name: str,
    tier_name: str,
    data_dir: Path | None,
    root: Path,
    changes: Changes,
    command: str,
) -> None:
    """Run a study, or what is left of it, and write its results.

    Args:
        console: Where to print.
        name: The study's.
        tier_name: The tier's.
        data_dir: Where prepared data sets are.
        root: Where results go.
        changes: What is other than the tier has it.
        command: What was typed, for the results' provenance.

    Raises:
        ExperimentError: The study, the tier or the data set is not there, another run is at work on it, or results
            cannot be written; or they are, but pictures of them cannot be drawn.
    """
    study = find(name)
    tier_name, tier = find_tier(study, tier_name)
    tier = changes.apply(study, tier)
    directory = results.directory(root, study.name, tier_name)
    parts_directory = results.parts(root, study.name, tier_name)
    with _writing(directory):
        distributed.from_first(lambda: atomic.check_writable(directory, free_bytes=NEEDED_BYTES))

    console.print(f"[bold]{study.name}[/], {tier_name} tier: {study.question}")
    datasets: list[data.Dataset] = []
    for wanted in (*filter(None, [study.data]), *study.others):
        with console.status(f"loading {wanted}"):
            datasets.append(data.load(wanted, data_dir))
    fingerprint = "+".join(one.fingerprint for one in datasets)
    spec = study.spec(tier, fingerprint or None)
    if distributed.agreed(distributed.is_first() and _is_finished(directory, spec)):
        console.print("It is finished: nothing is left to do. To run it anew, remove:")
        for place in (directory, parts_directory):
            console.print(str(place), style="bold", markup=False, soft_wrap=True)
        return
    console.print(f"Takes about {tier.estimate} on 2 cores. If it is interrupted, the same command goes on with it.")
    say, start = _say(console), time.perf_counter()
    compilation.keep_programs()
    with store.opened(parts_directory, spec, say) as parts:
        with _writing(parts_directory):
            distributed.from_first(lambda: changes.keep(parts_directory))
        with Progress(console) as progress:
            first, *others = [*datasets] or [None]
            found = study.run(tier, Context(parts, progress, first, say, [one for one in others if one is not None]))
        found.attrs = {
            "study": study.name,
            "question": study.question,
            "tier": tier_name,
            "scale": tier.scale,
            "spec": sealed.checksum(spec.encode()),
            # Of all sittings, if there were several.
            "elapsed_seconds": round(max(time.perf_counter() - start, sum(map(parts.seconds, parts.names()))), 1),
            **provenance.describe(command),
        }
        if datasets:
            found.attrs |= {"data": ", ".join(one.name for one in datasets), "data_fingerprint": fingerprint}
        shown = StudyResults(study, tier_name, found)
        try:
            summary.show(console, shown)  # before it is written: a disk that has become full does not take it away
        finally:  # nor does a closed pipe take away what is written
            distributed.from_first(lambda: _write(shown, directory, say))
    console.print(f"Done in {found.attrs['elapsed_seconds']:.0f} s. Table, pictures and data are in:")
    console.print(str(directory), style="bold", markup=False, soft_wrap=True)


def dry_run(console: Console, name: str, tier_name: str, changes: Changes, topology: str | None) -> None:
    """Print what a tier would take, from its programs as compiled for the topology, or for the devices here.

    Raises:
        ExperimentError: The study trains no model over all devices together, or the topology cannot be compiled for.
    """
    from experiments import chips
    from experiments import dry_run as dry

    study = find(name)
    tier_name, tier = find_tier(study, tier_name)
    trainings = _over_all_devices(study, changes.apply(study, tier))
    if not trainings:
        tiers = [(one, key, its) for one in STUDIES.values() for key, its in one.tiers.items()]
        able = [f"{one.name} --tier {key}" for one, key, its in tiers if _over_all_devices(one, its)]
        raise ExperimentError(
            f"study {name!r}, tier {tier_name!r}, trains no model over all devices together; a dry run is for those "
            f"that do: {', '.join(able)}"
        )
    target = chips.here() if topology is None else chips.described(topology)
    found = []
    with console.status("") as status:
        for model in trainings[0].models:
            status.update(f"compiling {model} for {target.name}")
            found.append(dry.cost(model, trainings, target))
    console.print(tables.terminal(dry.table(found, trainings[0].epochs, target)))


def report_studies(console: Console, name: str | None, root: Path) -> None:
    """Print stored results, draw their pictures anew, and write the site.

    Raises:
        ExperimentError: There are none, or the report cannot be written. Or some cannot be read, or some pictures
            cannot be drawn; the report is then of all others.
    """
    asked = [find(name)] if name else list(STUDIES.values())
    stored, damaged = _stored(asked, root)
    troubles: list[str] = []
    for shown, directory in stored:
        summary.show(console, shown)
        troubles += _write_derived(shown, directory)
        console.print(f"[bold]{escape(str(directory))}[/]\n", soft_wrap=True)
    if name and stored:
        stored, damaged = _stored(list(STUDIES.values()), root)
    if stored:
        pages = [shown for shown, _ in stored]
        with _writing(root), atomic.new_file(root / summary.CLAIMS) as temporary:
            temporary.write_text(summary.claims(pages), encoding="utf-8")
        front = site.write_site(pages, root / SITE, list(STUDIES.values()), damaged)
        console.print("The report, with all claims at a glance:")
        console.print(str(front), style="bold", markup=False, soft_wrap=True)
    if left_out := [*damaged, *troubles]:
        raise ExperimentError("left out of the report: " + "; ".join(left_out))


def show_status(console: Console, name: str | None, root: Path) -> None:
    """Print what is done, running and left of every run that was begun.

    Raises:
        ExperimentError: There is no study of that name, or the directory cannot be read.
    """
    asked = [find(name)] if name else list(STUDIES.values())
    table = Table("study", "tier", "state", "parts done", "work done", "time to go", box=None, pad_edge=False)
    for study in asked:
        for tier_name, tier in study.tiers.items():
            with explained(f"cannot read {root}"):
                row = status.of(study, tier, root, tier_name)
            if row is not None:
                table.add_row(study.name, tier_name, *row)
    if not table.row_count:
        console.print(f"Nothing was run in {root} yet.", markup=False)
        return
    console.print(table)


def _over_all_devices(study: Study[Any], tier: Any) -> list[Training]:
    return [one for one in study.trainings(tier) if one.mode == "shard"]


def _say(console: Console) -> Callable[[str], None]:
    """Print a line that is not the main thing."""
    return lambda line: console.print(line, style="dim", markup=False, soft_wrap=True)


def _stored(studies: Sequence[Study[Any]], root: Path) -> tuple[list[tuple[StudyResults, Path]], list[str]]:
    """What there is of results, and why others cannot be read. Raises ExperimentError if there is nothing."""
    places = [(study, tier, results.directory(root, study.name, tier)) for study in studies for tier in TIERS]
    with explained(f"cannot read {root}"):
        places = [place for place in places if place[2].exists()]
    if not places:
        name = studies[0].name if len(studies) == 1 else "quickstart"
        asked = f"of {name!r} " if len(studies) == 1 else ""
        where = "" if root == Path("results") else f" --results {shlex.quote(str(root))}"
        raise ExperimentError(f"no results {asked}in {root}; make some with: python -m experiments run {name}{where}")
    found: list[tuple[StudyResults, Path]] = []
    damaged: list[str] = []
    for study, tier, directory in places:
        try:
            found.append((StudyResults(study, tier, results.read(directory)), directory))
        except ExperimentError as error:
            damaged.append(str(error))
    return found, damaged


def _is_finished(directory: Path, spec: str) -> bool:
    """Whether the results of this very run are there and sound."""
    try:
        return results.read(directory).attrs.get("spec") == sealed.checksum(spec.encode())
    except ExperimentError:
        return False


def _make_room(directory: Path, say: Callable[[str], None]) -> None:
    """Set former results aside, which are of other settings or data, or damaged."""
    if not directory.exists():
        return
    try:
        results.read(directory)
        why = f"{directory} had results of other settings or data"
    except ExperimentError as error:
        why = str(error)
    say(f"{why}; they are in {sealed.set_aside(directory, 'former').name} now")


def _write(shown: StudyResults, directory: Path, say: Callable[[str], None]) -> None:
    """All of it. Raises ExperimentError if pictures cannot be drawn, after the rest is written."""
    with _writing(directory), atomic.new_directory(directory) as staged:
        results.write(shown.dataset, staged)
        derived, troubles = _derived(shown)
        for name, content in derived.items():
            (staged / name).write_bytes(content)
        _make_room(directory, say)
    if troubles:  # these results are of the code that cannot draw them
        raise ExperimentError(
            f"the results are written to {directory}, but {'; '.join(troubles)}; when the code is mended: "
            f"python -m experiments report {shown.study.name} --results {shlex.quote(str(directory.parent.parent))}"
        )


def _write_derived(shown: StudyResults, directory: Path) -> list[str]:
    """What is computed from the results; they stay untouched. Returns why pictures cannot be drawn."""
    derived, troubles = _derived(shown)
    with _writing(directory):
        for name, content in derived.items():
            with atomic.new_file(directory / name) as temporary:
                temporary.write_bytes(content)
    return troubles


def _derived(shown: StudyResults) -> tuple[dict[str, bytes], list[str]]:
    """The files that are computed from the results, by name; and why pictures cannot be drawn."""
    files = {
        summary.JSON: summary.as_json(shown).encode(),
        summary.MARKDOWN: summary.as_markdown(shown).encode(),
    }
    troubles, warning = [], findings.warning(shown)
    for one in shown.study.pictures:
        try:
            svg, png = picture.render_both(one, shown.dataset, warning)
            files |= {f"{one.name}.svg": svg, f"{one.name}.png": png}
        except Exception as error:  # the file may be older than the study's code, or a stranger's
            why = f"{findings.reason(error)}; {raised_at(error)}"
            troubles.append(f"the picture {one.name!r} of {shown.study.name} cannot be drawn ({why})")
    return files, troubles


def _writing(directory: Path) -> contextlib.AbstractContextManager[None]:
    return explained(f"cannot write results to {directory}")
