"""Which updates are taken: every so many, from a step on."""

from __future__ import annotations

import functools
from typing import Annotated, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._core.fields import Range
from .._trees.checks import check_rank
from .._types import Count, Number

Period: TypeAlias = Annotated[Number, "data", Range("a finite number >= 1", low=1.0)]
"""A number of updates, at least 1: data, so that it can be swept."""


class Taken(NamedTuple):
    """Whether an update is taken, and how many were."""

    due: jax.Array
    """Whether it is one of those that are taken."""
    number: jax.Array
    """How many have been, this one included; at least 1."""
    early: jax.Array
    """Whether it is among the first `start_step`, which are left out."""


def taken(count: Count, start_step: Number, every: Number) -> Taken:
    """Whether the update `count` (from 1 on) is taken: each `every`-th of those after the first `start_step`."""
    check_rank("start_step", start_step)
    check_rank("every", every)
    return _taken(count, start_step, every)


@functools.partial(jax.jit, inline=True)
def _taken(count: Count, start_step: Number, every: Number) -> Taken:
    # In whole numbers, which float32 has not beyond 2^24.
    first, period = (jnp.round(jnp.asarray(number)).astype(np.int32) for number in (start_step, every))
    period = jnp.maximum(period, 1)
    since = jnp.asarray(count).astype(np.int32) - first
    return Taken((since > 0) & (since % period == 0), jnp.maximum(since // period, 1), since <= 0)
