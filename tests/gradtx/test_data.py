"""Classes as data: what is a leaf, what is static, and what an instance can do."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Annotated, Any, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array, Float, Key, PyTree

import gradtx
from gradtx import AtLeastOne, EmptyState, GradientTransformation, Params, Recipe, Scalar, Schedule, Stateless

from .table import TABLE


class Passes(Stateless):
    """A base for fields to hang on."""

    def update(
        self, updates: Params, state: EmptyState, params: Params | None = None, **extra: Any
    ) -> tuple[Params, EmptyState]:
        return updates, state


class kinds(Passes):
    """One field of each kind."""

    number: Scalar
    maybe: Scalar | None = None
    rate: gradtx.ScalarOrSchedule = 0.1
    inner: GradientTransformation | None = None
    shape: Schedule | None = None
    weights: PyTree[Float[Array, "..."]] | None = None
    flag: bool = False
    size: int = 3
    word: str = "a"
    function: Callable[..., Any] | None = None


class holders(Passes):
    """Containers, literals, ranges and keys."""

    stages: tuple[GradientTransformation, ...] = ()
    groups: dict[str, GradientTransformation] | None = None
    key: Key[Array, ""] | None = None
    raw: gradtx.Data = None
    _: KW_ONLY
    mode: Literal["fast", "slow"] = "fast"
    steps: AtLeastOne = 1
    share: Annotated[float, "static"] = 0.5


def test_leaves_are_the_fields_annotated_as_data() -> None:
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
        (float, "does not say whether"),
        (Any, "does not say whether"),
        (Scalar | str, "mixes data and static"),
        ("Unknown", "cannot be resolved: name 'Unknown' is not defined. Import the name at the top"),
    ],
)
def test_an_annotation_that_does_not_decide_is_refused(annotation: Any, problem: str) -> None:
    strange = type("strange", (Passes,), {"__annotations__": {"field": annotation}, "__module__": __name__})
    with pytest.raises(TypeError, match=f"strange: .*{problem}"):
        strange(*[1.0])


@pytest.mark.parametrize("name", ["update", "replace", "_hidden"])
def test_names_that_are_needed_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"taken: the field `{name}` needs another name"):
        type("taken", (Passes,), {"__annotations__": {name: Scalar}})


def test_containers_of_transformations() -> None:
    stages: Any = [gradtx.scale(1.0), optax.scale(2.0)]
    tx = holders(stages, {"a": gradtx.scale(3.0)})
    assert isinstance(tx.stages, tuple)
    assert jax.tree.leaves(tx) == [1.0, 3.0]
    with pytest.raises(TypeError, match=r"holders: `groups`\['a'\] must be a gradient transformation .* got 3"):
        holders(groups={"a": 3})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"mode": "medium"}, ValueError, "holders: `mode` must be 'fast' or 'slow', got 'medium'"),
        ({"steps": 0}, ValueError, "holders: `steps` must be a whole number >= 1, got 0"),
        ({"steps": True}, TypeError, r"holders: `steps` must be int, got True \(bool\)"),
        ({"steps": 1.0}, TypeError, r"holders: `steps` must be int, got 1.0 \(float\)"),
        ({"step": 1}, TypeError, "holders has no argument 'step'; it has stages, groups"),
    ],
)
def test_static_values_are_held_to_their_annotation(given: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        holders(**given)


@pytest.mark.parametrize("key", [jax.random.key(3), jax.random.PRNGKey(3)], ids=["typed", "raw"])
def test_random_keys_are_leaves_like_others(key: Any) -> None:
    tx = holders(key=key) if key.ndim == 0 else holders(raw=key)
    assert tx == jax.tree.map(jnp.copy, tx)
    assert hash(tx) == hash(jax.tree.map(jnp.copy, tx))
    assert tx != tx.replace(key=jax.random.key(4))
    assert "key" in repr(tx) or "uint32" in repr(tx)
    assert gradtx.from_config(gradtx.to_config(tx)) == tx
    assert pickle.loads(pickle.dumps(tx.replace(key=None))) == tx.replace(key=None)


def test_a_typed_key_is_one_and_several_are_a_batch() -> None:
    assert gradtx.batch_axes(holders(key=jax.random.key(0))).key is None
    assert gradtx.batch_axes(holders(key=jax.random.split(jax.random.key(0), 3))).key == 0


def test_arrays_and_containers_given_are_copied() -> None:
    rates, weights = np.array([0.1, 0.2]), {"w": np.ones(2)}
    tx, learned = gradtx.sgd(rates), kinds(1.0, weights=weights)
    rates[0] = -1.0
    weights["w"][0] = 5.0
    weights["more"] = np.ones(1)
    assert tx == gradtx.sgd(np.array([0.1, 0.2]))
    assert learned == kinds(1.0, weights={"w": np.ones(2)})


def test_replace() -> None:
    tx = gradtx.adam(1e-3)
    assert tx.replace(learning_rate=3e-4) == gradtx.adam(3e-4)
    assert jax.tree.structure(tx.replace(b1=0.5)) == jax.tree.structure(tx)
    with pytest.raises(TypeError, match="adam has no argument 'lr'; it has learning_rate, b1"):
        tx.replace(lr=1.0)
    with pytest.raises(ValueError, match="adam: `b2` must be in"):
        tx.replace(b2=1.0)


def test_replace_deep_inside() -> None:
    rate = gradtx.linear_schedule(1.0, 0.0, 10)
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.named_chain(("adam", gradtx.adam(rate)), ("sgd", gradtx.sgd(0.1))))
    assert tx[0] == gradtx.clip(1.0)
    assert tx[1].adam.learning_rate == rate  # pyright: ignore[reportAttributeAccessIssue]
    changed = tx.replace({"0.max_delta": 2.0, "adam.learning_rate.init_value": 3.0}, b2=0.5)
    new = gradtx.adam(gradtx.linear_schedule(3.0, 0.0, 10), b2=0.5)
    assert changed == gradtx.chain(gradtx.clip(2.0), gradtx.named_chain(("adam", new), ("sgd", gradtx.sgd(0.1))))
    assert tx.replace({"1.sgd": gradtx.sgd(0.5)})[1].sgd == gradtx.sgd(0.5)  # pyright: ignore
    with pytest.raises(
        TypeError, match=r"`learning_rate` names several places: 1\.adam\.learning_rate, 1\.sgd\.learning_rate"
    ):
        tx.replace(learning_rate=1.0)
    with pytest.raises(ValueError, match="clip: `max_delta` must be"):
        tx.replace(max_delta=-1.0)
    weights = kinds(1.0, weights={"layer": {"w": 2.0}})
    assert weights.replace({"layer.w": 3.0}).weights == {"layer": {"w": 3.0}}


def test_numbers_by_path_are_what_replace_takes() -> None:
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.sgd(gradtx.linear_schedule(1.0, 0.0, 10), momentum=0.9))
    numbers = gradtx.hyperparams(tx)
    assert numbers == {
        "0.max_delta": 1.0,
        "1.learning_rate.init_value": 1.0,
        "1.learning_rate.end_value": 0.0,
        "1.learning_rate.transition_steps": 10.0,
        "1.learning_rate.transition_begin": 0.0,
        "1.momentum": 0.9,
    }
    assert list(numbers.values()) == jax.tree.leaves(tx)
    assert tx.replace(numbers) == tx


def test_attributes_read_fields_and_nothing_can_be_set() -> None:
    tx = gradtx.adam(1e-3, nesterov=True)
    assert (tx.learning_rate, tx.nesterov) == (1e-3, True)
    assert "eps_root" in dir(tx)
    with pytest.raises(AttributeError, match="'adam' object has no attribute 'rate'"):
        _ = tx.rate  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError, match=r"adam is immutable; use .replace\(b1="):
        tx.b1 = 0.5  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError, match="immutable"):
        del tx.b1  # pyright: ignore[reportAttributeAccessIssue]


def twice(count: Any) -> float:
    """A plain function as a schedule."""
    return 2.0


@pytest.mark.parametrize(
    ("tx", "shown"),
    [
        (gradtx.adam(1e-3), "adam(learning_rate=0.001, b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0)"),
        (gradtx.sgd(0.1, nesterov=True), "sgd(learning_rate=0.1, momentum=None, nesterov=True)"),
        (gradtx.chain(gradtx.clip(1), gradtx.scale(2)), "chain(clip(max_delta=1.0), scale(step_size=2.0))"),
        (gradtx.named_chain(("a", gradtx.scale(2))), "named_chain(('a', scale(step_size=2.0)))"),
        (gradtx.scale(jnp.array([1e-3, 0.5])), "scale(step_size=[0.001, 0.5  ]:float32)"),
        (gradtx.sgd(twice), "sgd(learning_rate=twice, momentum=None)"),
        (kinds(1.0, weights={"a": np.ones((2, 3)), "b": np.ones(2)}).replace(rate=0.0), None),
    ],
)
def test_repr(tx: Any, shown: str | None) -> None:
    if shown is None:
        assert "weights=<8 numbers in 2 arrays>" in repr(tx)
    else:
        assert repr(tx) == shown
    if isinstance(tx, gradtx.named_chain):
        assert repr(holders(groups={"a": tx[0]})).endswith("groups={'a': scale(step_size=2.0)}, key=None, raw=None)")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # treescope's, with the newest NumPy
def test_notebooks_show_a_tree() -> None:
    treescope = pytest.importorskip("treescope")
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.adam(gradtx.linear_schedule(1e-3, 0.0, 10)))
    text = treescope.render_to_text(tx)
    assert all(part in text for part in ("chain", "clip", "max_delta", "linear_schedule", "transition_steps"))
    assert treescope.render_to_html(tx)


def test_repr_and_eq_of_tracers() -> None:
    def look(tx: Any) -> Any:
        assert "learning_rate=" in repr(tx)
        assert tx == tx
        assert tx != gradtx.adam(1e-3)
        with pytest.raises(TypeError, match="is a tracer"):
            hash(tx)
        return tx.learning_rate

    jax.jit(look)(gradtx.adam(1e-3))


def test_equality_tells_kinds_apart() -> None:
    assert len({gradtx.scale(value) for value in (1.0, jnp.float32(1), jnp.bfloat16(1))}) == 3
    assert gradtx.scale(np.ones((), np.float32)) == gradtx.scale(jnp.float32(1))
    assert gradtx.scale(jnp.array([1.0, 2.0])) == gradtx.scale(jnp.array([1.0, 2.0]))
    assert gradtx.scale(1.0) != gradtx.scale_by_learning_rate(1.0)
    assert gradtx.scale(1.0) != "scale"
    assert kinds(1.0, size=1) != kinds(1.0, size=2)
    assert kinds(1.0, size=1) != kinds(1.0, size=True + 1)


def test_masks_of_arrays_and_dicts_hash_and_are_kept() -> None:
    mask = {"w": True, "b": [np.array(False)]}
    first, second = (gradtx.add_decayed_weights(0.1, mask=mask) for _ in range(2))
    mask["w"] = False
    assert first == second
    assert hash(first) == hash(second)
    kept: Any = first.mask
    assert kept["w"] is True
    assert gradtx.add_decayed_weights(0.1, mask=mask) != first


def test_equal_ones_do_not_trace_twice_as_static_arguments() -> None:
    @functools.partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(1)
    def init(tx: Any, params: Any) -> Any:
        return tx.init(params)

    for _ in range(2):
        init(gradtx.adamw(1e-3, mask={"w": True, "b": False}), {"w": jnp.ones(2), "b": jnp.ones(2)})


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_transformation_is_a_value(row: Any) -> None:
    """Equal and hashed by value, copied and pickled where it holds no function, and its trees have named keys."""
    tx = row.make()
    leaves, structure = jax.tree.flatten(tx)
    twin = structure.unflatten(leaves)
    assert twin == tx
    assert hash(twin) == hash(tx)
    assert copy.deepcopy(tx) == tx
    if not row.holds_a_function:
        assert pickle.loads(pickle.dumps(tx)) == tx
    if leaves:
        assert structure.unflatten([leaves[0] + 1, *leaves[1:]]) != tx
    assert tx.replace(gradtx.hyperparams(tx)) == tx


def test_pickle_keeps_arrays() -> None:
    tx = gradtx.adam(jnp.array([1e-3, 1e-2]), b1=jnp.float32(0.5))
    assert pickle.loads(pickle.dumps(tx)) == tx


def test_unflattening_validates_nothing() -> None:
    tx = gradtx.adam(1e-3)
    axes = jax.tree.map(lambda _: None, tx)
    assert jax.tree.leaves(axes) == []
    assert jax.tree.map(lambda _: "anything", tx).b1 == "anything"
    assert jax.eval_shape(lambda tx: tx, tx).learning_rate.shape == ()


def test_an_update_does_not_read_arrays_back() -> None:
    tx, params = gradtx.adam(jnp.float32(1e-3)), {"w": jnp.ones(3)}
    state = tx.init(params)
    with jax.transfer_guard_device_to_host("disallow"):
        tx.update(params, state, params)


class paired(Passes):
    """A check across fields, one of which may be traced."""

    low: Scalar
    high: Scalar
    size: int = 1

    def __check_init__(self) -> None:
        if self.size > 3:
            raise ValueError("paired: `size` is large")
        if np.any(np.asarray(self.low) > np.asarray(self.high)):
            raise ValueError("paired: `low` is above `high`")


def test_a_check_across_fields_lets_tracers_pass() -> None:
    with pytest.raises(ValueError, match="above"):
        paired(2.0, 1.0)
    with pytest.raises(ValueError, match="above"):
        paired(0.0, 1.0).replace(low=2.0)
    assert jax.jit(lambda low: paired(low, 1.0).low)(2.0) == 2.0
    with pytest.raises(ValueError, match="large"):
        jax.jit(lambda low: paired(low, 1.0, 4).low)(2.0)


class clipped(Recipe):
    """A recipe whose parts check more than its own annotation."""

    rate: Scalar

    def parts(self) -> gradtx.chain:
        return gradtx.chain(gradtx.clip(1.0), gradtx.sgd(self.rate))


def test_a_recipe_is_validated_by_its_parts() -> None:
    assert clipped(0.1).rate == 0.1
    with pytest.raises(ValueError, match=r"sgd: `learning_rate` must be a finite number >= 0, got -0\.1"):
        clipped(-0.1)


def test_lists_and_tuples_are_one_form() -> None:
    pieces = [gradtx.constant_schedule(1.0), gradtx.constant_schedule(2.0)]
    assert gradtx.join_schedules(pieces, [3]) == gradtx.join_schedules(tuple(pieces), (3,))
    tx = gradtx.chain(gradtx.scale(1.0))
    assert tx.replace(transforms=[gradtx.scale(1.0)]) == tx


def test_fields_are_inherited() -> None:
    class wider(kinds):
        more: Scalar = 2.0

    tx = wider(1.0, more=3.0)
    assert jax.tree.leaves(tx) == [1.0, 0.1, 3.0]
    assert tx.init({}) == EmptyState()
