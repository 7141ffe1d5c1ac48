"""Transformations that are wrong in one way each, and the law that says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from gradtx import Data, Decay, EmptyState, NonNegative, Scalar, ScalarOrSchedule
from gradtx.testing.samples import Pair


class Broken(NamedTuple):
    """The law, a part of its message, and what makes the transformation."""

    law: str
    message: str
    make: Callable[[], Any]


def mapped(function: Callable[..., Any], *trees: Any) -> Any:
    """In float32 for half precision, each result in the dtype of the first tree; None stays."""

    def one(g: Any, *others: Any) -> Any:
        wide = [jnp.asarray(x).astype(np.promote_types(x.dtype, np.float32)) for x in (g, *others)]
        return function(*wide).astype(g.dtype)

    return jax.tree.map(one, *trees)


def scaling(factor: Callable[..., Any]) -> Callable[[], Any]:
    """Updates times what a function of the hyperparameter, the state's count and the parameters says."""

    class broken(gradtx.GradientTransformation):
        rate: Scalar = 0.5

        def init(self, params: Any) -> Any:
            return jnp.zeros([], jnp.int32)

        def update(self, updates: Any, state: Any, params: Any = None) -> Any:
            number = factor(gradtx.value_at("rate", self.rate, state, jnp.float32), state)
            return gradtx.map_leaves(_times, {"updates": updates}, number=number), gradtx.safe_increment(state)

    return broken


def _times(updates: Any, number: Any) -> Any:
    return updates * number


def stateful(init: Callable[..., Any], update: Callable[..., Any]) -> Callable[[], Any]:
    """A transformation of functions `init(params)` and `update(updates, state)`."""

    class broken(gradtx.GradientTransformation):
        def init(self, params: Any) -> Any:
            return init(params)

        def update(self, updates: Any, state: Any, params: Any = None) -> Any:
            return update(updates, state)

    return broken


def stateless(update: Callable[..., Any]) -> Callable[[], Any]:
    return stateful(lambda params: EmptyState(), lambda updates, state: (update(updates), state))


def leafwise(function: Callable[..., Any]) -> Callable[[], Any]:
    return stateless(lambda updates: mapped(function, updates))


# pure


def counting() -> Any:
    calls: list[int] = []

    def factor(rate: Any, count: Any) -> Any:
        calls.append(1)
        return rate if len(calls) < 40 else -rate

    return scaling(factor)()


def by_the_hour(rate: Any, count: Any) -> Any:
    return rate * (1 + int(time.time()) // 3600 % 24)


def drawn(rate: Any, count: Any) -> Any:
    return rate * np.float32(np.random.uniform(0.5, 1.0))  # noqa: NPY002 - the fault


def fixed_key(rate: Any, count: Any) -> Any:
    return rate + 0.1 * jax.random.uniform(jax.random.key(0), (), jnp.float32)


class same_key(gradtx.GradientTransformation):
    """Never returns a new key."""

    key: Data

    def init(self, params: Any) -> Any:
        return {"key": self.key, "count": jnp.zeros([], jnp.int32)}

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        number = 1 + jax.random.uniform(state["key"], (), jnp.float32)
        new = {"key": state["key"], "count": gradtx.safe_increment(state["count"])}
        return gradtx.map_leaves(_times, {"updates": updates}, number=number), new


class looking(gradtx.Stateless):
    """Asks for a value, and goes another way where it cannot."""

    decay: Decay = 0.9

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        try:
            high = float(self.decay) > 0.95
        except jax.errors.ConcretizationTypeError:
            high = False
        number = self.decay * (2.0 if high else 1.0)
        return gradtx.map_leaves(_times, {"updates": updates}, number=number), state


def telling(rate: Any, count: Any) -> Any:
    jax.debug.callback(lambda rate: None, rate)
    return rate


def in_place(updates: Any, state: Any) -> Any:
    if isinstance(updates, dict) and "w" in updates:
        updates["w"] = 2 * updates["w"]
    return updates, state


def state_in_place(updates: Any, state: Any) -> Any:
    state["count"] = gradtx.safe_increment(state["count"])
    return updates, state


# stable_state


def counted(dtype: Any, increment: Callable[[Any], Any] = lambda count: count + np.ones((), count.dtype)) -> Any:
    return stateful(lambda params: jnp.zeros([], dtype), lambda updates, state: (updates, increment(state)))


class sometimes_a_count(gradtx.GradientTransformation):
    """Counts only for a schedule."""

    rate: ScalarOrSchedule = 0.5

    def init(self, params: Any) -> Any:
        return jnp.zeros([], jnp.int32 if callable(self.rate) else jnp.float32)

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        number = gradtx.value_at("rate", self.rate, state.astype(jnp.int32), jnp.float32)
        return gradtx.map_leaves(_times, {"updates": updates}, number=number), state


class sometimes_momentum(gradtx.GradientTransformation):
    """Has no state where the decay is 0."""

    decay: NonNegative = 0.9

    def init(self, params: Any) -> Any:
        return gradtx.zeros_like(params) if self.decay else None

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        return updates, state


def twice(params: Any) -> Any:
    zeros = gradtx.zeros_like(params)
    return zeros, zeros


def separate(params: Any) -> Any:
    return gradtx.zeros_like(params), gradtx.zeros_like(params)


# one_trace


def recompiling(updates: Any) -> Any:
    return jax.tree.map(jax.jit(lambda g: g + g), updates)


def looping(updates: Any) -> Any:
    return mapped(lambda g: jax.lax.fori_loop(0, 3, lambda i, x: x * np.asarray(1.1, x.dtype), g), updates)


class ignoring(gradtx.Stateless):
    """Has a threshold that it does not use."""

    rate: Scalar = 0.5
    threshold: Scalar = 1.0

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        return gradtx.map_leaves(_times, {"updates": updates}, number=self.rate), state


# any_tree


def into_dict(updates: Any) -> Any:
    return updates._asdict() if isinstance(updates, Pair) else updates


def into_tuple(updates: Any) -> Any:
    return tuple(updates) if isinstance(updates, Pair) else updates


def decaying(updates: Any, state: Any) -> Any:
    def decay(m: Any, g: Any) -> Any:
        if m is None:
            return None
        return m * 0.5 if g is None else m * 0.5 + g.astype(m.dtype)

    return updates, jax.tree.map(decay, state, updates, is_leaf=lambda x: x is None)


def summing(updates: Any, state: Any) -> Any:
    return updates, jax.tree.map(lambda g, m: m + g.astype(m.dtype), updates, state)


# nothing_broadcast


class batching(gradtx.Stateless):
    """Takes several rates, which are broadcast against the parameters."""

    rate: Scalar = 0.5

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        with jax.numpy_rank_promotion("allow"):
            return mapped(lambda g: jnp.sum(self.rate * g[..., None], -1), updates), state


# precision


def after_three(rate: Any, count: Any) -> Any:
    return jnp.where(count < 3, rate, jnp.nan)


def _ninth(g: Any) -> Any:
    return jnp.sign(g) * jnp.abs(g**9) ** (1 / 9)


def narrow(to: Any, wide: Any) -> Callable[[Any], Any]:
    """Through a narrower dtype, for leaves of the wide one."""
    return lambda g: g.astype(to).astype(g.dtype) if g.dtype == wide else g


def rounding_state(updates: Any, state: Any) -> Any:
    def average(m: Any, g: Any) -> Any:
        return (m * 0.5 + g.astype(m.dtype)).astype(jnp.bfloat16).astype(m.dtype) if m.dtype == jnp.float32 else m

    return updates, jax.tree.map(average, state, updates)


def single_state(params: Any) -> Any:
    return jax.tree.map(lambda p: jnp.zeros_like(p, jnp.complex64 if jnp.iscomplexobj(p) else jnp.float32), params)


def _squared(g: Any) -> Any:
    return g / gradtx.safe_sqrt(g * g + np.asarray(1e-3, g.dtype))


def _real_part(g: Any) -> Any:
    return g.real.astype(g.dtype)


def in_own_dtype(updates: Any) -> Any:
    third = {g.dtype: np.asarray(1 / 3, g.dtype) for g in jax.tree.leaves(updates)}
    return jax.tree.map(lambda g: g * third[g.dtype] * third[g.dtype] * third[g.dtype], updates)


# sign


def from_step_2(rate: Any, count: Any) -> Any:
    return jnp.where(count < 1, rate, -rate)


# points


class misplaced(gradtx.Stateless):
    """Evaluates at a tuple."""

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        return updates, state

    def gradient_params(self, params: Any, state: Any) -> Any:
        return (params,)


class widened(misplaced):
    """Evaluates in float32, whatever the parameters are."""

    def gradient_params(self, params: Any, state: Any) -> Any:
        return params

    def eval_params(self, params: Any, state: Any) -> Any:
        return jax.tree.map(lambda p: p.astype(jnp.float32), params)


class CountState(NamedTuple):
    count: Any


class reporting(gradtx.GradientTransformation):
    """Reports a vector as its rate."""

    rate: ScalarOrSchedule = 0.5

    def init(self, params: Any) -> CountState:
        return CountState(jnp.zeros([], jnp.int32))

    def update(self, updates: Any, state: CountState, params: Any = None) -> Any:
        number = gradtx.value_at("rate", self.rate, state.count, jnp.float32)
        return gradtx.map_leaves(_times, {"updates": updates}, number=number), CountState(state.count + 1)

    def _scheduled(self, state: Any) -> Any:
        return [(("rate",), jnp.ones(3))]


def _identity_with(init: Callable[[Any], Any]) -> Callable[[], Any]:
    return stateful(init, lambda updates, state: (updates, state))


BROKEN: dict[str, Broken] = {
    "flips its sign after 40 calls": Broken("pure", "101 calls later", counting),
    "looks at the clock": Broken("pure", "at another time", scaling(by_the_hour)),
    "draws from a global generator": Broken("pure", "second identical run", scaling(drawn)),
    "draws the same noise each step": Broken("pure", "random numbers .* are the same at each step", scaling(fixed_key)),
    "never splits its key": Broken("pure", "return the new one", lambda: same_key(jax.random.key(0))),
    "asks for a value in try": Broken("pure", "with large hyperparameters, against no jit", looking),
    "calls back": Broken("pure", "has side effects", scaling(telling)),
    "changes updates in place": Broken("pure", "changes the updates .* in place", stateful(lambda p: None, in_place)),
    "changes its state in place": Broken(
        "pure",
        "changes the state .* in place",
        stateful(lambda p: {"count": jnp.zeros([], jnp.int32)}, state_in_place),
    ),
    "a count that wraps": Broken("stable_state", "wraps: after 2147483647 comes -2147483648", counted(jnp.int32)),
    "an int8 count": Broken("stable_state", "is int8 and stops at 127", counted(jnp.int8, gradtx.safe_increment)),
    "an int8 count that wraps": Broken("stable_state", "wraps: after 127", counted(jnp.int8)),
    "a uint8 count that wraps": Broken("stable_state", "wraps: after 255", counted(jnp.uint8)),
    "its state is the parameters": Broken("stable_state", "array of params.*jnp.copy", _identity_with(lambda p: p)),
    "one buffer twice": Broken("stable_state", "array of the state at .0.*jnp.copy", _identity_with(twice)),
    "one buffer twice after an update": Broken(
        "stable_state", "of an update is the very array", stateful(separate, lambda u, s: (u, (s[0], s[0])))
    ),
    "a state for schedules": Broken("stable_state", "state with a schedule for rate", sometimes_a_count),
    "a state for decays above 0": Broken("stable_state", "state with hyperparameters times 0.0", sometimes_momentum),
    "ignores a hyperparameter": Broken("one_trace", r"hyperparameter \.threshold is ignored", ignoring),
    "compiles at each call": Broken("one_trace", "compiles .* programs at each call", stateless(recompiling)),
    "compiles a loop at each call": Broken("one_trace", "compiles .* programs at each call", stateless(looping)),
    "a NamedTuple comes back a dict": Broken("any_tree", "update of a NamedTuple has structure", stateless(into_dict)),
    "a NamedTuple comes back a tuple": Broken("any_tree", "update of a NamedTuple", stateless(into_tuple)),
    "None decays the state": Broken(
        "any_tree", r"state at \['left'\] changes though", stateful(gradtx.zeros_like, decaying)
    ),
    "None raises": Broken("any_tree", "None as a gradient raised", stateful(gradtx.zeros_like, summing)),
    "broadcasts several rates": Broken("nothing_broadcast", r"two values for .*\.rate are broadcast", batching),
    "NaN from step 4": Broken("precision", "updates after 6 steps: not finite", scaling(after_three)),
    "the ninth power": Broken("precision", "for gradients of size 100000.0: not finite", leafwise(_ninth)),
    "float64 in float32": Broken(
        "precision", "for float64 at .* fewer digits", leafwise(narrow(jnp.float32, jnp.float64))
    ),
    "float64 with a float32 state": Broken(
        "precision", "64-bit parameters has float32", stateful(single_state, summing)
    ),
    "float32 in bfloat16": Broken(
        "precision", "for float32 at .* fewer digits", leafwise(narrow(jnp.bfloat16, jnp.float32))
    ),
    "a float32 state in bfloat16": Broken(
        "precision", "state for float32 at .* fewer digits", stateful(gradtx.zeros_like, rounding_state)
    ),
    "complex128 in complex64": Broken(
        "precision", "for complex128 at .* fewer digits", leafwise(narrow(jnp.complex64, jnp.complex128))
    ),
    "half precision in its own dtype": Broken("precision", "against float32", stateless(in_own_dtype)),
    "g * g for |g|^2": Broken("precision", r"g \* conj\(g\)", leafwise(_squared)),
    "drops the imaginary part": Broken("precision", "an imaginary part lost", leafwise(_real_part)),
    "flips its sign at step 2": Broken("sign", "update 2 with the same gradient points against", scaling(from_step_2)),
    "the absolute value": Broken("sign", "points against the gradient", leafwise(jnp.abs)),
    "positive gradients only": Broken("sign", "all negative make no update", leafwise(lambda g: jnp.maximum(g, g * 0))),
    "gradient_params of another structure": Broken("points", "gradient_params has structure", misplaced),
    "eval_params of another dtype": Broken("points", "eval_params.* is float32.* not bfloat16", widened),
    "current reports a vector": Broken("points", "current reports 'rate' at first .* expected one number", reporting),
}
