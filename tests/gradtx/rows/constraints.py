"""Rows of constraints on parameters."""

from __future__ import annotations

import optax

from ..row import Row

ROWS: tuple[Row, ...] = (
    # At parameters of 0, where the sign is looked at, steps down are none.
    Row("keep_params_nonnegative", peer=optax.keep_params_nonnegative, refuses=("complex",), sign="any"),
    Row("max_norm", {"max_norm": 0.7}),
    Row("max_norm-units", {"max_norm": 0.7}, {"axis": 0}),
    Row("norm_floor", {"min_norm": 2.0}),
    Row("norm_floor-units", {"min_norm": 2.0}, {"axis": -1}),
    Row("project_norm", {"norm": 1.5}),
    Row("project_norm-units", {"norm": 1.5}, {"axis": (0,)}),
    Row("hyperball"),
    Row("hyperball-current", {}, {"radius": "current"}),
    Row("hyperball-stacked", {}, {"axis": (-2, -1)}),
)
WRAPPED: tuple[Row, ...] = ()
