"""The results of a finished run on disk, in `<results>/<study>/<tier>/`: a labelled array with its provenance.

A checksum beside it tells a damaged file from a sound one.
"""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from experiments import netcdf, sealed
from experiments.errors import ExperimentError, one_line

RESULTS = "results.nc"
CHECKSUM = "results.nc.sha256"


def directory(results: Path, study: str, tier: str) -> Path:
    """Where the results of a study in a tier are."""
    return results / study / tier


def parts(results: Path, study: str, tier: str) -> Path:
    """Where the parts of the work are kept."""
    return results / study / f"{tier}.parts"


def write(dataset: xr.Dataset, directory: Path) -> None:
    """Write the results and their checksum into an existing directory."""
    content = netcdf.encode(dataset)
    (directory / RESULTS).write_bytes(content)
    # In the form that `sha256sum -c` checks.
    (directory / CHECKSUM).write_text(f"{sealed.checksum(content)}  {RESULTS}\n")


def read(directory: Path) -> xr.Dataset:
    """Read what `write` wrote.

    Raises:
        ExperimentError: There is nothing, or it is damaged, or it is something else.
    """
    path = directory / RESULTS
    try:
        content = path.read_bytes()
        told = (directory / CHECKSUM).read_text(errors="replace").split()[:1]
    except OSError as error:
        raise ExperimentError(f"no results in {directory}: {one_line(error)}") from error
    if told != [sealed.checksum(content)]:
        raise ExperimentError(f"{path} is damaged: its checksum is not the one in {CHECKSUM}; run the study again")
    try:
        return netcdf.decode(content)
    except netcdf.NotNetcdfError as error:
        raise ExperimentError(f"cannot read {path}: {one_line(error)}") from error
