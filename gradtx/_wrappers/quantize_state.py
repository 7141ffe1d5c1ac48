r"""State of any transformation in about one byte per entry."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import GradientTransformation
from .._core.fields import AtLeastOne, Convert, Data
from .._core.paths import Path
from .._precision import float8, halves, int8
from .._precision.keys import check_rounding, first_key
from .._precision.places import Encode, as_rules, chosen, decoded, encoded, kinds, parts_inside
from .._types import OptState, Params, Updates

# Both are the choices of bitsandbytes: smaller leaves save nothing that counts.
BLOCK_SIZE, MIN_SIZE = 256, 4096
FLOAT8 = tuple(np.dtype(getattr(jnp, name)) for name in ("float8_e4m3fn", "float8_e5m2"))
CODECS = (np.dtype(np.int8), *FLOAT8, np.dtype(jnp.bfloat16))


def _codec(value: Any) -> np.dtype | None:
    try:
        dtype = None if value is None else jnp.dtype(value)
    except TypeError:
        dtype = value
    if dtype is not None and dtype not in CODECS:
        raise TypeError(f"a state is quantized to {', '.join(dtype.name for dtype in CODECS)} or None; got {value!r}")
    return dtype


class QuantizeStateState(NamedTuple):
    """State of `quantize_state`."""

    inner_state: OptState
    """The state of what is inside, with encoded leaves in their places."""
    key: Any
    """The next random key; `None` where rounding is to nearest."""


class quantize_state(GradientTransformation):
    r"""Keep the large leaves of a state in about one byte per entry.

    Each is decoded, updated by what is inside, and encoded again; leaf by leaf, so that a compiled step holds a few of
    them at a time in float32. A dtype names the codec:

    - `int8`: blocks of `block_size` entries with a scale, $1 + 4/256$ bytes per entry, so that Adam has 2.03 bytes
      of state per parameter. An entry's level is of the *dynamic map*: seven decades below the block's largest entry,
      with 1, 2, ... 64 levels, of both signs. In a block without a negative entry, as in a mean of squares, 2, 4, ...
      128 levels are for the *root* of the entry, which reaches 13 decades down; there what is not 0 never becomes 0.
      The largest entry of a block is exact.
    - `float8_e4m3fn`, `float8_e5m2`: the same blocks, in which an entry or its root is a float of 8 bits.
    - `bfloat16`: with one byte of the rounding error, 3 bytes per entry, to within $2^{-15}$ of it; for float32 leaves
      only.

    A NaN or an infinity makes the decoded block NaN and infinite, so that it is seen. 0 stays 0.

    State: `inner_state`, with `codes` and `scales` (`high` and `rest` for bfloat16) in a leaf's place; `key`. Codes
    have the leaf's shape, and scales its rank: both are sharded as the parameter.
    Units: as what is inside. Derivatives do not go through what is encoded: a hypergradient over several steps sees
    none of it.

    Args:
        inner: What to wrap: any transformation. Small, complex and integer leaves stay as they are. A method that
            compares its state with later values (line searches, L-BFGS) bears rounding badly; leave its leaves out.
        dtypes: A dtype, or a dict from rules to dtypes, of which the first that matches counts; `None` leaves a leaf as
            it is, as does no match. A pattern is matched with the path of a leaf in the state, from its root `/`, and
            with the nodes above it: `"*/nu"` is all of the field `nu`, `"*/embedding"` all state of that name.
        block_size: Entries that share a scale. At most; a block is at least half as large in a leaf that is larger.
        min_size: Leaves with fewer entries stay as they are.
        rounding: `"stochastic"` takes one of the two levels beside an entry at random; for int8 only. Rounded
            to nearest, an entry of a slow average moves only if its update is more than half of the distance between
            levels, 0.4 % of the entry at best: it follows bursts, and decays only with the block's largest entry. At
            random it follows its mean, with noise; exactly but at borders of decades. It costs one random number per
            entry and step.
        key: For that, a random key or a seed.

    Raises:
        TypeError: if a dtype is not one of these, or a rule is not a rule; in `init`, if `key` is no key or seed.
        ValueError: if rounding is stochastic and `key` is missing, or a dtype is not int8.

    Source: Dettmers et al., 2022 (8-bit optimizers via block-wise quantization). Differs: there the map of a second
    moment is of the moment and not of its root, so that a gradient below 4e-4 of its block's largest becomes 0; blocks
    are runs of the flattened leaf. The byte beside bfloat16 is HeavyBall's error correction.
    """

    inner: GradientTransformation
    dtypes: Annotated[Any, "static", Convert(as_rules(_codec))] = "int8"
    _: KW_ONLY
    block_size: AtLeastOne = BLOCK_SIZE
    min_size: AtLeastOne = MIN_SIZE

    rounding: Literal["nearest", "stochastic"] = "nearest"
    key: Data | None = None

    def __check_init__(self) -> None:
        check_rounding(self, np.dtype(np.int8))

    def init(self, params: Params) -> QuantizeStateState:
        key = None if self.rounding == "nearest" else first_key(self.key)
        return self._encoded(self.inner.init(params), key)

    def update(
        self, updates: Updates, state: QuantizeStateState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, QuantizeStateState]:
        old = decoded(state.inner_state)
        updates, inner_state = self.inner.update(updates, old, params, **extra)
        return updates, self._encoded(inner_state, state.key, (state.inner_state, old))

    def _inside(self, state: object) -> list[tuple[Path, GradientTransformation, Any]]:
        return parts_inside(self.inner, state)

    def _encoded(self, state: OptState, key: Any, old: tuple[OptState, OptState] | None = None) -> QuantizeStateState:
        dtypes = chosen("quantize_state", self.dtypes, state)
        key, *keys = [None] * (1 + len(dtypes)) if key is None else jax.random.split(key, 1 + len(dtypes))
        codecs = [self._codec(*row) for row in zip(dtypes, kinds(state), keys, strict=True)]
        return QuantizeStateState(encoded(state, codecs, old), key)

    def _codec(self, dtype: np.dtype | None, kind: jax.ShapeDtypeStruct, key: Any) -> Encode | None:
        if dtype is None or kind.size < self.min_size or kind.dtype.itemsize < 2:
            return None
        if dtype == np.int8:
            return partial(int8.encode, block_size=self.block_size, key=key)
        if dtype in FLOAT8:
            return partial(float8.encode, dtype=dtype, block_size=self.block_size)
        return halves.encode_with_rest if kind.dtype == np.float32 else None
