"""Labelled arrays as bytes. netCDF holds numbers and text and no code: reading a stranger's file runs nothing."""

from __future__ import annotations

import io

import xarray as xr

from experiments.errors import one_line


class NotNetcdfError(Exception):
    """The bytes are not a labelled array."""


def encode(dataset: xr.Dataset) -> bytes:
    """The data set as a netCDF-4 file."""
    compressed = {name: {"zlib": True} for name, variable in dataset.data_vars.items() if variable.dtype.kind == "f"}
    # By way of memory: HDF5 crashes the interpreter when the disk becomes full under it.
    # Bytes, since a view keeps its buffer from being closed: Python 3.13 complains where both are collected together.
    return bytes(dataset.to_netcdf(engine="h5netcdf", encoding=compressed))


def decode(content: bytes) -> xr.Dataset:
    """What `encode` was given.

    Raises:
        NotNetcdfError: They cannot be read.
    """
    try:
        return xr.load_dataset(io.BytesIO(content), engine="h5netcdf")
    except Exception as error:  # a file that is no netCDF surfaces as many kinds
        raise NotNetcdfError(f"not a netCDF file: {one_line(error)}") from error
