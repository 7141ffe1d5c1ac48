"""Functions as data: what is a leaf, what is static, and what a configured call can do."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array, Float, PyTree

import gradtx
from gradtx import GradientTransformation, Scalar, Schedule, Transform, transformation

from .everything import EVERYTHING


@transformation
def kinds(
    number: Scalar,
    maybe: Scalar | None = None,
    rate: gradtx.ScalarOrSchedule = 0.1,
    inner: GradientTransformation | None = None,
    shape: Schedule | None = None,
    weights: PyTree[Float[Array, "..."]] | None = None,
    flag: bool = False,
    size: int = 3,
    word: str = "a",
    function: Callable[..., Any] | None = None,
) -> Transform:
    """One argument of each kind."""
    return gradtx.identity().transform()


def test_leaves_are_the_arguments_annotated_as_data() -> None:
    tx = kinds(
        1, None, gradtx.constant_schedule(2.0), gradtx.scale(3.0), gradtx.constant_schedule(4.0), {"w": 5.0}, True, 7
    )
    assert jax.tree.leaves(tx) == [1.0, 2.0, 3.0, 4.0, 5.0]
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tx)]
    assert paths == [".number", ".rate.value", ".inner.step_size", ".shape.value", ".weights['w']"]


def test_the_annotation_decides_and_not_the_value() -> None:
    # None stays a child; so giving it a number changes the structure, and a static 3 never becomes a leaf.
    assert jax.tree.structure(kinds(1.0)) != jax.tree.structure(kinds(1.0, 2.0))
    assert jax.tree.structure(kinds(1.0, size=3)) != jax.tree.structure(kinds(1.0, size=4))
    assert jax.tree.structure(kinds(1.0)) == jax.tree.structure(kinds(2.0))


def test_ints_become_floats_and_numpy_numbers_too() -> None:
    for given in (1, np.float32(1), np.int64(1), np.float64(1)):
        (leaf,) = jax.tree.leaves(gradtx.scale(given))
        assert type(leaf) is float
    (leaf,) = jax.tree.leaves(gradtx.scale(np.arange(3)))
    assert leaf.dtype == np.float32


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (inspect.Parameter.empty, "has no annotation"),
        (float, "does not say whether"),
        (Any, "does not say whether"),
        (Scalar | str, "mixes data and static"),
        ("Unknown", "cannot be decided"),
    ],
)
def test_an_annotation_that_does_not_decide_is_refused(annotation: Any, problem: str) -> None:
    def factory(strange: Any) -> Transform:
        return gradtx.identity().transform()

    factory.__annotations__ = {} if annotation is inspect.Parameter.empty else {"strange": annotation}
    with pytest.raises(TypeError, match=f"factory: parameter `strange` .*{problem}"):
        transformation(factory)


def test_a_factory_names_its_arguments() -> None:
    def factory(**rest: Scalar) -> Transform:
        return gradtx.identity().transform()

    with pytest.raises(TypeError, match="factory: a factory names its arguments"):
        transformation(factory)


def test_one_unresolvable_annotation_does_not_spoil_the_others() -> None:
    def factory(a: Scalar, b: Nowhere) -> Transform:  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
        return gradtx.identity().transform()

    with pytest.raises(TypeError, match="parameter `b` cannot be decided"):
        transformation(factory)


def test_replace() -> None:
    tx = gradtx.adam(1e-3)
    assert tx.replace(learning_rate=3e-4) == gradtx.adam(3e-4)
    assert jax.tree.structure(tx.replace(b1=0.5)) == jax.tree.structure(tx)
    with pytest.raises(TypeError, match="adam has no argument 'lr'; it has learning_rate, b1"):
        tx.replace(lr=1.0)
    with pytest.raises(ValueError, match="adam: `b2` must be in"):
        tx.replace(b2=1.0)


def test_attributes_read_arguments_and_nothing_can_be_set() -> None:
    tx = gradtx.adam(1e-3, nesterov=True)
    assert (tx.learning_rate, tx.nesterov) == (1e-3, True)
    assert "eps_root" in dir(tx)
    with pytest.raises(AttributeError, match="adam has no argument or attribute 'rate'"):
        _ = tx.rate
    with pytest.raises(AttributeError, match=r"immutable; use .replace\(b1="):
        tx.b1 = 0.5
    with pytest.raises(AttributeError, match="immutable"):
        del tx.b1
    with pytest.raises(TypeError, match="made by calling a decorated function"):
        GradientTransformation()


@pytest.mark.parametrize(
    ("tx", "shown"),
    [
        (gradtx.adam(1e-3), "adam(learning_rate=0.001, b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0)"),
        (gradtx.sgd(0.1, nesterov=True), "sgd(learning_rate=0.1, momentum=None, nesterov=True)"),
        (gradtx.chain(gradtx.clip(1), gradtx.scale(2)), "chain(clip(max_delta=1.0), scale(step_size=2.0))"),
        (gradtx.named_chain(("a", gradtx.scale(2))), "named_chain(('a', scale(step_size=2.0)))"),
        (gradtx.scale(jnp.array([1e-3, 0.5])), "scale(step_size=[0.001, 0.5  ]:float32)"),
        (gradtx.sgd(abs), "sgd(learning_rate=foreign_schedule(function=abs), momentum=None)"),
    ],
)
def test_repr(tx: Any, shown: str) -> None:
    assert repr(tx) == shown


def test_repr_and_eq_of_tracers() -> None:
    def look(tx: Any) -> Any:
        assert "learning_rate=" in repr(tx)
        assert tx == tx
        assert tx != gradtx.adam(1e-3)
        with pytest.raises(TypeError, match="is a tracer"):
            hash(tx)
        return tx.learning_rate

    jax.jit(look)(gradtx.adam(1e-3))


@pytest.mark.parametrize("name", EVERYTHING)
def test_equal_and_hashed_by_value(name: str) -> None:
    tx = EVERYTHING[name].tx
    twin = jax.tree.unflatten(*reversed(jax.tree.flatten(tx)))
    assert twin == tx
    assert hash(twin) == hash(tx)
    leaves, structure = jax.tree.flatten(tx)
    if leaves:
        assert structure.unflatten([*leaves[:-1], leaves[-1] + 1]) != tx


def test_equality_tells_kinds_apart() -> None:
    one = [gradtx.scale(v) for v in (1.0, jnp.float32(1), np.ones((), np.float32), jnp.asarray(1.0))]
    assert len({*one}) == 4
    assert gradtx.scale(jnp.array([1.0, 2.0])) == gradtx.scale(jnp.array([1.0, 2.0]))
    assert gradtx.scale(1.0) != gradtx.scale_by_learning_rate(1.0)
    assert gradtx.scale(1.0) != "scale"
    assert kinds(1.0, size=1) != kinds(1.0, size=2)


def test_masks_of_arrays_and_dicts_hash_and_are_kept() -> None:
    mask = {"w": True, "b": [np.array(False)]}
    first, second = (gradtx.add_decayed_weights(0.1, mask=mask) for _ in range(2))
    mask["w"] = False
    assert first == second
    assert hash(first) == hash(second)
    assert first.mask["w"] is True
    assert gradtx.add_decayed_weights(0.1, mask=mask) != first


def test_equal_configurations_do_not_trace_twice_as_static_arguments() -> None:
    @functools.partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(1)
    def init(tx: Any, params: Any) -> Any:
        return tx.init(params)

    for _ in range(2):
        init(gradtx.adamw(1e-3, mask={"w": True, "b": False}), {"w": jnp.ones(2), "b": jnp.ones(2)})


HOLDS_A_FUNCTION = {"stateless", "foreign", "adam(plain callable)"}


@pytest.mark.parametrize("name", sorted(EVERYTHING.keys() - HOLDS_A_FUNCTION))
def test_pickle_and_copy(name: str) -> None:
    tx = EVERYTHING[name].tx
    assert pickle.loads(pickle.dumps(tx)) == tx
    assert copy.deepcopy(tx) == tx


def test_pickle_keeps_arrays() -> None:
    tx = gradtx.adam(jnp.array([1e-3, 1e-2]), b1=jnp.float32(0.5))
    assert pickle.loads(pickle.dumps(tx)) == tx


def test_signature_and_docstring_are_kept() -> None:
    assert gradtx.adam.__name__ == "adam"
    assert (gradtx.adam.__doc__ or "").startswith("Adam: `scale_by_adam`")
    ours, theirs = (inspect.signature(f).parameters for f in (gradtx.adam, optax.adam))
    assert list(ours) == list(theirs)
    assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]
    assert "learning_rate: LearningRate" in str(inspect.signature(gradtx.adam)).replace("'", "")


def test_unflattening_validates_nothing() -> None:
    tx = gradtx.adam(1e-3)
    axes = jax.tree.map(lambda _: None, tx)
    assert jax.tree.leaves(axes) == []
    assert jax.tree.map(lambda _: "anything", tx).b1 == "anything"
    assert jax.eval_shape(lambda tx: tx, tx).learning_rate.shape == ()


def test_a_body_is_validated_when_it_is_configured() -> None:
    with pytest.raises(ValueError, match="join_schedules: 2 schedules need 1 boundaries, got 0"):
        gradtx.join_schedules([gradtx.constant_schedule(1.0), abs], [])

    @transformation
    def wrong() -> Any:
        return 3

    with pytest.raises(TypeError, match="wrong returned 3, expected Transform"):
        wrong()


def test_an_update_does_not_read_arrays_back() -> None:
    tx, params = gradtx.adam(jnp.float32(1e-3)), {"w": jnp.ones(3)}
    state = tx.init(params)
    with jax.transfer_guard_device_to_host("disallow"):
        tx.update(params, state, params)


def test_two_functions_of_one_name_in_two_modules_are_told_apart() -> None:
    def adam() -> Transform:
        return gradtx.identity().transform()

    with pytest.raises(ValueError, match=r"the name 'gradtx\.adam' is taken"):
        transformation(name="gradtx.adam")(adam)


def test_batch_axes() -> None:
    txs = gradtx.adam(jnp.ones(4), eps=jnp.float32(1e-8))
    axes = gradtx.batch_axes(txs)
    assert (axes.learning_rate, axes.b1, axes.eps) == (0, None, None)


def test_a_recipe_is_validated_by_its_parts() -> None:
    @transformation
    def recipe(rate: Scalar) -> GradientTransformation:
        return gradtx.chain(gradtx.clip(1.0), gradtx.sgd(rate))

    assert recipe(0.1).rate == 0.1
    with pytest.raises(ValueError, match=r"sgd: `learning_rate` must be a finite number >= 0, got -0\.1"):
        recipe(-0.1)


def test_names_that_a_configuration_needs_are_refused() -> None:
    def factory(update: Scalar) -> Transform:
        return gradtx.identity().transform()

    with pytest.raises(TypeError, match=r"factory: tx.update is taken; give the parameter `update` another name"):
        transformation(factory)


def test_lists_and_tuples_are_one_form() -> None:
    pieces = [gradtx.constant_schedule(1.0), gradtx.constant_schedule(2.0)]
    assert gradtx.join_schedules(pieces, [3]) == gradtx.join_schedules(tuple(pieces), (3,))
    tx = gradtx.chain(gradtx.scale(1.0))
    assert tx.replace(transforms=[gradtx.scale(1.0)]) == tx
