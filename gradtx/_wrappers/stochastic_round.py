r"""Steps of bfloat16 parameters, rounded at random."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import GradientTransformation
from .._core.fields import Data
from .._precision.halves import at_random
from .._precision.keys import first_key
from .._precision.steps import dtype_of, is_none, step_to
from .._trees.checks import aligned
from .._trees.precision import widen
from .._types import OptState, Params, Updates


@jax.jit
def _step(updates: jax.Array, params: jax.Array, key: jax.Array) -> jax.Array:
    wide = updates.astype(jnp.float32)
    target = at_random(params.astype(jnp.float32) + wide, key)
    return step_to(target, params, np.dtype(params.dtype)).astype(updates.dtype)


class StochasticRoundState(NamedTuple):
    """State of `stochastic_round`."""

    key: Any
    """The next random key."""
    inner_state: OptState
    """The state of what is inside."""


class stochastic_round(GradientTransformation):
    r"""Round the step of bfloat16 parameters up or down at random, so that its mean is exact.

    $$u_t = R(\theta_{t-1} + u'_t) - \theta_{t-1}, \qquad \mathrm{E}[R(x)] = x$$

    bfloat16 has 8 bits: an update below $2^{-9}$ of its parameter is always lost if it is rounded to nearest,
    however often it comes. Rounded at random, it moves the parameter by a unit in the last place in the right fraction
    of the steps.
    It costs no memory, where `master_weights` costs 2 or 4 bytes per parameter and has no noise.

    Updates go in as float32 and come out as what `apply_updates` has to add, so that it leads to just the rounded
    point (see `master_weights`). Parameters of other dtypes have the updates of what is inside.

    State: `key`; `inner_state`. Needs `params`. Comes last in a chain.
    Units: of parameters.

    Args:
        inner: What to wrap; `identity()` makes it the last stage of a chain.
        key: A random key, or a seed.

    Raises:
        TypeError: in `init`, if `key` is no key or seed.

    Source: Gupta et al., 2015 (arXiv:1502.02551); for bfloat16 weights, Zamirai et al., 2020 (arXiv:2010.06192).
    """

    inner: GradientTransformation
    key: Data = 0
    _owns_step = True
    _rounds_step = True

    def init(self, params: Params) -> StochasticRoundState:
        return StochasticRoundState(first_key(self.key), self.inner.init(params))

    def update(
        self, updates: Updates, state: StochasticRoundState, params: Params, **extra: object
    ) -> tuple[Updates, StochasticRoundState]:
        aligned(("updates", "params"), (updates, params), 0)
        new, inner_state = self.inner.update(widen(updates), state.inner_state, params, **extra)
        olds, structure = jax.tree.flatten(updates, is_leaf=is_none)
        key, *keys = jax.random.split(state.key, 1 + len(olds))

        def one(old: Any, leaf: Any, move: Any, own: jax.Array) -> Any:
            if move is None:
                return None
            return (_step(move, leaf, own) if dtype_of(leaf) == jnp.bfloat16 else move).astype(dtype_of(old))

        columns = olds, *(jax.tree.leaves(tree, is_leaf=is_none) for tree in (params, new)), keys
        steps = [one(*row) for row in zip(*columns, strict=True)]
        return structure.unflatten(steps), StochasticRoundState(key, inner_state)
