"""Numbers of many sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def numbers(shape: tuple[int, ...], spread: float = 2.0, seed: int = 0) -> jax.Array:
    """Of both signs and of many sizes."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal(shape) * np.exp(spread * rng.standard_normal(shape)), jnp.float32)


def bfloat16s(count: int, seed: int, least: int = 1, most: int = 0x7F7F) -> jax.Array:
    """Random bit patterns of finite bfloat16, both signs."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(least, most, count, endpoint=True) | (rng.integers(2, size=count) << 15)
    return jax.lax.bitcast_convert_type(jnp.asarray(bits.astype(np.uint16)), jnp.bfloat16)
