"""Each law catches the transformation that was made to break it. What obeys them all is in `test_table.py`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

import gradtx
from gradtx import EmptyState, Scalar
from gradtx.testing import LAWS, Case, LawBroken, check_transformation, law
from gradtx.testing.case import registry

from .right import NoiseState, noise


def zeros(params: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, params)


def from_update(update: Any, init: Any = lambda params: EmptyState()) -> Any:
    made_init, made_update = init, update

    class broken(gradtx.GradientTransformation):
        rate: Scalar = 0.5

        def init(self, params: Any) -> Any:
            return made_init(params)

        def update(self, updates: Any, state: Any, params: Any = None) -> Any:
            return made_update(self.rate, updates, state, params)

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
    assert str(caught.value).startswith(f"law {LAWS.index(law) + 1} ({law}): ")
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


class reusing(noise):
    """Draws the same each time, and its key depends on the program: the state is impure."""

    def update(self, updates: Any, state: NoiseState, params: Any = None) -> Any:
        key = jax.random.fold_in(state.key, int(isinstance(jax.tree.leaves(updates)[0], Tracer)))
        return updates, NoiseState(key)


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_keys_are_compared_by_their_bits(make):
    with pytest.raises(LawBroken, match=r"law 1 \(pure\): jit\(update\).*\.key differs"):
        check_transformation(reusing(make(0)), laws=["pure"])


@pytest.mark.slow
def test_a_trust_ratio_in_a_chain_is_pure():
    parts = (gradtx.scale_by_adam(), gradtx.scale_by_trust_ratio(), gradtx.scale_by_learning_rate(0.1))
    check_transformation(gradtx.chain(*parts), laws=["pure", "sign"])


class towards_start(gradtx.GradientTransformation):
    """The gradient, and a pull back to where the parameters began."""

    strength: Scalar = 100.0

    def init(self, params: Any) -> Any:
        return jax.tree.map(lambda p: p.astype(jnp.float32), params)

    def update(self, updates: Any, state: Any, params: Any) -> Any:
        return jax.tree.map(lambda u, p, s: u + self.strength * (p - s), updates, params, state), state


def test_the_sign_is_looked_at_with_the_params_that_the_state_is_of():
    check_transformation(towards_start(), laws=["sign"])


def test_a_learning_rate_is_found_by_the_end_of_its_path():
    twice = gradtx.chain(gradtx.sgd(0.1), gradtx.scale(1.0), gradtx.scale_by_learning_rate(0.1, flip_sign=False))
    assert {"0.learning_rate", "2.learning_rate"} <= set(gradtx.current(twice, twice.init(jnp.zeros(3))))
    check_transformation(twice, laws=["sign"])


@pytest.mark.slow
def test_float64_is_compared_to_its_own_roundings():
    class imprecise(gradtx.Stateless):
        rate: Scalar = 0.5

        def update(self, updates: Any, state: EmptyState, params: Any = None) -> Any:
            under_jit = isinstance(jax.tree.leaves(updates)[0], Tracer)
            return jax.tree.map(lambda g: g * (1 + 1e-9 * under_jit), updates), state

    check_transformation(imprecise(), laws=["pure"])
    check_transformation(gradtx.adam(0.1), laws=["pure"], dtype=np.float64)
    with pytest.raises(LawBroken, match="differs by"):
        check_transformation(imprecise(), laws=["pure"], dtype=np.float64)


def _root(updates: Any, rate: Any) -> Any:
    return updates + jnp.sqrt(rate * jnp.abs(updates))


class rooted(gradtx.Stateless):
    """Its derivative with respect to the rate is 0 * infinity where the gradient is 0."""

    rate: Scalar = 0.5

    def update(self, updates: Any, state: EmptyState, params: Any = None) -> Any:
        return gradtx.map_leaves(_root, {"updates": updates}, rate=self.rate), state


def test_a_hypergradient_that_is_not_finite_is_named():
    with pytest.raises(LawBroken, match=r"coordinate whose gradient is always zero: not finite at \.rate"):
        check_transformation(rooted(), laws=["precision"])


def test_a_law_of_somebody_s_own():
    @law("bounded")
    def bounded(case: Case) -> None:
        updates, _, _ = case.run(case.tx)
        if max(float(jnp.max(jnp.abs(leaf), initial=0.0)) for leaf in jax.tree.leaves(updates)) > 1:
            raise LawBroken("an update exceeds 1")

    try:
        check_transformation(gradtx.scale(0.1), laws=["same_updates", "bounded"])
        with pytest.raises(LawBroken, match=r"law 12 \(bounded\): an update exceeds 1") as caught:
            check_transformation(gradtx.scale(10.0), laws=["bounded"])
        assert caught.value.law == "bounded"
        assert "bounded" not in LAWS
        with pytest.raises(ValueError, match="there is a law 'pure' already"):
            law("pure")(bounded)
    finally:
        del registry["bounded"]


class narrow_step(gradtx.average):
    """An average whose steps are rounded to float32 on their way out."""

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        updates, state = super().update(updates, state, params, **extra)
        return jax.tree.map(lambda u: u.astype(jnp.float32).astype(u.dtype), updates), state


def test_the_digits_of_a_step_between_points_are_looked_at():
    wide = {"w": np.linspace(-1.5, 2.0, 8, dtype=np.float32)}
    with pytest.raises(LawBroken, match=r"the update for float64 at .* fewer digits"):
        check_transformation(narrow_step(gradtx.sgd(0.05)), wide, laws=["precision"], refuses=["complex"])
