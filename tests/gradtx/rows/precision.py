"""Rows of the table."""

from __future__ import annotations

from ..row import Row

ROWS: tuple[Row, ...] = ()
WRAPPED: tuple[Row, ...] = ()
