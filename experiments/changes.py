"""What a person may change in a tier, from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from experiments import atomic
from experiments.comparison import Training
from experiments.errors import ExperimentError
from experiments.study import Study

MOST = {"seeds": 1000, "budget": 100}
"""Of what no run on any machine would end with more."""

OPTIONS = "options.json"


@dataclass(frozen=True)
class Changes:
    """Options of `run`; see there. None, false and 0 change nothing."""

    seeds: int | None = None
    budget: int | None = None
    augment: bool = False
    l2: float = 0.0
    cosine: bool = False
    defaults: bool = False

    def words(self) -> Iterator[str]:
        """The options, as they are typed."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is True:
                yield f"--{field.name}"
            elif value:
                yield from (f"--{field.name}", str(value))

    def apply(self, study: Study[Any], tier: Any) -> Any:
        """The tier, changed.

        Raises:
            ExperimentError: The study does not depend on an option that is given, or its value makes no sense.
        """
        self._check(study, tier)
        if self.seeds is not None:
            tier = replace(tier, seeds=self.seeds)
        if self.budget is not None:
            tier = replace(tier, grid=tier.grid.resized(self.budget))
        if self.defaults:
            tier = replace(tier, defaults=True)
        if self.augment or self.l2 or self.cosine:
            tier = tier.with_recipe(augment=self.augment, l2=self.l2, cosine=self.cosine)
        return tier

    def keep(self, directory: Path) -> None:
        """Write them beside a run's parts, for who asks how far it is."""
        with atomic.new_file(directory / OPTIONS) as temporary:
            temporary.write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def kept(cls, directory: Path) -> Changes:
        """What `keep` wrote; none if there is nothing of the kind."""
        try:
            return cls(**json.loads((directory / OPTIONS).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return cls()

    def _check(self, study: Study[Any], tier: Any) -> None:
        for name in ("seeds", "budget"):
            value = getattr(self, name)
            if value is None:
                continue
            if {"seeds": "seeds", "budget": "grid"}[name] not in {field.name for field in fields(tier)}:
                raise ExperimentError(f"study {study.name!r} has no --{name}: it does not depend on it")
            if name == "budget" and isinstance(tier, Training) and tier.tuning is None:
                raise ExperimentError(f"study {study.name!r} has no --budget: it tunes nothing")
            if not (isinstance(value, int) and 1 <= value <= MOST[name]):
                raise ExperimentError(f"--{name} must be from 1 to {MOST[name]}, got {value}")
        if not (isinstance(self.l2, float) and 0 <= self.l2 < float("inf")):
            raise ExperimentError(f"--l2 must be at least 0 and finite, got {self.l2}")
        for name in ("augment", "l2", "cosine", "defaults"):
            if getattr(self, name) and not isinstance(tier, Training):
                raise ExperimentError(f"study {study.name!r} has no --{name}: what it runs is fixed, but for its size")
