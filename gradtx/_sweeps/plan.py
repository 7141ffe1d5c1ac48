"""How the lanes of a sweep share the machine: side by side, in turn, and over devices.

`vmap` puts lanes side by side: products of a batch of examples with the weights of all lanes become one large product.
`map` takes one lane after the other: on CPUs, XLA multiplies a batch of matrices more slowly than the same matrices in
turn, and convolutions with a batch of weights much more slowly. With several devices, each takes a block of lanes. The
numbers are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .._types import PyTree

P = TypeVar("P", bound="Plan")
Axes = str | tuple[str, ...] | None


@dataclass(frozen=True)
class Plan:
    """Where the lanes of a grid run: every lane with every seed.

    Attributes:
        mode: How the lanes of one device run: "vmap", side by side, or "map", in turn.
        mesh: All devices, with the axes of seeds and of lanes.
        seeds, lanes: Those that are wanted.
        height, width: Seeds and lanes with those that are added, so that each device has as many; programs depend on
            these numbers and not on `seeds` and `lanes`.
    """

    axes: ClassVar[tuple[str, str]] = ("seed", "lane")
    words: ClassVar[str] = "seeds x lanes"

    mode: str
    mesh: Mesh
    seeds: int = field(compare=False)
    lanes: int = field(compare=False)
    height: int
    width: int

    @classmethod
    def of(cls: type[P], mode: str, seeds: int, lanes: int, least: int = 1, devices: Sequence[Any] = ()) -> P:
        """Over the given devices, else all of all processes, so that the busiest device has the fewest lanes.

        Lanes are padded to at least `least`, so that a short sweep can use a long one's program.
        """
        grid = np.asarray(devices or jax.devices())
        plans = [
            cls(mode, Mesh(grid.reshape(over_seeds, over_lanes), cls.axes), seeds, lanes, height, width)
            for over_seeds in range(grid.size, 0, -1)
            if grid.size % over_seeds == 0
            for over_lanes in [grid.size // over_seeds]
            for height, width in [(_up(seeds, over_seeds), _up(max(lanes, least), over_lanes))]
        ]
        return min(plans, key=lambda plan: (plan.load, plan.height * plan.width))

    @property
    def block(self) -> tuple[int, int]:
        """Seeds and lanes of each device, padding included."""
        seeds, lanes = self.mesh.devices.shape
        return self.height // seeds, self.width // lanes

    @property
    def load(self) -> int:
        """Lanes that the busiest device trains. Side by side padding costs as much as a lane; in turn it is skipped."""
        seeds, lanes = self.block
        return seeds * (lanes if self.mode == "vmap" else min(lanes, self.lanes))

    @property
    def wanted(self) -> np.ndarray:
        """Which lanes are no padding, (height, width)."""
        return np.logical_and.outer(np.arange(self.height) < self.seeds, np.arange(self.width) < self.lanes)

    def padded(self, seeds: np.ndarray, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both, with the last repeated."""
        return np.pad(seeds, (0, self.height - self.seeds), "edge"), np.pad(lanes, (0, self.width - self.lanes), "edge")

    def cropped(self, tree: PyTree) -> PyTree:
        """Arrays of all lanes, (seeds, lanes, ...), without the padding."""
        return jax.tree.map(lambda leaf: leaf[: self.seeds, : self.lanes], tree)

    def __str__(self) -> str:
        how = "side by side (vmap)" if self.mode == "vmap" else "one after the other (map)"
        lanes = f"{self.seeds} x {self.lanes} lanes ({self.words}), {how}"
        if self.mesh.size == 1:
            return f"{lanes}, on one device"
        seeds, each = self.block
        return f"{lanes}, on {self.mesh.size} devices with {seeds} x {each} each"

    def spread(self, function: Callable[..., Any], *axes: Axes, out: Axes = ()) -> Callable[..., Any]:
        """`function` of a block of lanes, run on each device with its block.

        Args:
            function: Takes arrays that lead with the given axes, and returns arrays that lead with `out`.
            axes: For each argument the name of an axis, both names, or None for what all devices read whole.
            out: The same for what comes back; () is both names.
        """
        specs, spec = tuple(map(_spec, axes)), _spec(self.axes if out == () else out)
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=spec, check_vma=False)

    def each(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` of one lane, of all along the leading axis."""
        if self.mode == "vmap":
            return jax.vmap(function)
        return lambda *arguments: jax.lax.map(lambda lane: function(*lane), arguments)

    def put(self, tree: PyTree, *axes: str) -> PyTree:
        """Host arrays on the devices, leading with `axes`; without any, whole on each device."""
        return place(tree, NamedSharding(self.mesh, PartitionSpec(*axes)))


def _up(count: int, parts: int) -> int:
    """The next multiple of `parts`."""
    return -(-count // parts) * parts


def _spec(axes: Axes) -> PartitionSpec:
    return PartitionSpec(*((axes,) if isinstance(axes, str) else axes or ()))


def place(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Arrays that each process has on its host, on the devices of all."""
    if jax.process_count() == 1:
        return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding), tree)

    def own_part(leaf: Any) -> jax.Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(own_part, tree)


def fetch(tree: PyTree) -> PyTree:
    """Arrays on the host, whole, in each process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)
