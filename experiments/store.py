"""Results on disk: a labelled array with its provenance, in `<results>/<study>/<tier>/`.

netCDF holds numbers and text and no code: reading a stranger's file runs nothing. A checksum beside it
tells a damaged file from a sound one.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import xarray as xr

from experiments.errors import ExperimentError, one_line

RESULTS = "results.nc"
CHECKSUM = "results.nc.sha256"

VARIABLES = {
    "train_loss", "validation_loss", "validation_accuracy", "diverged", "tried",
    "chosen_learning_rate", "edge", "seconds", "test_accuracy",
}  # fmt: skip
COORDINATES = {"model", "optimizer", "learning_rate", "seed", "epoch"}


def directory(results: Path, study: str, tier: str) -> Path:
    """Where the results of a study in a tier are."""
    return results / study / tier


def write(dataset: xr.Dataset, directory: Path) -> None:
    """Write the results and their checksum into an existing directory."""
    compressed = {name: {"zlib": True} for name, variable in dataset.data_vars.items() if variable.dtype.kind == "f"}
    # By way of memory: HDF5 crashes the interpreter when the disk becomes full under it.
    content = dataset.to_netcdf(engine="h5netcdf", encoding=compressed)
    (directory / RESULTS).write_bytes(content)
    # In the form that `sha256sum -c` checks.
    (directory / CHECKSUM).write_text(f"{_checksum(content)}  {RESULTS}\n")


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
    if told != [_checksum(content)]:
        raise ExperimentError(f"{path} is damaged: its checksum is not the one in {CHECKSUM}; run the study again")
    try:
        dataset = xr.load_dataset(io.BytesIO(content), engine="h5netcdf")
    except Exception as error:  # a file that is no netCDF surfaces as many kinds
        raise ExperimentError(f"cannot read {path}: {one_line(error)}") from error
    missing = (VARIABLES - set(dataset.data_vars)) | (COORDINATES - set(dataset.coords))
    if missing:
        raise ExperimentError(f"{path} is not a comparison of optimizers: it lacks {', '.join(sorted(missing))}")
    return dataset


def _checksum(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
