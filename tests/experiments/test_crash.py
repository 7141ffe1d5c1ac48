"""A run that is killed at any point goes on and ends as if nothing had been; two runs do not meet in one place."""

import random
import signal
import time

import pytest
import xarray as xr

from experiments import compilation, results
from experiments.cli import FAILED, main
from tests.experiments.processes import RUN, Place, finish

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Place:
    """A run that nobody disturbs."""
    place = Place(tmp_path_factory.mktemp("reference"), tmp_path_factory.mktemp("programs"))
    code, _, error = finish(place.start())
    assert (code, error) == (0, "")
    return place


def test_killed_at_many_points_it_ends_the_same(reference, tmp_path):
    place, rng, kills = Place(tmp_path, reference.cache), random.Random(7), 0
    for number in range(4):
        before = place.calls
        if number % 2:  # at a change of a file
            process = place.start(KILL=f"{place.root}:{rng.randint(1, 40)}")
        else:  # at any time after some calls
            process, calls = place.start(), rng.randint(1, 5)
            while process.poll() is None and place.calls < before + calls:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        assert finish(process)[0] == -signal.SIGKILL, number
        kills += 1
    for nth in (1, 6):  # while the results are written
        assert finish(place.start(KILL=f"{place.root}/quickstart/.smoke.new-:{nth}"))[0] == -signal.SIGKILL
        kills += 1
    code, _, error = finish(place.start())
    assert (code, error) == (0, "")
    xr.testing.assert_identical(place.read(), reference.read())
    assert place.files() == reference.files()
    assert reference.calls <= place.calls <= reference.calls + kills
    print(f"{kills} kills, {place.calls} calls instead of {reference.calls}")


def test_killed_while_former_results_step_aside(reference, tmp_path):
    """Results of other settings are in place. They are kept, whichever moment the process dies at."""
    place = Place(tmp_path, reference.cache)
    assert finish(place.start([*RUN, "--seeds", "1"]))[0] == 0
    former, aside = place.read(), place.root / "quickstart" / "smoke.former-1"
    assert finish(place.start(KILL=f"{aside}:1"))[0] == -signal.SIGKILL
    xr.testing.assert_identical(place.read(), former)
    (place.root / "quickstart" / "smoke").rename(aside)  # as if it had died just after
    assert finish(place.start())[0] == 0
    xr.testing.assert_identical(place.read(), reference.read())
    xr.testing.assert_identical(xr.load_dataset(aside / results.RESULTS)[list(former)].drop_attrs(), former)
    assert not [name for name in place.files() if ".new-" in name]


def test_a_program_in_the_cache_that_was_half_written(reference, tmp_path):
    place = Place(tmp_path / "run", tmp_path / "programs")
    place.base.mkdir()
    for file in (reference.cache / "programs").iterdir():
        (place.cache / "programs").mkdir(parents=True, exist_ok=True)
        content = file.read_bytes()
        (place.cache / "programs" / file.name).write_bytes(content[: len(content) // 2])
    code, _, error = finish(place.start())
    assert (code, error) == (0, "")
    xr.testing.assert_identical(place.read(), reference.read())


def test_others_in_the_same_place_while_it_runs(reference, tmp_path, capsys, monkeypatch):
    """The others are this process, which stops before it trains."""
    monkeypatch.setattr(compilation, "keep_programs", lambda: None)
    place = Place(tmp_path, reference.cache)
    first = place.start(HOLD=str(tmp_path / "go on"))
    while first.poll() is None and place.calls < 3:
        time.sleep(0.01)
    where = ["--results", str(place.root)]
    assert main([*RUN, *where]) == FAILED
    error = capsys.readouterr().err
    assert f"another run is at work in {place.root / 'quickstart' / 'smoke.parts'} (process {first.pid})" in error
    assert error.count("\n") == 1
    assert main(["status", *where]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "running" in shown.out
    assert main(["report", *where]) == FAILED
    assert "no results in" in capsys.readouterr().err
    (tmp_path / "go on").touch()
    code, _, error = finish(first)
    assert (code, error) == (0, "")
    xr.testing.assert_identical(place.read(), reference.read())
    assert place.files() == reference.files()
