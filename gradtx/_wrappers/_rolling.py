"""A rolling window of numbers, and whether the next one is far above them."""

from __future__ import annotations

from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from .._maths import safe_sqrt
from .._trees.vectors import power_of_two_scale
from .._types import ScalarArray
from ._choose import Condition

Window: TypeAlias = Float[Array, " size"] | Float[np.ndarray, " size"]
"""The last numbers, the latest at the end; infinite where there is none yet. NumPy's in a state that was restored."""

LEAST = 2
"""Numbers that a standard deviation needs."""


def empty_window(size: int, dtype: DTypeLike) -> Window:
    """A window without numbers."""
    return jnp.full([size], np.inf, dtype)


def rolled(window: Window, latest: ScalarArray) -> Window:
    """The window with one more number, without its oldest; unchanged by one that is not finite."""
    return jnp.where(jnp.isfinite(latest), jnp.concatenate([window[1:], latest[None]]), window)


def is_spike(window: Window, latest: ScalarArray, sigma: ArrayLike) -> Condition:
    """Whether a number is more than `sigma` standard deviations above the mean of the window.

    False until the window, with this number, is half full, as OLMo-core has it, and while it has less than two.
    """
    known = jnp.isfinite(window)
    count = jnp.sum(known, dtype=np.int32)
    # Counted from the latest, so that a loss that stays the same, rounding and all, is 0 above its mean.
    below = jnp.where(known, latest - jnp.where(known, window, latest), 0)
    # In a unit in which squares neither vanish nor overflow: losses do fall below 1e-19.
    below = (1 / power_of_two_scale(jnp.max(jnp.abs(below)))) * below
    size = jnp.maximum(count, 1).astype(window.dtype)
    mean = jnp.sum(below) / size
    variance = jnp.sum(jnp.where(known, (below - mean) ** 2, 0)) / jnp.maximum(size - 1, 1)
    is_enough = (count >= LEAST) & (count + 1 >= window.shape[0] // 2)
    return is_enough & (mean > jnp.asarray(sigma).astype(window.dtype) * safe_sqrt(variance))
