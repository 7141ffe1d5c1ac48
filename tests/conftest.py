"""How the tests run JAX: strict about dtypes and ranks, annotations executed, 8 virtual devices."""

import gc
import os
import pathlib
import random
import subprocess
import sys
import time
import uuid

import jax
import pytest
from jaxtyping import install_import_hook

from tests import annotations

# Tests compile far more than they run: without LLVM's optimizations the programs are made in half the time, and those
# that draw random numbers in a sixth; XLA's former emitters, which make less code, take a third off the rest where this
# XLA still has them. XLA's own optimizations stay. Processes that tests start inherit this.
QUICK_TO_COMPILE = ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")
MAKE_A_CLIENT = "from jaxlib import xla_client; xla_client.make_cpu_client()"


def known_to_xla(flags: tuple[str, ...]) -> list[str]:
    """The flags that this XLA has. One that it does not know ends the process, so each is tried in another."""
    tried = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE_A_CLIENT], env=os.environ | {"XLA_FLAGS": flag}, stderr=subprocess.DEVNULL
        )
        for flag in flags
    ]
    return [flag for flag, process in zip(flags, tried, strict=True) if process.wait() == 0]


# The workers of pytest-xdist inherit what their parent found. A person's flags are last, and so win.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XLA_FLAGS"] = " ".join([*known_to_xla(QUICK_TO_COMPILE), os.environ.get("XLA_FLAGS", "")]).strip()

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

install_import_hook("gradtx", f"{annotations.__name__}.{annotations.checked.__name__}")

# Traces and programs are many objects that live long: looking through them again and again is a sixth of the time.
gc.set_threshold(200_000, 50, 1000)

# Each compiled program is mapped into memory in several pieces. Linux allows a process 65,530 of them, and beyond that
# the compiler aborts, which a worker comes near to in the course of all tests.
MOST_MAPPINGS, LOOK_EVERY = 20_000, 5
MAPPINGS = pathlib.Path("/proc/self/maps")
_ran = 0
_began = time.monotonic()


def pytest_runtest_teardown() -> None:
    """Forget compiled programs before there are too many."""
    global _ran
    _ran += 1
    if _ran % LOOK_EVERY == 0 and MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "Run tests in a random order, and skip those that have not begun after so many minutes."
    parser.addoption("--minutes", type=float, metavar="N", help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asked for, and put tests that may not all have their turn into an order.

    All workers of a run agree on it.
    """
    if "exhaustive" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("exhaustive")]
        items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]
        config.hook.pytest_deselected(items=left_out)
    if config.getoption("--minutes"):
        run = getattr(config, "workerinput", {}).get("testrunuid") or uuid.uuid4().hex
        random.Random(run).shuffle(items)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what comes too late."""
    minutes = item.config.getoption("--minutes")
    if minutes and time.monotonic() - _began > 60 * minutes:
        pytest.skip(f"not begun after {minutes:g} minutes")


@pytest.fixture
def x64():
    """64-bit dtypes, for this test alone."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def standard_promotion():
    """JAX's default promotion: optax needs it (a count to the power of a float)."""
    with jax.numpy_dtype_promotion("standard"):
        yield
