"""Rows of the table by subject: `ROWS` for each variant, `WRAPPED` for a wrapper around other kinds of optimizers."""

from . import (
    accumulation,
    averages,
    clipping,
    constraints,
    corrections,
    decay,
    groups,
    guards,
    points,
    precision,
    sharded,
    telemetry,
)

SUBJECTS = (
    groups,
    accumulation,
    guards,
    averages,
    points,
    corrections,
    constraints,
    decay,
    clipping,
    telemetry,
    precision,
    sharded,
)
ROWS = tuple(row for subject in SUBJECTS for row in subject.ROWS)
WRAPPED = tuple(row for subject in SUBJECTS for row in subject.WRAPPED)
