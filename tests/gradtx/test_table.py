"""Every public transformation has a row in the table, and every row obeys the laws."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import numpy as np
import optax
import pytest

import gradtx
import gradtx.learned
from gradtx.testing import LAWS, LawBroken, check_transformation

from .row import Row
from .table import TABLE, each_row, each_row_costly, each_row_once, each_wrapped
from .wrapped import small_params

# Bases; what they are bases of has rows.
ABSTRACT = {"GradientTransformation", "Recipe", "Stateless"}
COSTLY = ("pure", "precision", "sharding")


def transformations() -> dict[str, type]:
    """The public transformations by name."""
    found: dict[str, type] = {}
    for prefix, module in (("", gradtx), ("learned.", gradtx.learned)):
        for name, value in vars(module).items():
            if inspect.isclass(value) and issubclass(value, gradtx.GradientTransformation):
                found[prefix + name] = value
    aliases = [name for name, value in found.items() if name.rpartition(".")[2] != value.__name__]
    return {name: value for name, value in found.items() if name not in aliases and value.__name__ not in ABSTRACT}


def test_every_public_transformation_has_a_row() -> None:
    missing = set(transformations()) - {row.public_name for row in TABLE}
    assert not missing, (
        f"no row in tests/gradtx/table.py for {', '.join(sorted(missing))}: add Row({min(missing)!r}, ...)"
    )


def test_names_of_rows_are_unique_and_public() -> None:
    names = [row.name for row in TABLE]
    assert sorted(names) == sorted(set(names))
    assert {row.public_name for row in TABLE} <= set(transformations())


@each_row
def test_a_row_makes_what_it_is_named_after(row: Row) -> None:
    assert f"{row.public_name.rpartition('.')[2]}(" in repr(row.make())


def check(row: Row, laws: Any, dtype: Any = np.float32, params: Any = None) -> None:
    known = {"extra": row.extra, "refuses": row.refuses, "sign": row.sign}
    check_transformation(row.make(), params, **known, laws=laws, dtype=dtype)


@each_row_once
def test_obeys_the_laws(row: Row) -> None:
    check(row, [law for law in LAWS if law not in COSTLY])


@each_row_costly
def test_is_pure(row: Row) -> None:
    """In float64, so that jit, vmap and scan give the same up to its roundings."""
    check(row, ["pure"], np.float64)


@each_row_costly
def test_keeps_precision(row: Row) -> None:
    check(row, ["precision"])


@each_row_costly
def test_keeps_sharding(row: Row) -> None:
    check(row, ["sharding"])


# What optax's Adam does not do by itself: None gradients fail in it, and gradients of another shape are broadcast.
NOT_OPTAX_S = ("any_tree", "nothing_broadcast")


@each_wrapped
def test_a_wrapper_obeys_the_laws_around_every_kind(row: Row) -> None:
    is_optax_s = row.name.endswith("-optax")
    with jax.numpy_dtype_promotion("standard" if is_optax_s else "strict"):  # it mixes dtypes
        laws = [law for law in LAWS if law != "pure" and not (is_optax_s and law in NOT_OPTAX_S)]
        check(row, laws, np.float32, small_params(np.float32))
        # A search around rounded numbers may take another turn, which float64 makes rare.
        check(row, ["pure"], np.float64, small_params(np.float64))


@pytest.mark.parametrize("law", NOT_OPTAX_S)
def test_optax_s_adam_breaks_the_laws_that_are_left_out(law: str) -> None:
    with jax.numpy_dtype_promotion("standard"), pytest.raises(LawBroken):
        check_transformation(optax.adam(0.05), laws=[law], sign="any")
