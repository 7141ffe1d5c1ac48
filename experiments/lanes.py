"""How the lanes of a sweep (seeds x learning rates) share the machine: side by side, in turn, and over devices.

The mechanism is that of `gradtx.sweep`. A lane in turn seldom keeps more than one core busy, so that a CPU is better
used as several devices (`devices.use_cores`).
"""

from __future__ import annotations

from typing import Literal

from gradtx._sweeps import plan
from gradtx._sweeps.plan import fetch as fetch
from gradtx._sweeps.plan import place as place

SEED, RATE = "seed", "learning_rate"

Mode = Literal["vmap", "map", "shard"]
"""Of a sweep. With "shard" its lanes share no device: each runs over all of them (`experiments.data_parallel`)."""


class Plan(plan.Plan):
    """Where lanes run: every learning rate with every seed."""

    axes = (SEED, RATE)
    words = "seeds x learning rates"

    @property
    def rates(self) -> int:
        """How many are wanted."""
        return self.lanes
