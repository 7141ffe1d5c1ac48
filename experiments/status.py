"""How far a run is, from what is on disk: other processes may be at work on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments import results, sealed, store
from experiments.changes import Changes
from experiments.errors import ExperimentError
from experiments.findings import duration
from experiments.store import Store
from experiments.study import Study, TierName


def of(study: Study[Any], tier: Any, root: Path, tier_name: TierName) -> tuple[str, str, str, str] | None:
    """State, parts done, work done and time to go, as text; None if the run was never begun.

    Work is counted in the units of `Study.expected`. The time to go assumes the speed of what is done; parts that
    nobody can foresee (a grid that is extended) come on top.

    A run is finished if its results are there, of the settings and data that its parts are of.
    """
    directory = results.parts(root, study.name, tier_name)
    place = results.directory(root, study.name, tier_name)
    digest = _digest(place)
    if not directory.exists():
        return ("finished" if digest else "damaged", "", "", "") if place.exists() else None
    parts = Store(directory, say=lambda line: None)
    expected = study.expected(_changed(study, tier, directory))
    finished = digest == sealed.checksum((parts.spec() or "").encode())
    names = set(parts.names())
    done = {name: cost for name, cost in expected.items() if _is_done(name, names)}
    running = sum(_begun(parts, name, cost) for name, cost in expected.items() if name not in done)
    total, work = sum(expected.values()), sum(done.values()) + running
    state = "running" if store.is_used(directory) else "finished" if finished else "interrupted"
    if state == "finished":
        return state, str(len(names)), "100 %", ""
    seconds = sum(parts.seconds(name) for name in names)
    to_go = duration(seconds / sum(done.values()) * (total - work)) if done and seconds else "unknown"
    share = f"{100 * work / total:.0f} %" if total else "unknown"
    return state, f"{len(names)} of about {len(expected)}", share, to_go


def _changed(study: Study[Any], tier: Any, directory: Path) -> Any:
    """The tier with the options that stand beside the parts; as it is where they cannot be this study's."""
    try:
        return Changes.kept(directory).apply(study, tier)
    except ExperimentError:
        return tier


def _digest(place: Path) -> str | None:
    """What tells the results' settings and data; None where they are not there, or damaged."""
    try:
        return str(results.read(place).attrs.get("spec"))
    except ExperimentError:
        return None


def _is_done(name: str, files: set[str]) -> bool:
    """Whether the part is there. The final run at a rate that tuning chose is the first of its method."""
    if name.endswith("/tuned"):
        stem = store.file_name(name.rpartition("/")[0])
        return any(file.startswith(stem) for file in files)
    return store.file_name(name) in files


def _begun(parts: Store, name: str, cost: float) -> float:
    """How much of a part that is not done is in its checkpoint."""
    kept = (parts.checkpoint(name).done(), parts.sharded_checkpoint(name).done())
    return max(cost * done / total if total else 0.0 for done, total in kept)
