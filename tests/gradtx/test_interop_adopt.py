"""A state moves into wrappers, groups and longer chains, and back, and training goes on as it would have."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import GradientTransformation
from gradtx.interop import adopt

PARAMS = {"kernel": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), "bias": np.ones(3, np.float32)}


class CountsState(NamedTuple):
    calls: jax.Array
    inner_state: Any


class counts(GradientTransformation):
    """A wrapper that counts its updates."""

    inner: GradientTransformation

    def init(self, params: Any) -> CountsState:
        return CountsState(jnp.zeros([], jnp.int32), self.inner.init(params))

    def update(self, updates: Any, state: CountsState, params: Any = None, **extra: Any) -> Any:
        updates, inner_state = self.inner.update(updates, state.inner_state, params, **extra)
        return updates, CountsState(gradtx.safe_increment(state.calls), inner_state)


class SumsState(NamedTuple):
    total: Any
    inner_state: Any


class sums(GradientTransformation):
    """A wrapper that keeps a tree like the parameters."""

    inner: GradientTransformation

    def init(self, params: Any) -> SumsState:
        return SumsState(gradtx.zeros_like(params), self.inner.init(params))

    def update(self, updates: Any, state: SumsState, params: Any = None, **extra: Any) -> Any:
        total = jax.tree.map(jnp.add, state.total, updates)
        updates, inner_state = self.inner.update(updates, state.inner_state, params, **extra)
        return updates, SumsState(total, inner_state)


class GroupsState(NamedTuple):
    inner_states: dict[str, Any]


class groups(GradientTransformation):
    """Each key of the parameters for itself."""

    transforms: dict[str, GradientTransformation]

    def init(self, params: Any) -> GroupsState:
        return GroupsState({key: tx.init(_alone(params, key)) for key, tx in self.transforms.items()})

    def update(self, updates: Any, state: GroupsState, params: Any = None, **extra: Any) -> Any:
        new, states = {}, {}
        for key, tx in self.transforms.items():
            inner = state.inner_states[key]
            moved, states[key] = tx.update(_alone(updates, key), inner, _alone(params, key), **extra)
            new[key] = moved[key]
        return new, GroupsState(states)


def _alone(tree: Any, key: str) -> Any:
    return {name: leaf if name == key else None for name, leaf in tree.items()}


def trained(tx: Any, params: Any = None, state: Any = None, steps: int = 3) -> tuple[Any, Any]:
    """Parameters and state after some steps."""
    params = jax.tree.map(jnp.asarray, PARAMS) if params is None else params
    state = tx.init(params) if state is None else state
    for _ in range(steps):
        grads = jax.tree.map(lambda p: jnp.sin(3 * p) + 0.5, params)
        updates, state = tx.update(grads, state, params, value=jnp.float32(1.0))
        params = gradtx.apply_updates(params, updates)
    return params, state


def adam(rate: float = 0.1) -> Any:
    return gradtx.adam(gradtx.linear_schedule(rate, 0.01, 10))


MOVES = {
    "a wrapper": lambda: counts(adam()),
    "two wrappers": lambda: sums(counts(adam())),
    "a wrapper in a chain": lambda: gradtx.chain(gradtx.identity(), counts(adam())),
    "groups": lambda: groups({"kernel": adam(), "bias": adam()}),
    "a group in a wrapper": lambda: counts(groups({"kernel": counts(adam()), "bias": counts(adam())})),
    "clipping that changes nothing": lambda: gradtx.chain(gradtx.clip(1e6), adam()),
    "names": lambda: gradtx.named_chain(("clip", gradtx.clip(1e6)), ("adam", adam())),
    "zero": lambda: gradtx.zero(adam()),
    "a guard and an accumulation": lambda: gradtx.guard(gradtx.accumulate(adam(), 1)),
    "an average": lambda: gradtx.average(adam(), 0.9),
    "telemetry": lambda: gradtx.observe(adam()),
    "groups by rules": lambda: gradtx.guard(gradtx.partition({"kernel": adam(), "*": adam()})),
    "leaves too small to be quantized": lambda: gradtx.quantize_state(adam()),
}


@pytest.mark.parametrize("name", MOVES)
def test_there_and_back_again(name: str) -> None:
    """Three steps without the wrapper, three with it, three without: as nine without."""
    plain, wrapped = adam(), MOVES[name]()
    expected, last = trained(plain, steps=9)
    params, state = trained(plain)
    inside = adopt(wrapped, state, params)
    assert jax.tree.structure(inside) == jax.tree.structure(wrapped.init(params))
    params, inside = trained(wrapped, params, inside)
    outside = adopt(plain, inside, params)
    params, outside = trained(plain, params, outside)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    jax.tree.map(np.testing.assert_array_equal, outside, last)


def test_what_is_new_begins_anew() -> None:
    params, state = trained(adam())
    inside = adopt(sums(counts(adam())), state, params)
    assert inside.inner_state.calls == 0
    np.testing.assert_array_equal(inside.total["bias"], np.zeros(3))
    assert inside.inner_state.inner_state[0].count == 3


def test_two_of_one_class_keep_their_order() -> None:
    two = gradtx.chain(gradtx.ema(0.5), gradtx.ema(0.9), gradtx.scale(-0.1))
    params, state = trained(two)
    inside = adopt(counts(two), state, params)
    jax.tree.map(np.testing.assert_array_equal, inside.inner_state, state)
    assert not np.array_equal(state[0].ema["bias"], state[1].ema["bias"])


def test_counts_of_groups_are_arrays_of_their_own() -> None:
    """The state can be donated."""
    params, state = trained(adam())
    inside = adopt(groups({"kernel": adam(), "bias": adam()}), state, params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(inside)]
    assert len(set(pointers)) == len(pointers)


def test_dtypes_are_those_of_the_new_one() -> None:
    params, state = trained(adam())
    inside = adopt(counts(gradtx.adam(0.1, mu_dtype="bfloat16")), state, params)
    assert inside.inner_state[0].mu["bias"].dtype == jnp.bfloat16
    np.testing.assert_allclose(inside.inner_state[0].mu["bias"].astype(np.float32), state[0].mu["bias"], rtol=4e-3)


CODECS = {
    "int8": (lambda: gradtx.quantize_state(adam(), block_size=3, min_size=1), 0.02),
    "float8": (lambda: gradtx.quantize_state(adam(), "float8_e4m3fn", block_size=2, min_size=1), 0.1),
    "bfloat16 and a byte": (lambda: gradtx.quantize_state(adam(), "bfloat16", min_size=1), 2**-15),
    "bfloat16": (lambda: gradtx.state_dtype(adam(), "bfloat16"), 2**-8),
}


@pytest.mark.parametrize("name", CODECS)
def test_leaves_are_encoded_and_decoded(name: str) -> None:
    """To within the codec's rounding of a block's largest entry."""
    make, rtol = CODECS[name]
    params, state = trained(adam())
    inside = adopt(make(), state, params)
    expected, got = (jax.tree.leaves_with_path(tree) for tree in (make().init(params), inside))
    assert [(path, leaf.shape, leaf.dtype) for path, leaf in expected] == [(p, x.shape, x.dtype) for p, x in got]
    back = adopt(adam(), inside, params)
    for was, now in zip(jax.tree.leaves(state), jax.tree.leaves(back), strict=True):
        np.testing.assert_allclose(now, was, rtol=0, atol=rtol * float(jnp.max(jnp.abs(was))))
    again = adopt(make(), back, params)
    jax.tree.map(np.testing.assert_array_equal, again, inside)


def test_the_state_of_optax_is_told_by_the_same_classes(standard_promotion: None) -> None:
    theirs = gradtx.chain(optax.scale_by_adam(), gradtx.scale(-0.1))
    ours = gradtx.chain(gradtx.scale_by_adam(), gradtx.scale(-0.1))
    params, state = trained(theirs)
    expected, _ = trained(theirs, params, state)
    found, _ = trained(counts(ours), params, adopt(counts(ours), state, params))
    # optax rounds its bias corrections otherwise: 6e-6 of each step of 0.1.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-6), found, expected)


def test_a_restored_checkpoint(tmp_path: Any) -> None:
    import orbax.checkpoint as ocp

    params, state = trained(adam())
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "state", jax.eval_shape(adam().init, params))
        bare = checkpointer.restore(tmp_path / "state")
    inside = adopt(counts(adam()), restored, params)
    jax.tree.map(np.testing.assert_array_equal, inside.inner_state, state)
    with pytest.raises(TypeError, match="has no classes to tell its parts by"):
        adopt(counts(adam()), bare, params)


def test_parts_that_are_left_out_by_name() -> None:
    params, state = trained(gradtx.chain(gradtx.trace(0.9), adam()))
    inside = adopt(counts(adam()), state, params, drop=["TraceState"])
    jax.tree.map(np.testing.assert_array_equal, inside.inner_state, state[1])


def of(tx: Any) -> Any:
    return trained(tx)[1]


def uneven() -> Any:
    """Groups of which one has seen more steps."""
    state = of(groups({"kernel": adam(), "bias": adam()}))
    first = state.inner_states["bias"]
    first = (first[0]._replace(count=first[0].count + 1), first[1])
    return GroupsState({**state.inner_states, "bias": first})


REFUSED = {
    "no place": (
        lambda: adopt(gradtx.sgd(0.1), of(adam()), PARAMS),
        ValueError,
        "sgd has no ScaleByAdamState, which the old state has at `0`.*drop",
    ),
    "two places": (
        lambda: adopt(gradtx.chain(gradtx.ema(0.5), gradtx.ema(0.9)), of(gradtx.ema(0.5)), PARAMS),
        ValueError,
        "`ema.bias` of the EmaState could be that of `0`, `1`",
    ),
    "two sources": (
        lambda: adopt(gradtx.ema(0.5), of(gradtx.chain(gradtx.ema(0.5), gradtx.ema(0.9))), PARAMS),
        ValueError,
        r"2 EmaStates have `ema.bias`, and differ: float32\[3\], float32\[3\]",
    ),
    "a name in place of names": (
        lambda: adopt(gradtx.sgd(0.1), of(adam()), PARAMS, drop="ScaleByAdamState"),
        TypeError,
        r"write drop=\['ScaleByAdamState'\]",
    ),
    "a parameter more": (
        lambda: adopt(adam(), of(adam()), PARAMS | {"new": np.ones(2, np.float32)}),
        ValueError,
        "the old ScaleByAdamState has nothing for `0.mu.new`, `0.nu.new`",
    ),
    "a parameter less": (
        lambda: adopt(adam(), of(adam()), {"bias": PARAMS["bias"]}),
        ValueError,
        "there is no place in a ScaleByAdamState for `0.mu.kernel`, `0.nu.kernel`",
    ),
    "another shape": (
        lambda: adopt(adam(), of(adam()), PARAMS | {"bias": np.ones(4, np.float32)}),
        ValueError,
        r"adopt: `0.mu.bias` has shape \(3,\), expected \(4,\)",
    ),
    "groups with counts that differ": (
        lambda: adopt(adam(), uneven(), PARAMS),
        ValueError,
        "2 ScaleByAdamStates have `count`, and differ: 4, 3",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_list_what_has_no_place(case: str) -> None:
    call, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        call()
