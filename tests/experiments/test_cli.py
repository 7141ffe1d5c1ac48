"""The command line: what works, and one clear line and an exit code for what does not."""

import dataclasses
import resource
import subprocess
import sys

import jax
import pytest
import xarray as xr

from experiments import atomic, commands, compilation, results, summary
from experiments.cli import FAILED, INTERRUPTED, main
from experiments.comparison import Stage, Training
from experiments.findings import SMOKE_WARNING
from experiments.studies import STUDIES
from experiments.study import Picture
from experiments.tuning import Grid
from tests.experiments import made_up
from tests.experiments.conftest import stamps

NAME = "made-up"
RUN = ["run", NAME, "--tier", "smoke"]


class Counted:
    """A study's run, which tells what it was asked for."""

    def __init__(self):
        self.tiers = []

    def __call__(self, tier, context):
        self.tiers.append(tier)
        context.plan("one lane")
        return context.store.part("all", lambda checkpoint: made_up.dataset())


TIER = Training(
    {}, epochs=1, seeds=3, batch_size=50, grid=Grid(-2, 2), tuning=Stage(1, 1), mode="map", estimate="no time"
)


@pytest.fixture(autouse=True)
def no_programs(monkeypatch):
    """The tests after these shall compile as those before."""
    monkeypatch.setattr(compilation, "keep_programs", lambda: None)


@pytest.fixture
def counted(monkeypatch) -> Counted:
    """A study that takes no time."""
    counted = Counted()
    study = made_up.study(NAME, tiers={"smoke": TIER, "cpu": TIER}, run=counted)
    monkeypatch.setitem(STUDIES, NAME, study)
    return counted


def fails(capsys, arguments, *words):
    """Run; check for exit code 2 and for one line on stderr with these words."""
    assert main(arguments) == FAILED
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("experiments: ")
    for word in words:
        assert word in error


def test_list(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for study in STUDIES.values():
        assert study.name in printed
        assert study.tiers["cpu"].estimate in printed


def test_help_is_quick():
    script = (
        "import sys; from experiments.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'jax', 'flax', 'matplotlib', 'xarray'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for command in ("list", "run", "status", "report", "bench"):
        assert command in done.stdout


def test_run_again_then_report(counted, tmp_path, capsys):
    arguments = [*RUN, "--seeds", "2", "--budget", "3"]
    where = ["--results", str(tmp_path)]
    assert main([*arguments, *where]) == 0
    captured = capsys.readouterr()
    place = tmp_path / NAME / "smoke"
    assert str(place) in captured.out
    assert SMOKE_WARNING in captured.out
    assert "Plan: one lane." in captured.out
    assert captured.err == ""
    assert (counted.tiers[0].seeds, counted.tiers[0].grid) == (2, Grid(-1, 1))
    names = ["line.png", "line.svg", "results.nc", "results.nc.sha256", "summary.json", "table.md"]
    assert sorted(file.name for file in place.iterdir()) == names
    written = results.read(place)
    assert written.attrs["command"] == f"python -m experiments {' '.join(arguments)}"
    assert {"gradtx_version", "jax_version", "commit", "device", "date", "spec"} <= set(written.attrs)

    before = stamps(tmp_path)
    assert main([*arguments, *where]) == 0
    printed = capsys.readouterr().out
    assert "It is finished: nothing is left to do" in printed
    assert f"{place}\n{place}.parts\n" in printed
    assert len(counted.tiers) == 1
    assert stamps(tmp_path) == before

    (place / "line.png").unlink()
    assert main(["report", *where]) == 0
    printed = capsys.readouterr().out
    assert "C1 supported" in printed
    assert str(tmp_path / "site" / "index.html") in printed
    assert (tmp_path / "site" / "index.html").exists()
    assert (place / "line.png").exists()
    xr.testing.assert_identical(results.read(place), written)

    assert main(["status", *where]) == 0
    assert "finished" in capsys.readouterr().out


def test_other_settings_begin_anew_and_keep_the_former_parts(counted, tmp_path, capsys):
    for seeds in ("2", "4"):
        assert main([*RUN, "--seeds", seeds, "--results", str(tmp_path)]) == 0
    assert "was made with other settings or data; it is now smoke.parts.former-1" in capsys.readouterr().out
    assert [tier.seeds for tier in counted.tiers] == [2, 4]
    kept = stamps(tmp_path / NAME / "smoke.parts.former-1")
    assert main([*RUN, "--seeds", "2", "--results", str(tmp_path)]) == 0
    assert "smoke.parts.former-1 was made with these settings and data; the run goes on" in capsys.readouterr().out
    again = stamps(tmp_path / NAME / "smoke.parts")
    part = "all.part"
    assert again[tmp_path / NAME / "smoke.parts" / part] == kept[tmp_path / NAME / "smoke.parts.former-1" / part]


def test_damaged_results_are_assembled_again_from_their_parts(counted, tmp_path, capsys):
    assert main([*RUN, "--results", str(tmp_path)]) == 0
    path = tmp_path / NAME / "smoke" / results.RESULTS
    path.write_bytes(path.read_bytes()[:500])
    capsys.readouterr()
    fails(capsys, ["report", "--results", str(tmp_path)], str(path), "is damaged")
    assert main([*RUN, "--results", str(tmp_path)]) == 0
    assert "is damaged" in capsys.readouterr().out
    assert "y" in results.read(path.parent)


def test_the_report_leaves_out_what_is_damaged(counted, tmp_path, capsys, monkeypatch):
    where = ["--results", str(tmp_path)]
    monkeypatch.setitem(STUDIES, "another", made_up.study("another", tiers={"smoke": TIER}, run=counted))
    for name in (NAME, "another"):
        assert main(["run", name, "--tier", "smoke", *where]) == 0
    (tmp_path / "another" / "smoke" / results.RESULTS).write_bytes(b"half")
    capsys.readouterr()
    fails(capsys, ["report", *where], "left out of the report", "another/smoke/results.nc is damaged")
    front = (tmp_path / "site" / "index.html").read_text()
    assert "Left out: " in front
    assert f"{NAME}-smoke.html" in front
    assert "another-smoke.html" not in front
    assert (tmp_path / summary.CLAIMS).stat().st_mode & 0o777 == 0o666 & ~atomic.umask()


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("failure", [BrokenPipeError, UnicodeEncodeError], ids=lambda failure: failure.__name__)
def test_what_cannot_be_printed_is_written(failure, tmp_path, monkeypatch):
    def fail(*_):
        raise failure(*("ascii", "–", 0, 1, "not in it") if failure is UnicodeEncodeError else ())

    monkeypatch.setattr(summary, "show", fail)
    with pytest.raises(failure):
        main([*RUN, "--results", str(tmp_path)])
    assert "y" in results.read(tmp_path / NAME / "smoke")


def test_a_picture_that_cannot_be_drawn_is_named_with_its_reason(counted, tmp_path, capsys, monkeypatch):
    """All else is written, and the exit code tells."""
    broken = [Picture("bad", "A caption.", made_up.fails), *made_up.study().pictures]
    monkeypatch.setitem(STUDIES, NAME, dataclasses.replace(STUDIES[NAME], pictures=broken))
    where, place = ["--results", str(tmp_path)], tmp_path / NAME / "smoke"
    reason = "the picture 'bad' of made-up cannot be drawn (KeyError: "
    fails(capsys, [*RUN, *where], f"the results are written to {place}, but {reason}", "experiments/picture.py, line ")
    assert "y" in results.read(place)
    assert (place / "line.svg").exists()
    fails(capsys, ["report", *where], f"left out of the report: {reason}")
    assert (tmp_path / "site" / "index.html").exists()
    monkeypatch.setitem(STUDIES, NAME, dataclasses.replace(STUDIES[NAME], pictures=broken[1:]))
    assert main(["report", *where]) == 0
    assert len(counted.tiers) == 1


def test_nothing_was_begun(tmp_path, capsys):
    assert main(["status", "--results", str(tmp_path)]) == 0
    assert f"Nothing was run in {tmp_path} yet." in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


BAD = {
    "unknown study": (["run", "quikstart"], ["unknown study 'quikstart'", "did you mean 'quickstart'?"]),
    "nothing like it": (["run", "xyz"], ["unknown study 'xyz'", "quickstart, "]),
    "unknown tier": (["run", "quickstart", "--tier", "gpu"], ["no tier 'gpu'", "smoke, cpu"]),
    "no seeds": (["run", "quickstart", "--seeds", "0"], ["--seeds must be from 1 to 1000, got 0"]),
    "too many seeds": (["run", "quickstart", "--seeds", f"1{'0' * 20}"], ["--seeds must be from 1 to 1000, got 1000"]),
    "no budget": (["run", "quickstart", "--budget", "-1"], ["--budget must be from 1 to 100, got -1"]),
    "too large a budget": (["run", "quickstart", "--budget", "2000"], ["--budget must be from 1 to 100, got 2000"]),
    "seeds of no use": (["run", "saddle", "--seeds", "2"], ["'saddle' has no --seeds"]),
    "no results": (["report", "quickstart"], ["no results of 'quickstart' in", "run quickstart"]),
    "no results at all": (["report"], ["no results in"]),
    "unknown benchmark": (["bench", "stop"], ["unknown benchmark 'stop'", "step, sweep"]),
    "report of an unknown study": (["report", "xyz"], ["unknown study 'xyz'"]),
    "status of an unknown study": (["status", "xyz"], ["unknown study 'xyz'"]),
    "missing data": (["run", "mnist-logistic", "--data-dir", "nothing"], ["not prepared in", "pip install"]),
    "half of a cluster": (["run", "quickstart", "--process-id", "1"], ["belong together"]),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input(bad, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiments.prepared.PREPARING_NEEDS", ("a_package_nobody_has",))
    arguments, words = BAD[bad]
    fails(capsys, arguments, *words)
    assert list(tmp_path.iterdir()) == []


def test_results_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").touch()
    arguments = ["run", "quickstart", "--results", str(tmp_path / "file")]
    fails(capsys, arguments, "cannot write results to", "Not a directory")


def test_a_disk_that_is_full_from_the_start(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands, "NEEDED_BYTES", 2**62)
    arguments = ["run", "quickstart", "--results", str(tmp_path)]
    fails(capsys, arguments, "cannot write results to", "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("most", [0, 100, 8_000, 11_000], ids=lambda most: f"{most} bytes")
def test_a_disk_that_becomes_full(tmp_path, capsys, most):
    """No half-written results; what was done is kept, and used when there is room.

    A limit on the size of files makes writes fail as a full disk does, at different files for different limits.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        code = main([*RUN, "--results", str(tmp_path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    printed = capsys.readouterr()
    assert code == FAILED
    assert printed.err.count("\n") == 1
    assert "File too large" in printed.err
    assert not (tmp_path / NAME / "smoke").exists()
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {".smoke.parts.lock", "spec.txt", "options.json", "all.part"}
    assert main([*RUN, "--results", str(tmp_path)]) == 0


@pytest.mark.usefixtures("counted")
def test_ctrl_c_while_writing_leaves_the_former_results(tmp_path, capsys, monkeypatch):
    arguments = [*RUN, "--results", str(tmp_path)]
    assert main(arguments) == 0
    place = tmp_path / NAME / "smoke"
    before = {file.name: file.read_bytes() for file in place.iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(summary, "as_markdown", interrupt)
    capsys.readouterr()
    assert main([*arguments, "--seeds", "1"]) == INTERRUPTED
    assert capsys.readouterr().err == "experiments: interrupted\n"
    assert {file.name: file.read_bytes() for file in place.iterdir()} == before
    assert not [path for path in place.parent.iterdir() if ".new-" in path.name]


def test_programs_are_kept_where_the_cache_is(cache, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("GRADTX_CACHE", str(cache))
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    try:
        jax.config.update(names[0], None)
        compilation.keep_programs()
        assert getattr(jax.config, names[0]) == str(cache / "programs")
        jax.config.update(names[0], "a person's choice")
        compilation.keep_programs()
        assert getattr(jax.config, names[0]) == "a person's choice"
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
