"""A CPU as several devices: a single training seldom keeps more than one core busy, two at once keep two."""

from __future__ import annotations

import os

import jax

MOST = 4
"""Each device has a copy of the data."""


def use_cores() -> None:
    """Make a device of each core, `MOST` at most, unless a person has set their number (JAX_NUM_CPU_DEVICES).

    To be called before anything is computed. It changes nothing where there is an accelerator.
    """
    chosen = wanted(_cores(), jax.config.values["jax_num_cpu_devices"], os.environ.get("XLA_FLAGS", ""))
    if chosen is not None:
        jax.config.update("jax_num_cpu_devices", chosen)


def use(count: int) -> None:
    """Make so many devices of the CPU, unless a person has set their number. Call it before anything is computed."""
    if wanted(count, jax.config.values["jax_num_cpu_devices"], os.environ.get("XLA_FLAGS", "")) is not None:
        jax.config.update("jax_num_cpu_devices", count)


def wanted(cores: int, configured: int, flags: str) -> int | None:
    """How many devices so many cores make; None where a person has chosen, by JAX's configuration or XLA's flags."""
    return None if configured > 0 or "device_count" in flags else min(cores, MOST)


def _cores() -> int:
    """Those that this process may use; macOS and Windows cannot tell them from those that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
