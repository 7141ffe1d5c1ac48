"""What trees an update takes, and what it refuses."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._types import Params, PyTree
from .case import Case, law, names_path, works
from .compare import LawBroken, as_numbers, expect_same_kind, is_float
from .hyperparameters import unused
from .samples import ramp, ramps, trees


@law("any_tree")
def any_tree(case: Case) -> None:
    """`None` leaves pass through; empty trees, scalars and arrays of size 0 work, and containers stay what they are.

    A `None` gradient for a parameter that is there leaves it and its state alone.
    """
    for name, params in trees(case.params if case.given else None).items():
        with case.may_refuse(f"an update of {name}", names_path(params)):
            updates, new, state = case.kinds(params, case.gradients(0, params))
            expect_same_kind(f"the update of {name}", updates, params)
            expect_same_kind(f"the state for {name}", new, state)
    params = case.params if case.given else {"left": ramp((3, 5), np.float32), "right": ramp((7, 2), np.float32, 0.5)}
    if len(jax.tree.leaves(params)) < 2:
        case.note("None gradients were not tried: there is one parameter")
        return
    with case.may_refuse("an update with None as a gradient", names_path(params)):
        _without_gradient(case, params)


def _without_gradient(case: Case, params: Params) -> None:
    """One parameter has no gradient; what the state has of it is not zero."""
    leaves, structure = jax.tree.flatten(params)
    shapes = list(map(np.shape, leaves))
    # By its shape a leaf of the state tells whose it is.
    own = [i for i, shape in enumerate(shapes) if shape and shapes.count(shape) == 1]
    place = own[0] if own else 0
    shape = shapes[place] if own else None
    state = jax.tree.map(
        lambda s: ramp(s.shape, s.dtype, 0.4) if s.shape == shape and is_float(s) else s, case.tx.init(params)
    )
    grads = jax.tree.leaves(ramps(params, 1))
    grads = structure.unflatten([*grads[:place], None, *grads[place + 1 :]])
    updates, new = case.jitted_update(case.tx, grads, state, params)
    expect_same_kind("the updates with None as a gradient", updates, grads)
    expect_same_kind("the state after None as a gradient", new, state)
    if not own:
        case.note("that a None gradient leaves the state alone was not tried: no parameter has a shape of its own")
    for (path, after), before in zip(jax.tree.leaves_with_path(new), jax.tree.leaves(state), strict=True):
        if before.shape == shape and not np.array_equal(as_numbers(after), as_numbers(before), equal_nan=True):
            raise LawBroken(
                f"the state at {jax.tree_util.keystr(path)} changes though its parameter has None as a gradient, which "
                "means that it is left alone; gradtx.map_leaves does so"
            )


@law("nothing_broadcast")
def nothing_broadcast(case: Case) -> None:
    """A wrong structure or shape is an error that names the path, or passes unchanged; nothing is broadcast."""
    params, wrong = _given(case) if case.given else _samples()
    for name, (path, grads) in wrong.items():
        try:
            updates, new, state = case.kinds(params, grads)
        except (ValueError, TypeError) as error:
            if path not in str(error):
                raise LawBroken(f"updates with {name}: the error does not name the path {path}: {error}") from error
            continue
        except Exception as error:
            raise LawBroken(
                f"updates with {name} raised {type(error).__name__}, expected ValueError: {error}"
            ) from error
        # What holds nothing to compare with has to hand on what came.
        expect_same_kind(f"the updates that came with {name}", updates, grads)
        expect_same_kind(f"the state after updates with {name}", new, state)
    with works("an update"):
        _no_batch(case)


def _samples() -> tuple[Params, dict[str, tuple[str, PyTree]]]:
    """Parameters, and gradients that do not fit them, each with the path that the error has to name."""
    params = {"left": ramp((3,), np.float32), "right": ramp((2, 3), np.float32, 0.5)}
    return params, {
        "a leaf of a shape that would broadcast": ("right", {**params, "right": ramp((1, 3), np.float32)}),
        "a leaf of another rank": ("right", {**params, "right": ramp((3,), np.float32)}),
        "a leaf more": ("surplus", {**params, "surplus": ramp((3,), np.float32)}),
        "a leaf less": ("right", {"left": params["left"]}),
    }


def _given(case: Case) -> tuple[Params, dict[str, tuple[str, PyTree]]]:
    """The same of the parameters given: the first leaf that has axes is replaced."""
    leaves, structure = jax.tree.flatten(case.params)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(case.params)]
    places = [i for i, leaf in enumerate(leaves) if np.ndim(leaf) and np.shape(leaf)[0] > 1]
    if not places:
        case.note("wrong shapes were not tried: no parameter given has an axis")
        return case.params, {}
    i, grads = places[0], jax.tree.leaves(case.gradients(0))

    def instead(leaf: PyTree) -> tuple[str, PyTree]:
        return paths[i], structure.unflatten([*grads[:i], leaf, *grads[i + 1 :]])

    return case.params, {
        "a leaf of a shape that would broadcast": instead(grads[i][:1]),
        "a leaf of another rank": instead(grads[i][0]),
        "two leaves in place of one": instead((grads[i], grads[i])),
    }


def _no_batch(case: Case) -> None:
    """Several values of a hyperparameter are for vmap; outside of it they are an error."""
    leaves, structure = jax.tree.flatten(case.tx)
    numbers = [
        i for i, leaf in enumerate(leaves) if isinstance(leaf, float) or (jnp.ndim(leaf) == 0 and _is_real(leaf))
    ]
    if not numbers:
        case.note("that a batch of hyperparameters is refused holds vacuously: none is a number among the leaves")
        return
    idle = unused(case, case.tx)
    for i in numbers:
        if idle[i]:
            continue
        batch = jnp.asarray(np.full(2, leaves[i], jnp.result_type(float)))
        tx = structure.unflatten([*leaves[:i], batch, *leaves[i + 1 :]])
        try:
            jax.eval_shape(functools.partial(case.run, steps=1), tx)
        except (ValueError, TypeError):
            continue
        path = jax.tree_util.keystr(jax.tree.leaves_with_path(case.tx)[i][0])
        raise LawBroken(
            f"two values for the hyperparameter {path} are broadcast against the parameters, expected an error: a "
            "batch is for vmap. gradtx.map_leaves and gradtx.value_at refuse it"
        )


def _is_real(leaf: ArrayLike) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
