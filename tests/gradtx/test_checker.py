"""The checker catches every transformation of `broken.py` by its law, and complains of none in `right.py`."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.testing import LAWS, LawBroken, check_transformation
from gradtx.testing.pure import LATER

from .broken import BROKEN
from .right import MATRICES, RIGHT, noise, orthogonalized

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


def test_a_report_prints_laws_and_notes() -> None:
    report = check_transformation(gradtx.identity(), laws=["stable_state", "same_updates"])
    assert report.laws == ("stable_state", "same_updates")
    assert report.notes == (("stable_state", "holds vacuously: the state has no leaves"),)
    assert str(report) == (
        "2 laws hold: stable_state, same_updates\n  stable_state: holds vacuously: the state has no leaves"
    )


@pytest.mark.parametrize("law", [law for law in LAWS if law not in ("abstract_init", "any_tree", "sign", "points")])
def test_what_the_sample_does_not_suit_is_no_bare_error(law: str) -> None:
    with pytest.raises(LawBroken, match=rf"\({law}\).*orthogonalized: updates.* is no matrix"):
        check_transformation(orthogonalized(), laws=[law])


def test_refusals_of_a_tree_are_noted() -> None:
    report = check_transformation(orthogonalized(), laws=["any_tree"])
    assert "refused by name: an update of a bare scalar (orthogonalized: updates is no matrix)" in str(report)
    assert "refused by name: an update of a NamedTuple (orthogonalized: updates.bias is no matrix)" in str(report)


def test_what_should_be_refused_must_be() -> None:
    with pytest.raises(LawBroken, match=r"law 9 .*an explicit mesh should be refused and is not"):
        check_transformation(gradtx.scale(2.0), laws=["sharding"], refuses=["explicit mesh"])
    with pytest.raises(LawBroken, match="a step on a mesh of Explicit axes raised"):
        check_transformation(orthogonalized(), MATRICES, laws=["sharding"])


def test_a_refusal_that_names_nothing_breaks_the_law() -> None:
    class real_only(gradtx.Stateless):
        def update(self, updates, state, params=None):
            if any(map(jnp.iscomplexobj, jax.tree.leaves(updates))):
                raise ValueError("no")
            return updates, state

    with pytest.raises(LawBroken, match="complex64 parameters raised ValueError: no; a refusal on purpose names"):
        check_transformation(real_only(), laws=["precision"])
    with pytest.raises(LawBroken, match="complex64 is refused, but not by name: ValueError: no"):
        check_transformation(real_only(), laws=["precision"], refuses=["complex"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [
        jnp.ones((8, 3), np.float32),
        jnp.ones((), np.float32),
        {"real": jnp.ones(3), "complex": jnp.ones(2, np.complex64)},
        {"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.ones(3, jnp.bfloat16)},
        {"none": None, "w": np.ones((2, 3), np.float32)},
        {},
    ],
    ids=["bare", "scalar", "mixed", "half", "None", "empty"],
)
def test_all_laws_take_the_parameters_given(params) -> None:
    check_transformation(gradtx.adam(1e-3), params)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.complex64, np.complex128])
def test_the_sample_in_other_dtypes(dtype) -> None:
    check_transformation(gradtx.adam(1e-3), dtype=dtype)


@pytest.mark.parametrize("now", range(1_800_000_000, 1_800_000_000 + 86_400, 1_801))
def test_another_time_differs_in_all_that_a_clock_shows(now: int) -> None:
    here, there = time.gmtime(now), time.gmtime(now + LATER)
    shown = ("tm_sec", "tm_min", "tm_hour", "tm_wday", "tm_mon", "tm_year")
    assert not [name for name in shown if getattr(here, name) == getattr(there, name)]


def test_clocks_and_global_random_numbers_are_put_back() -> None:
    np.random.seed(3)  # noqa: NPY002 - the global generator is what is looked at
    before, clocks = np.random.get_state(legacy=False)["state"]["key"].tolist(), (time.time, time.perf_counter_ns)  # noqa: NPY002
    check_transformation(gradtx.scale(2.0), laws=["pure"])
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == before  # noqa: NPY002
    assert (time.time, time.perf_counter_ns) == clocks


def test_a_key_of_the_transformation_is_no_hyperparameter_that_is_ignored() -> None:
    check_transformation(noise(jax.random.key(0)), laws=["one_trace"])
