"""One run in several processes, on one machine or on many, each with some of the devices.

All processes run the same program, and each computes its lanes. Process 0 alone prints, reads and writes what is kept
of the run, and sends the others what it read. The data set alone is read by each process, from its own disk or a
shared one.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.errors import ExperimentError, one_line

_NOTHING, _CONTENT, _ERROR = range(3)


def initialize(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    """Join the other processes. Before anything is computed.

    Args:
        coordinator: `host:port` of process 0, the same in each process. Without it, all is asked of the cluster's
            scheduler (Slurm, Open MPI, Kubernetes, Cloud TPU).
        processes: How many there are.
        process_id: Which this is, from 0.

    Raises:
        ExperimentError: The arguments do not fit together, or the others were not reached.
    """
    if (coordinator is None, processes is None, process_id is None) not in ((True,) * 3, (False,) * 3):
        raise ExperimentError("--coordinator, --processes and --process-id belong together: give all three")
    if coordinator is not None and not _is_address(coordinator):
        raise ExperimentError(f"--coordinator must be HOST:PORT, such as localhost:1234, got {coordinator!r}")
    try:
        jax.distributed.initialize(coordinator, processes, process_id)
    except (ValueError, RuntimeError) as error:
        raise ExperimentError(f"cannot join the other processes: {one_line(error)}") from error


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 1 << 16


def is_first() -> bool:
    """Whether this process prints and writes."""
    return jax.process_index() == 0


def from_first(action: Callable[[], bytes | None]) -> bytes | None:
    """What `action` returns in process 0, the only one to call it; all others wait, and get the same.

    Raises:
        ExperimentError: The action failed. In process 0 its own exception is raised.
    """
    if jax.process_count() == 1:
        return action()
    kind, content, failure = _NOTHING, b"", None
    if is_first():
        try:
            found = action()
            kind, content = (_NOTHING, b"") if found is None else (_CONTENT, found)
        except Exception as error:
            kind, content, failure = _ERROR, one_line(error).encode(), error
    kind, length = multihost_utils.broadcast_one_to_all(np.array([kind, len(content)], np.int32)).tolist()
    if length:
        sent = np.zeros(1 << (length - 1).bit_length(), np.uint8)  # few sizes: a program is compiled for each
        sent[: len(content)] = np.frombuffer(content, np.uint8)
        content = multihost_utils.broadcast_one_to_all(sent)[:length].tobytes()
    if failure is not None:
        raise failure
    if kind == _ERROR:
        raise ExperimentError(f"process 0 failed: {content.decode(errors='replace')}")
    return content if kind == _CONTENT else None


def agreed(answer: bool) -> bool:
    """Process 0's answer to a question on which processes may differ, such as whether time is up."""
    return from_first(lambda: b"" if answer else None) is not None
