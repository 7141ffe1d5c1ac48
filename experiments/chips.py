"""What TPU chips can do, and the chips of a topology without having one.

The compiler for TPUs (libtpu) works on any machine: it makes the program for a topology that is only described.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from experiments.errors import ExperimentError, one_line


class Chip(NamedTuple):
    """Of one chip: FLOP/s in bfloat16 at most, and bytes of memory."""

    peak: float
    memory: float


CHIPS = {
    "TPU v4": Chip(275e12, 32e9),
    "TPU v5 lite": Chip(197e12, 16e9),
    "TPU v5": Chip(459e12, 95e9),
    "TPU v6 lite": Chip(918e12, 32e9),
}
"""By the name that JAX gives the device: v4, v5e, v5p and v6e.

Source: the pages of Cloud TPU's documentation on each ("Peak compute per chip (bf16)", "HBM capacity"),
https://docs.cloud.google.com/tpu/docs/v5e and so on.
"""

# libtpu asks the first of the machine it is on, unless they are set; only their being there matters here. The last lets
# several processes compile at once, since none of them has a chip.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclass(frozen=True)
class Topology:
    """Devices to compile for.

    Attributes:
        name: As asked for.
        devices: A chip of some kinds is two of them.
        chips: How many there are.
        kind: What JAX calls them.
        chip: What each can do; None where that is not known.
    """

    name: str
    devices: Sequence[Any]
    chips: int
    kind: str
    chip: Chip | None

    @property
    def is_cpu(self) -> bool:
        """Whether these are no accelerators."""
        return self.devices[0].platform == "cpu"


def here() -> Topology:
    """The devices that JAX has."""
    return _described("the devices here", jax.devices())


def described(name: str) -> Topology:
    """A TPU topology by its name, such as "v5e:2x4", from libtpu.

    Raises:
        ExperimentError: libtpu is not installed, or knows no such topology.
    """
    from jax.experimental import topologies

    if importlib.util.find_spec("libtpu") is None:
        raise ExperimentError(
            "compiling for a TPU needs its compiler, which is large: python -m venv tpu; tpu/bin/pip install "
            "'jax[tpu]' -e '.[experiments]'; then run this with tpu/bin/python; or leave out --topology"
        )
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        return _described(name, topologies.get_topology_desc(name, "tpu").devices)
    except Exception as error:  # libtpu's refusals are of several kinds
        raise ExperimentError(
            f"no TPU topology {name!r}, such as v5e:2x4, v5p:2x2x2 or v6e:4x4: {one_line(error)}"
        ) from error


def _described(name: str, devices: Sequence[Any]) -> Topology:
    kind = devices[0].device_kind
    chips = {tuple(getattr(device, "coords", (device.id,))) for device in devices}
    return Topology(name, devices, len(chips), kind, CHIPS.get(kind))
