"""Rows of the table: state over the devices of a mesh."""

from __future__ import annotations

import gradtx

from ..row import Row
from ..wrapped import around

ROWS: tuple[Row, ...] = (Row("zero", factory=lambda: gradtx.zero(gradtx.adam(0.05), min_size=1)),)
WRAPPED: tuple[Row, ...] = around("zero", lambda inner: gradtx.zero(inner, "batch", min_size=1))
