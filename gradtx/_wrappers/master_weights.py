r"""float32 parameters beside those in half precision."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import GradientTransformation
from .._precision.halves import low_bits, nearest_away, with_low_bits
from .._precision.steps import dtype_of, is_none, lands_at, step_to
from .._trees.checks import aligned, checked_leaves
from .._trees.precision import cast_like, widen
from .._types import OptState, Params, PyTree, Updates

HALVES = (np.dtype(jnp.bfloat16), np.dtype(np.float16))


@jax.jit
def _whole(params: jax.Array, master: jax.Array) -> jax.Array:
    """The float32 parameter: the copy, or what its low bits say."""
    return with_low_bits(params, master) if master.dtype == np.int16 else jnp.asarray(master).astype(jnp.float32)


@jax.jit
def _step(updates: jax.Array, whole: jax.Array, params: jax.Array, master: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The step to the rounded master, in float32, and the new master."""
    moved, half = whole + updates.astype(jnp.float32), np.dtype(params.dtype)
    if master.dtype != np.int16:
        kind = jnp.finfo(half)
        return step_to(jax.lax.reduce_precision(moved, kind.nexp, kind.nmant), params, half), moved
    return step_to(nearest_away(moved), params, half), moved


class MasterWeightsState(NamedTuple):
    """State of `master_weights`."""

    master: PyTree
    """float32 parameters (or the low bits of them, int16) where parameters are in half precision, else `None`."""
    inner_state: OptState
    """The state of what is inside, for float32 parameters."""


class master_weights(GradientTransformation):
    r"""Update parameters of half precision in float32, of which they are the rounded image.

    $$\phi_t = \phi_{t-1} + u'_t, \qquad u_t = R(\phi_t) - \theta_{t-1}$$

    What is inside sees the float32 parameters $\phi$, also where it evaluates the objective or averages parameters.
    `apply_updates` adds in float32 and rounds once, and the step is chosen so that it gives $R(\phi_t)$ exactly. Such
    a step in the parameter's own dtype exists if $R(\phi_t)$ has the sign of $\theta_{t-1}$ and is between a half and
    twice of it, and in 95 % of cases if it is larger. Where there is none (mostly when a parameter changes its sign), a
    bfloat16 step leads to within a rounding of the step, and the next one starts from there towards $R(\phi_{t+1})$;
    a float32 step, as from float32 gradients, is exact unless $R(\phi_t)$ is $2^{15}$ times smaller than the parameter.

    State: `master`, 4 bytes per parameter, or 2 with `remainders`; `inner_state`. Needs `params`. Comes last in a
    chain. Parameters of other dtypes have the updates of what is inside and no master.
    Units: of parameters.

    Args:
        inner: What to wrap; its updates are those of float32 parameters.
        remainders: Keep only the low 16 bits of $\phi$ beside bfloat16 parameters, which are its high 16 bits: exact,
            as R then rounds ties away from 0. float16 parameters have a whole copy. Parameters that are changed
            elsewhere take their low bits with them; a copy would lead back to what it holds. Where a bfloat16 step
            does not reach its point, the low bits are those nearest to $\phi_t$.

    Source: Micikevicius et al., 2018; for the low bits, TransformerEngine's `store_param_remainders`.
    """

    inner: GradientTransformation
    remainders: bool = False
    _owns_step = True
    _rounds_step = True

    def init(self, params: Params) -> MasterWeightsState:
        checked_leaves(params, "params")

        def master(leaf: Any) -> jax.Array | None:
            dtype = np.dtype(jnp.result_type(leaf))
            if dtype not in HALVES:
                return None
            if self.remainders and dtype == jnp.bfloat16:
                return jnp.zeros_like(leaf, dtype=jnp.int16)
            return jnp.asarray(leaf).astype(jnp.float32)

        return MasterWeightsState(jax.tree.map(master, params), self.inner.init(widen(params)))

    def update(
        self, updates: Updates, state: MasterWeightsState, params: Params, **extra: object
    ) -> tuple[Updates, MasterWeightsState]:
        aligned(("updates", "params"), (updates, params), 0)
        olds, structure = jax.tree.flatten(updates, is_leaf=is_none)
        leaves, masters = jax.tree.leaves(params, is_leaf=is_none), leaves_beside(params, state.master)
        points = self._points(leaves, masters)
        whole = jax.tree.structure(params, is_leaf=is_none).unflatten(points)
        new, inner_state = self.inner.update(widen(updates), state.inner_state, whole, **extra)
        steps, kept = [], []
        moves = jax.tree.leaves(new, is_leaf=is_none)
        for old, leaf, master, point, move in zip(olds, leaves, masters, points, moves, strict=True):
            if move is None or master is None:
                steps.append(None if move is None else move.astype(dtype_of(old)))
                kept.append(master)
                continue
            step, moved = _step(move, point, leaf, master)
            steps.append(step.astype(dtype_of(old)))
            kept.append(_kept(leaf, step, moved, dtype_of(old)) if master.dtype == np.int16 else moved)
        return structure.unflatten(steps), MasterWeightsState(structure.unflatten(kept), inner_state)

    def _points(self, leaves: list[Any], masters: list[Any]) -> list[Any]:
        """The parameters as what is inside sees them."""
        return [leaf if master is None else _whole(leaf, master) for leaf, master in zip(leaves, masters, strict=True)]

    def _delegate(self, method: str, params: Params, state: OptState) -> Params:
        if not self.inner._defines(method):
            return params
        leaves, structure = jax.tree.flatten(params, is_leaf=is_none)
        whole = structure.unflatten(self._points(leaves, leaves_beside(params, state.master)))
        return cast_like(getattr(self.inner, method)(whole, state.inner_state), params)


_kept = jax.jit(
    lambda params, step, moved, updates_dtype: low_bits(moved, lands_at(params, step, updates_dtype)),
    static_argnums=3,
)


def leaves_beside(params: Params, master: PyTree) -> list[Any]:
    """The leaves of `master` beside those of `params`, `None`s included. Raises ValueError if it has others."""
    leaves, structure = jax.tree.flatten(master, is_leaf=is_none)
    expected = jax.tree.structure(params, is_leaf=is_none)
    if structure != expected:
        raise ValueError(
            f"master_weights: the state is of other parameters: its `master` is {structure}, params are {expected}"
        )
    return leaves
