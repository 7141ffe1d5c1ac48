r"""Leave out the entries of a step that go against the gradient."""

from __future__ import annotations

import itertools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from .._core.chain import chain
from .._core.contract import GradientTransformation, Recipe, _Functions, refuse_changed_step
from .._core.data import layout
from .._transforms.identity import stateless
from .._transforms.scale import scale, scale_by_schedule, set_to_zero
from .._trees.map import map_leaves
from .._trees.precision import restore, widen
from .._types import Leaf, OptState, Params, Updates
from .grafting import grafting
from .masked import freeze

LEAST_SHARE = 1e-3
"""The least share of entries that the rest is divided by, as in https://github.com/kyleliang919/C-Optim."""


def _agree(updates: Leaf, grads: Leaf) -> jax.Array:
    """Where the product is positive: by signs, since one of small numbers may be 0."""
    if jnp.iscomplexobj(updates):
        # Signs are directions in the plane.
        return jnp.real(jnp.conj(jnp.sign(grads)) * jnp.sign(updates)) > 0
    return ((updates > 0) & (grads > 0)) | ((updates < 0) & (grads < 0))


def _masked(updates: Leaf, grads: Leaf, *, descends: bool, normalization: str) -> Leaf:
    keep = _agree(-updates if descends else updates, grads)
    # NaN agrees with nothing, and has to come through: a step of 0 would hide it.
    kept = jnp.where(keep | jnp.isnan(updates), updates, 0)
    if normalization == "none" or updates.size == 0:
        return kept
    number = jnp.sum(keep, dtype=updates.real.dtype)
    if normalization == "mean":
        return kept / jnp.maximum(number / updates.size, LEAST_SHARE)
    return kept * (updates.size / (number + 1))


class CautiousState(NamedTuple):
    """State of `cautious`."""

    inner_state: OptState
    """State of the inner transformation."""


class cautious(GradientTransformation):
    r"""Set to 0 the entries of a step that go against the current gradient, and lengthen the rest.

    $$m = [\,u_t g_t > 0\,], \qquad u'_t = u_t\,m / \max(\operatorname{mean}(m), 10^{-3})$$

    with u the updates of `inner` and the mean over a leaf. It takes an optimizer, whose steps go down, or a part, whose
    updates keep the gradient's sign. Around a part it leaves weight decay alone:

        chain(cautious(scale_by_adam()), add_decayed_weights(0.1), scale_by_learning_rate(1e-3))

    State: that of `inner`. Units: as those of `inner`.

    Args:
        inner: An optimizer, or a part.
        normalization: "mean": divide by the share of entries that are left, which is at least 0.001; "count": multiply
            by the number of entries over that of those left plus one (the first version); "none".
        descends: Whether updates of `inner` go against the gradient. `None`: if there is a learning rate in it. It has
            to be said where neither its class nor its parts tell: of `scale`, `scale_by_schedule`, `stateless` and
            optax's transformations without a learning rate after them, and of groups that differ.

    Raises:
        ValueError: if `normalization` is another word; if which way updates go is not said and cannot be told; if
            `inner` keeps track of the parameters.

    Source: Liang et al., 2024, https://arxiv.org/abs/2411.16085.
    """

    inner: GradientTransformation
    normalization: Literal["mean", "count", "none"] = "mean"
    descends: bool | None = None

    def __check_init__(self) -> None:
        refuse_changed_step("cautious", self.inner)
        self._descends()

    def init(self, params: Params) -> CautiousState:
        return CautiousState(self.inner.init(params))

    def update(
        self, updates: Updates, state: CautiousState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, CautiousState]:
        wide = widen(updates)
        step, inner_state = self.inner.update(wide, state.inner_state, params, **extra)
        flags = {"descends": self._descends(), "normalization": str(self.normalization)}
        step = map_leaves(_masked, {"updates": step}, reads={"grads": wide}, **flags)
        return restore(step, updates), CautiousState(inner_state)

    def _descends(self) -> bool:
        if self.descends is not None:
            return self.descends
        ways = _ways(self.inner)
        if len(ways) > 1:
            raise ValueError(
                f"cautious: whether the updates of {self.inner!r} go along the gradient or against it cannot be seen. "
                "Say descends=True for an optimizer with a learning rate, descends=False for a part"
            )
        return ways == {-1}


def _ways(tx: GradientTransformation) -> set[int]:
    """Along the gradient (1) or against it (-1): which way updates may go, by structure; empty where they are 0."""
    if isinstance(tx, (freeze, set_to_zero)):
        return set()
    if isinstance(tx, (_Functions, scale, scale_by_schedule, stateless)):
        return {1, -1}  # by what is inside of a function, or the sign of a number, which may be a tracer
    inside = [tx.direction] if isinstance(tx, grafting) else [part for _, part, _ in tx._inside(None)]
    if not inside:
        has_rate = any(field.name == "learning_rate" for field in layout(type(tx)).fields)
        return {-1} if has_rate and getattr(tx, "flip_sign", True) else {1}
    found = [way for way in map(_ways, inside) if way]
    if not isinstance(tx, (chain, Recipe)):
        return set().union(*found)
    if {-1} in found:  # what cannot be seen is taken for a part
        found = [way for way in found if len(way) == 1]
    return {math.prod(signs) for signs in itertools.product(*found)}
