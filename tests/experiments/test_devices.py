"""A CPU as several devices: how many, and who decides."""

import os
import subprocess
import sys

import pytest

from experiments import devices


@pytest.mark.parametrize(
    ("cores", "configured", "flags", "number"),
    [
        (1, 0, "", 1),
        (2, -1, "--xla_backend_optimization_level=0", 2),
        (64, 0, "", devices.MOST),
        (2, 1, "", None),
        (2, 0, "--xla_force_host_platform_device_count=3", None),
    ],
)
def test_a_device_a_core_unless_a_person_has_chosen(cores, configured, flags, number):
    assert devices.wanted(cores, configured, flags) == number


def test_a_person_s_choice_counts_where_the_cores_are_used():
    """In a process of its own, as JAX asks for this once; a person who has chosen gets that, and not a core each."""
    program = "import jax; from experiments import devices; devices.use_cores(); print(jax.device_count())"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "3", "JAX_PLATFORMS": "cpu"}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert int(said.stdout) == 3
