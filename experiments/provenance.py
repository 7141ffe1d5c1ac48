"""Where results come from: what ran, on what, with which versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import jax

PACKAGES = ("gradtx", "jax", "jaxlib", "flax", "numpy", "scipy")


def describe(command: str) -> dict[str, str]:
    """Provenance as text, for the attributes of a results file made by `command`."""
    device = jax.devices()[0]
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform}), {os.cpu_count()} CPU cores",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        **{f"{package}_version": importlib.metadata.version(package) for package in PACKAGES},
    }


def _commit() -> str:
    """The commit of the source, marked if files differ from it; `unknown` outside a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with changes" if changed else commit
