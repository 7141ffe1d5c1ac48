"""The checker catches every transformation of `broken.py` by its law, and complains of none in `right.py`."""

from __future__ import annotations

import jax
import pytest

from gradtx.testing import LAWS, LawBroken, check_transformation

from .broken import BROKEN
from .right import RIGHT

ROWS = [pytest.param(name, marks=pytest.mark.slow if row.slow else ()) for name, row in RIGHT.items()]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_transformation_is_caught(name: str) -> None:
    row = BROKEN[name]
    with pytest.raises(LawBroken, match=f"(?s){row.message}") as caught:
        check_transformation(row.make(), laws=[row.law])
    assert caught.value.law == row.law
    print(caught.value)


@pytest.mark.parametrize("name", ROWS)
def test_a_right_transformation_is_not_complained_of(name: str) -> None:
    row = RIGHT[name]
    # optax needs JAX's default promotion: a count to the power of a float.
    with jax.numpy_dtype_promotion("standard" if name.startswith("optax") else "strict"):
        report = check_transformation(row.make(), **row.arguments)
    assert report.laws == tuple(row.arguments.get("laws", LAWS))
    for note in row.notes:
        assert note in str(report), report
    print(report)
