r"""The dtype of state, by rule, of any transformation."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import GradientTransformation
from .._core.fields import Convert, Data, _inexact
from .._core.paths import Path
from .._precision import halves
from .._precision.keys import check_rounding, first_key
from .._precision.places import Encode, as_rules, chosen, decoded, encoded, kinds, parts_inside
from .._types import OptState, Params, Updates

WIDE = (np.dtype(np.float32), np.dtype(np.float64))


def _narrow(value: Any) -> np.dtype | None:
    dtype = _inexact(value)
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"a state is rounded to a floating dtype, got {dtype}")
    return dtype


class StateDtypeState(NamedTuple):
    """State of `state_dtype`."""

    inner_state: OptState
    """The state of what is inside, with rounded leaves in their places."""
    key: Any
    """The next random key; `None` where rounding is to nearest."""


class state_dtype(GradientTransformation):
    r"""Keep leaves of a state in another dtype, by rule: what `mu_dtype` is to Adam, for any state.

    A leaf is widened to the dtype that the inner transformation gives it, updated, and rounded again.

        state_dtype(adam(1e-3), {"*/mu": "bfloat16", "*": None})

    A slow average in bfloat16 stands still once an update is below a half of its last place: with a decay above
    $1 - 2^{-8}$ or so round `nu` at random, or keep it in float32 or by `quantize_state`.

    State: `inner_state`, with `value` in a rounded leaf's place; `key`.
    Units: as what is inside. Derivatives do not go through what is rounded.

    Args:
        inner: What to wrap: any transformation.
        dtypes: A floating dtype, or a dict from rules to dtypes as in `quantize_state`; `None` leaves a leaf as it is,
            as does no match. Only float32 and float64 leaves with an axis are rounded, and to fewer bits only.
        rounding: `"stochastic"` rounds up or down at random, so that the mean over steps is exact; to bfloat16 only.
        key: For that, a random key or a seed.

    Raises:
        TypeError: if a dtype is not floating, or a rule is not a rule; in `init`, if `key` is no key or seed.
        ValueError: if rounding is stochastic and `key` is missing, or a dtype is not bfloat16.

    Source: optax's `mu_dtype`. Differs: it is for any leaf of any state, and rounds at random too.
    """

    inner: GradientTransformation
    dtypes: Annotated[Any, "static", Convert(as_rules(_narrow))]
    _: KW_ONLY
    rounding: Literal["nearest", "stochastic"] = "nearest"
    key: Data | None = None

    def __check_init__(self) -> None:
        check_rounding(self, np.dtype(jnp.bfloat16))

    def init(self, params: Params) -> StateDtypeState:
        key = None if self.rounding == "nearest" else first_key(self.key)
        return self._encoded(self.inner.init(params), key)

    def update(
        self, updates: Updates, state: StateDtypeState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, StateDtypeState]:
        old = decoded(state.inner_state)
        updates, inner_state = self.inner.update(updates, old, params, **extra)
        return updates, self._encoded(inner_state, state.key, (state.inner_state, old))

    def _inside(self, state: object) -> list[tuple[Path, GradientTransformation, Any]]:
        return parts_inside(self.inner, state)

    def _encoded(self, state: OptState, key: Any, old: tuple[OptState, OptState] | None = None) -> StateDtypeState:
        dtypes = chosen("state_dtype", self.dtypes, state)
        narrower = [
            dtype if dtype is not None and kind.dtype in WIDE and dtype.itemsize < kind.dtype.itemsize else None
            for dtype, kind in zip(dtypes, kinds(state), strict=True)
        ]
        if key is None:
            codecs: list[Encode | None] = [
                None if dtype is None else partial(halves.rounded, dtype=dtype) for dtype in narrower
            ]
            return StateDtypeState(encoded(state, codecs, old), None)
        key, *keys = jax.random.split(key, 1 + len(narrower))
        codecs = [
            None if dtype is None else partial(halves.rounded_at_random, key=own)
            for dtype, own in zip(narrower, keys, strict=True)
        ]
        return StateDtypeState(encoded(state, codecs, old), key)
