"""A transformation as Python's tools see it: signatures, help, pickled structures, states of another library."""

import inspect
import pickle
import pydoc
import re
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import optax
import pytest

import gradtx

from .table import TABLE

ONES = jnp.ones(2)


def test_signature_and_docstring():
    assert gradtx.adam.__name__ == "adam"
    assert (gradtx.adam.__doc__ or "").startswith("Adam: `scale_by_adam`")
    ours, theirs = (inspect.signature(f).parameters for f in (gradtx.adam, optax.adam))
    assert list(ours) == list(theirs)
    assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]
    assert [p.kind for p in ours.values()] == [p.kind for p in theirs.values()]


def test_signatures_of_what_takes_any_number_of_arguments():
    for function in (gradtx.chain, gradtx.named_chain):
        assert str(inspect.signature(function)).startswith("(*transforms: ")
    assert list(inspect.signature(gradtx.by_path).parameters) == ["patterns"]
    assert list(inspect.signature(gradtx.linear_schedule).parameters)[:2] == ["init_value", "end_value"]


@pytest.mark.parametrize("thing", [gradtx.chain, gradtx.adam, gradtx.adam(0.1), gradtx.linear_schedule(1.0, 0.0, 3)])
def test_help_is_about_the_class(thing):
    cls = thing if isinstance(thing, type) else type(thing)
    page = re.sub("\b.", "", pydoc.render_doc(thing))  # bold letters are struck twice
    assert (inspect.getdoc(cls) or "-").splitlines()[0] in page
    # From Python 3.13 on each parameter has a line of its own.
    shown = page[page.index(f"{cls.__name__}(") :]
    assert all(f"{parameter}" in shown for parameter in inspect.signature(cls).parameters.values())


@pytest.mark.parametrize("row", [row for row in TABLE if not row.holds_a_function], ids=lambda row: row.name)
def test_pickled_structures(row):
    structure = jax.tree.structure(row.make())
    again = pickle.loads(pickle.dumps(structure))
    assert again == structure
    assert hash(again) == hash(structure)
    assert structure.unflatten(jax.tree.leaves(row.make())) == row.make()


def test_flax_bytes_of_its_numbers():
    """`to_bytes` takes what is registered with Flax; the leaves are what is to be saved, as the docs say."""
    tx = gradtx.adam(jnp.asarray(0.1), b1=jnp.asarray(0.8))
    leaves, structure = jax.tree.flatten(tx)
    saved = flax.serialization.to_bytes(leaves)
    assert structure.unflatten(flax.serialization.from_bytes(leaves, saved)).replace() == tx.replace()


FOREIGN: dict[str, tuple[Any, Any, str]] = {
    "adam": (gradtx.adam(0.1), optax.adam(0.1), r"gradtx\..*ScaleByAdamState, got optax\..*ScaleByAdamState"),
    "sgd": (gradtx.sgd(0.1), optax.sgd(0.1), r"gradtx\..*EmptyState, got optax\..*EmptyState"),
    "schedule": (gradtx.scale_by_learning_rate(0.1), optax.scale(0.1), r"gradtx\..*RateState, got optax\..*EmptyState"),
    "clip": (gradtx.chain(gradtx.clip(1.0)), optax.chain(optax.clip(1.0)), r"gradtx\..*, got optax\..*EmptyState"),
}


@pytest.mark.parametrize(("ours", "theirs", "words"), FOREIGN.values(), ids=FOREIGN)
def test_a_state_of_another_library_is_named_with_both_modules(ours, theirs, words):
    with pytest.raises(TypeError, match=f"expected a state of type {words}.*gradtx.interop.from_optax"):
        ours.update(ONES, theirs.init(ONES), ONES)


ADAM = gradtx.adam(0.1)
POINTS: dict[str, tuple[Any, str]] = {
    "nag": (gradtx.nag(0.1, 0.9), "gradient_params"),
    "sam": (gradtx.sam(ADAM), "gradient_params"),
    "extragradient": (gradtx.extragradient(ADAM), "gradient_params"),
    "ema_nesterov": (gradtx.ema_nesterov(ADAM), "gradient_params"),
    "average": (gradtx.average(ADAM), "eval_params"),
    "lawa": (gradtx.lawa(ADAM, 2, 2), "eval_params"),
    "lookahead": (gradtx.lookahead(ADAM, 2, 0.5), "eval_params"),
    "schedule_free": (gradtx.schedule_free(ADAM, 0.1), "eval_params"),
}


@pytest.mark.parametrize(("tx", "method"), POINTS.values(), ids=POINTS)
def test_points_are_asked_for_with_the_transformation_s_own_state(tx, method):
    """The state of what is inside is the usual mistake."""
    with pytest.raises(TypeError, match=rf"{type(tx).__name__} expected a state of type \w+, got tuple.*tx.init"):
        getattr(tx, method)(ONES, ADAM.init(ONES))
    assert getattr(tx, method)(ONES, tx.init(ONES)).shape == ONES.shape
