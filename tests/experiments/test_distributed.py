"""Two processes with two devices each find what one process finds; the first alone prints and writes."""

import re
import socket

import numpy as np
import pytest
import xarray as xr

from experiments import distributed
from experiments.cli import FAILED, main
from experiments.errors import ExperimentError
from experiments.results import directory
from tests.experiments.processes import RUN, Place, finish

# What XLA prints of its connections, several threads at once and piece by piece.
GLOO = re.compile(r"\[Gloo\] Rank | is connected to | peer ranks\. |Expected number of connected peer ranks is : ")
TWO = {"JAX_NUM_CPU_DEVICES": "2"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def start_two(place: Place, *more: str, **environment: str):
    where = ["--coordinator", f"localhost:{free_port()}", "--processes", "2"]
    return [place.start([*RUN, *more, *where, "--process-id", str(i)], **TWO, **environment) for i in (0, 1)]


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path):
    alone, shared = (Place(tmp_path / name, tmp_path / "programs") for name in ("alone", "shared"))
    for place in (alone, shared):
        place.base.mkdir()
    assert finish(alone.start())[0] == 0

    first, second = start_two(shared, KILL=f"{shared.root}:25")  # the first; the second changes no file
    assert finish(first)[0] != 0
    second.kill()
    finish(second)
    ended = [finish(process) for process in start_two(shared)]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "on 4 devices with 1 x 2 each" in ended[0][1]
    assert str(directory(shared.root, "quickstart", "smoke")) in ended[0][1]
    assert (GLOO.sub("", ended[1][1]).strip("\n0123456789"), ended[1][2]) == ("", "")
    assert shared.files() == alone.files()

    found, expected = shared.read(), alone.read()
    assert found.keys() == expected.keys()
    for name in expected.data_vars:
        if expected[name].dtype.kind == "f":
            # Other programs (blocks of two rates, not of three), which may round differently.
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6, err_msg=str(name))
        else:
            xr.testing.assert_equal(found[name], expected[name])
    print(max(float(abs(found[name] / expected[name] - 1).max()) for name in ("train_loss", "test_loss")))

    again = [finish(process) for process in start_two(shared)]
    assert [code for code, _, _ in again] == [0, 0]
    assert "It is finished" in again[0][1]


@pytest.mark.slow
def test_what_fails_in_the_first_ends_both(tmp_path):
    place = Place(tmp_path, tmp_path)
    (tmp_path / "results").touch()
    (code, _, error), (other, _, told) = [finish(process) for process in start_two(place)]
    assert (code, other) == (2, 2)
    assert "cannot write results to" in error
    assert "process 0 failed: cannot write results to" in told or "process 0 failed: Not a directory" in told


def test_alone_nothing_is_sent():
    assert distributed.is_first()
    assert distributed.from_first(lambda: b"told") == b"told"
    assert distributed.from_first(lambda: None) is None
    assert distributed.agreed(True)
    assert not distributed.agreed(False)


def test_half_told_where_the_others_are(capsys):
    with pytest.raises(ExperimentError, match="belong together"):
        distributed.initialize("localhost:1", None, 0)
    for address in ("host", "host:", ":1234", "host:port", "host:70000", ""):
        with pytest.raises(ExperimentError, match=f"--coordinator must be HOST:PORT, .* got '{address}'"):
            distributed.initialize(address, 2, 0)
    assert main(["run", "quickstart", "--processes", "2"]) == FAILED
    assert capsys.readouterr().err.count("\n") == 1
