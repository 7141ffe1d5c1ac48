"""Runs of the driver in processes of their own."""

import os
import pathlib
import subprocess
import sys
from typing import NamedTuple

import xarray as xr

from experiments import results

ROOT = pathlib.Path(__file__).parents[2]
RUN = ["run", "quickstart", "--tier", "smoke"]


class Place(NamedTuple):
    """A directory with results, a count of calls, and the cache that all share."""

    base: pathlib.Path
    cache: pathlib.Path

    @property
    def root(self) -> pathlib.Path:
        return self.base / "results"

    @property
    def calls(self) -> int:
        log = self.base / "calls"
        return log.stat().st_size if log.exists() else 0

    def start(self, arguments: list[str] = RUN, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-m", "tests.experiments.driver", *arguments]
        settings = {"GRADTX_CACHE": str(self.cache), "CALLS": str(self.base / "calls"), **environment}
        return subprocess.Popen(
            [*command, "--results", str(self.root)], cwd=ROOT, env=os.environ | settings, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def read(self) -> xr.Dataset:
        """The results, without the times they took and what tells of the run."""
        found = results.read(results.directory(self.root, "quickstart", "smoke"))
        return found.drop_vars(["seconds", "epoch_seconds"]).drop_attrs()

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, error = process.communicate(timeout=300)
    return process.returncode, out, error
