"""Everything obeys the laws; and each law catches the transformation that was made to break it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

import gradtx
from gradtx import EmptyState, Scalar, Transform, transformation
from gradtx.testing import LAWS, LawBroken, check_transformation

from .everything import EVERYTHING

slow = {"precision", "sharding", "pure"}
# A name with arguments is a variant of one that stands alone.
names = [pytest.param(name, marks=pytest.mark.slow if "(" in name else []) for name in EVERYTHING]


@pytest.mark.parametrize("name", names)
def test_everything_obeys(name: str) -> None:
    entry = EVERYTHING[name]
    check_transformation(
        entry.tx,
        extra=entry.extra,
        refuses=entry.refuses,
        sign=entry.sign,
        laws=[law for law in LAWS if law not in slow],
    )


@pytest.mark.slow
@pytest.mark.parametrize("law", sorted(slow))
@pytest.mark.parametrize("name", EVERYTHING)
def test_everything_obeys_the_costly_laws(name: str, law: str) -> None:
    entry = EVERYTHING[name]
    check_transformation(entry.tx, extra=entry.extra, refuses=entry.refuses, laws=[law])


def zeros(params: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, params)


def from_update(update: Any, init: Any = lambda params: EmptyState()) -> Any:
    @transformation
    def broken(rate: Scalar = 0.5) -> Transform:
        return Transform(init, lambda updates, state, params=None: update(rate, updates, state, params))

    return broken()


def counting(calls: list[int]) -> Any:
    def update(rate: Any, updates: Any, state: Any, params: Any) -> Any:
        calls.append(1)
        return jax.tree.map(lambda g: g * len(calls), updates), state

    return update


def concrete_init(params: Any) -> Any:
    return jax.tree.map(lambda p: jnp.asarray(np.zeros_like(np.asarray(p))), params)


def allocating_init(params: Any) -> Any:
    return jax.tree.map(lambda p: jnp.asarray(np.zeros(p.shape, np.float32)), params)


def sum_into_state(rate: Any, updates: Any, state: Any, params: Any) -> Any:
    return updates, jax.tree.map(lambda g, s: s + g.astype(s.dtype), updates, state)


def drifting(rate: Any, updates: Any, state: Any, params: Any) -> Any:
    return updates, jax.tree.map(lambda g, s: (s + g).astype(jnp.bfloat16), updates, state)


def weak_count(rate: Any, updates: Any, state: Any, params: Any) -> Any:
    return updates, state * 0 + 1 if state.weak_type else jnp.asarray(1.0)


def broadcasting(rate: Any, updates: Any, state: Any, params: Any) -> Any:
    def add(g: Any, s: Any) -> Any:
        shape = np.broadcast_shapes(g.shape, s.shape)
        return (jnp.broadcast_to(g, shape).astype(s.dtype) + jnp.broadcast_to(s, shape)).astype(g.dtype)

    return jax.tree.map(add, updates, state), state


def half_state(params: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, params)


def half_arithmetic(rate: Any, updates: Any, state: Any, params: Any) -> Any:
    def many_roundings(g: Any) -> Any:
        for _ in range(12):
            g = g * jnp.asarray(1.1, g.dtype) / jnp.asarray(1.1, g.dtype)
        return g

    return jax.tree.map(many_roundings, updates), state


def dividing(rate: Any, updates: Any, state: Any, params: Any) -> Any:
    return jax.tree.map(lambda g: g / jnp.abs(g), updates), state


def root_of_rate(rate: Any, updates: Any, state: Any, params: Any) -> Any:
    factor = jnp.asarray(rate, jnp.float32)
    return jax.tree.map(
        lambda g: (jnp.sqrt(factor * jnp.abs(g.astype(jnp.float32)))).astype(g.dtype) + g, updates
    ), state


def replicated_init(params: Any) -> Any:
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.tree.map(
        lambda p: (
            jnp.zeros_like(p, jnp.float32)
            if isinstance(p, Tracer)
            else jax.device_put(np.zeros(p.shape, np.float32), everywhere)
        ),
        params,
    )


def asking(rate: Any, updates: Any, state: Any, params: Any) -> Any:
    return (updates, state) if rate > 0 else (zeros(updates), state)


def first_leaf(params: Any) -> Any:
    return jnp.zeros_like(jax.tree.leaves(params)[0], jnp.float32)


def flipped(rate: Any, updates: Any, state: Any, params: Any) -> Any:
    return jax.tree.map(lambda g: -g, updates), state


BROKEN = {
    "impure: counts its calls": ("pure", from_update(counting([]))),
    "init asks for values": ("abstract_init", from_update(sum_into_state, concrete_init)),
    "init allocates": ("abstract_init", from_update(sum_into_state, allocating_init)),
    "state drifts to bfloat16": ("stable_state", from_update(drifting, zeros)),
    "state becomes weakly typed": (
        "stable_state",
        from_update(weak_count, lambda params: jnp.asarray(0.0, jnp.float32)),
    ),
    "state is a Python number": (
        "stable_state",
        from_update(lambda rate, updates, state, params: (updates, state + 1), lambda params: 0),
    ),
    "updates come back in float32": (
        "same_updates",
        from_update(lambda rate, u, state, params: (jax.tree.map(lambda g: g.astype(jnp.float32), u), state)),
    ),
    "updates come back as a list": (
        "same_updates",
        from_update(lambda rate, u, state, params: (jax.tree.leaves(u), state)),
    ),
    "asks for a value in Python": ("one_trace", from_update(asking)),
    "needs a leaf": ("any_tree", from_update(lambda rate, u, state, params: (u, state), first_leaf)),
    "broadcasts silently": ("nothing_broadcast", from_update(broadcasting, zeros)),
    "accumulates in half precision": ("precision", from_update(sum_into_state, half_state)),
    "computes in half precision": ("precision", from_update(half_arithmetic)),
    "NaN from a zero gradient": ("precision", from_update(dividing)),
    "NaN hypergradient": ("precision", from_update(root_of_rate)),
    "replicates its state": ("sharding", from_update(sum_into_state, replicated_init)),
    "flips the sign": ("sign", from_update(flipped)),
    "ascends with a learning rate": ("sign", gradtx.chain(gradtx.scale_by_learning_rate(0.1), gradtx.scale(-1.0))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_transformation_is_caught(name: str) -> None:
    law, tx = BROKEN[name]
    with pytest.raises(LawBroken) as caught:
        check_transformation(tx, laws=[law])
    assert caught.value.law == law
    assert law in str(caught.value).partition(": ")[0]
    print(caught.value)


def test_retracing_is_caught() -> None:
    class Changing:
        """Equal to nothing, so that a state which holds it as static data is new each time."""

    @jax.tree_util.register_pytree_node_class
    class Tagged:
        def __init__(self, value: Any, tag: object):
            self.value, self.tag = value, tag

        def tree_flatten(self) -> Any:
            return (self.value,), self.tag

        @classmethod
        def tree_unflatten(cls, tag: object, children: Any) -> Any:
            return cls(children[0], tag)

    tx = from_update(
        lambda rate, u, state, params: (u, Tagged(state.value, Changing())),
        lambda params: Tagged(jnp.zeros([]), Changing()),
    )
    with pytest.raises(LawBroken, match="traces for 3 sets of hyperparameters"):
        check_transformation(tx, laws=["one_trace"])


def test_check_refuses_what_is_no_transformation() -> None:
    with pytest.raises(TypeError, match="expected a transformation"):
        check_transformation(3)
    with pytest.raises(ValueError, match="unknown law 'purity'; there are pure"):
        check_transformation(gradtx.identity(), laws=["purity"])


def test_refusal_that_does_not_happen_is_caught() -> None:
    with pytest.raises(LawBroken, match="complex64 should be refused"):
        check_transformation(gradtx.scale(2.0), laws=["precision"], refuses=["complex"])
