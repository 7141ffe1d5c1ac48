"""How the lanes of a sweep (seeds x learning rates) share the machine: side by side, in turn, and over devices.

`vmap` puts lanes side by side: the rates of a seed then share their batches, and the products of one batch with all
their first-layer weights become one large product. `map` takes one lane after the other: on CPUs, XLA multiplies a
batch of matrices more slowly than the same matrices in turn, and convolutions with a batch of weights much more slowly.
With several devices, each takes a block of lanes. The numbers are the same up to rounding. A lane in turn seldom keeps
more than one core busy, so that a CPU is better used as several devices (`devices.use_cores`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SEED, RATE = "seed", "learning_rate"

Mode = Literal["vmap", "map", "shard"]
"""Of a sweep. With "shard" its lanes share no device: each runs over all of them (`experiments.data_parallel`)."""
Axes = str | tuple[str, ...] | None


@dataclass(frozen=True)
class Plan:
    """Where lanes run.

    Attributes:
        mode: How the lanes of one device run.
        mesh: All devices, with the axes seed and learning rate.
        seeds, rates: The lanes that are wanted.
        height, width: Seeds and rates with those that are added, so that each device has as many; the programs depend
            on these numbers and not on `seeds` and `rates`.
    """

    mode: Mode
    mesh: Mesh
    seeds: int = field(compare=False)
    rates: int = field(compare=False)
    height: int
    width: int

    @classmethod
    def of(cls, mode: Mode, seeds: int, rates: int, least: int = 1, devices: Sequence[Any] = ()) -> Plan:
        """Over the given devices, else all of all processes, so that the busiest device has the fewest lanes.

        Rates are padded to at least `least`, so that a short sweep can use a long one's program.
        """
        grid = np.asarray(devices or jax.devices())
        plans = [
            cls(mode, Mesh(grid.reshape(over_seeds, over_rates), (SEED, RATE)), seeds, rates, height, width)
            for over_seeds in range(grid.size, 0, -1)
            if grid.size % over_seeds == 0
            for over_rates in [grid.size // over_seeds]
            for height, width in [(_up(seeds, over_seeds), _up(max(rates, least), over_rates))]
        ]
        return min(plans, key=lambda plan: (plan.load, plan.height * plan.width))

    @property
    def block(self) -> tuple[int, int]:
        """Seeds and rates of each device, padding included."""
        return self.height // self.mesh.shape[SEED], self.width // self.mesh.shape[RATE]

    @property
    def load(self) -> int:
        """Lanes that the busiest device trains. Side by side padding costs as much as a lane; in turn it is skipped."""
        seeds, rates = self.block
        return seeds * (rates if self.mode == "vmap" else min(rates, self.rates))

    @property
    def wanted(self) -> np.ndarray:
        """Which lanes are no padding."""
        return np.logical_and.outer(np.arange(self.height) < self.seeds, np.arange(self.width) < self.rates)

    def padded(self, seeds: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both, with the last repeated."""
        return np.pad(seeds, (0, self.height - self.seeds), "edge"), np.pad(rates, (0, self.width - self.rates), "edge")

    def cropped(self, tree: Any) -> Any:
        """Arrays of all lanes, (seeds, rates, ...), without the padding."""
        return jax.tree.map(lambda leaf: leaf[: self.seeds, : self.rates], tree)

    def __str__(self) -> str:
        how = "side by side (vmap)" if self.mode == "vmap" else "one after the other (map)"
        lanes = f"{self.seeds} x {self.rates} lanes (seeds x learning rates), {how}"
        if self.mesh.size == 1:
            return f"{lanes}, on one device"
        seeds, rates = self.block
        return f"{lanes}, on {self.mesh.size} devices with {seeds} x {rates} each"

    def spread(self, function: Callable[..., Any], *axes: Axes, out: Axes = (SEED, RATE)) -> Callable[..., Any]:
        """`function` of a block of lanes, run on each device with its block.

        Args:
            function: Takes arrays that lead with the given axes, and returns arrays that lead with `out`.
            axes: For each argument `SEED`, `RATE`, `(SEED, RATE)`, or None for what all devices read whole.
            out: The same for what comes back.
        """
        specs = tuple(map(_spec, axes))
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=_spec(out), check_vma=False)

    def each(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` of one lane, of all along the leading axis."""
        if self.mode == "vmap":
            return jax.vmap(function)
        return lambda *arguments: jax.lax.map(lambda lane: function(*lane), arguments)

    def put(self, tree: Any, *axes: str) -> Any:
        """Host arrays on the devices, leading with `axes`; without any, whole on each device."""
        return place(tree, NamedSharding(self.mesh, PartitionSpec(*axes)))


def _up(count: int, parts: int) -> int:
    """The next multiple of `parts`."""
    return -(-count // parts) * parts


def _spec(axes: Axes) -> PartitionSpec:
    return PartitionSpec(*((axes,) if isinstance(axes, str) else axes or ()))


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays that each process has on its host, on the devices of all."""
    if jax.process_count() == 1:
        return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding), tree)

    def own_part(leaf: Any) -> jax.Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(own_part, tree)


def fetch(tree: Any) -> Any:
    """Arrays on the host, whole, in each process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)
