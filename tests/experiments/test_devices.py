"""A CPU as several devices: how many, and who decides. In processes of their own, as JAX asks for this once."""

import os
import subprocess
import sys

import pytest

from experiments import devices

PROGRAM = """
import jax
from experiments import devices

devices._cores = lambda: {cores}
devices.use_cores()
print(jax.device_count())
"""


@pytest.mark.parametrize(
    ("cores", "chosen", "number"),
    [
        (1, {}, 1),
        (2, {}, 2),
        (64, {}, devices.MOST),
        (2, {"JAX_NUM_CPU_DEVICES": "1"}, 1),
        (2, {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3),
    ],
)
def test_a_device_a_core_unless_a_person_has_chosen(cores, chosen, number):
    unset = {"XLA_FLAGS", "JAX_NUM_CPU_DEVICES"}
    environment = {name: value for name, value in os.environ.items() if name not in unset} | chosen
    command = [sys.executable, "-c", PROGRAM.format(cores=cores)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(said.stdout) == number
