"""The command line: what works, and one clear line and an exit code for what does not."""

import resource
import subprocess
import sys

import pytest
import xarray as xr

from experiments import commands, comparison, store
from experiments.cli import FAILED, INTERRUPTED, main
from experiments.optimizers import OPTIMIZERS
from experiments.studies import STUDIES, Study, Tier
from experiments.studies.quickstart import STUDY
from experiments.tuning import Grid

TINY = Tier(epochs=1, seeds=3, batch_size=50, grid=Grid(-1, 1), estimate="no time", train_size=100)


@pytest.fixture
def tiny(monkeypatch):
    """The quickstart, made so small that it runs in seconds."""
    models = {"softmax regression": STUDY.models["softmax regression"]}
    study = Study("quickstart", "Which?", "digits", models, {"smoke": TINY, "cpu": TINY})
    monkeypatch.setitem(STUDIES, "quickstart", study)
    monkeypatch.setattr(comparison, "OPTIMIZERS", {name: OPTIMIZERS[name] for name in ("SGD", "NAG")})
    return study


@pytest.fixture
def no_training(monkeypatch, results):
    """A run whose training is made up."""
    monkeypatch.setattr(commands, "compare", lambda *_: results.copy())


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
        assert study.data in printed
        assert study.tiers["cpu"].estimate in printed


def test_help_is_quick():
    script = (
        "import sys; from experiments.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'jax', 'flax', 'matplotlib', 'xarray'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for command in ("list", "run", "report", "bench"):
        assert command in done.stdout


def test_run_then_report(tiny, tmp_path, capsys):
    arguments = ["run", "quickstart", "--tier", "smoke", "--seeds", "2"]
    assert main([*arguments, "--results", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    directory = tmp_path / "quickstart" / "smoke"
    assert str(directory) in captured.out
    assert "smoke: a small subset, not a result" in captured.out
    assert captured.err == ""
    names = ["figure.png", "figure.svg", "results.nc", "results.nc.sha256", "summary.json", "table.md"]
    assert sorted(file.name for file in directory.iterdir()) == names

    written = store.read(directory)
    assert written.sizes["seed"] == 2
    assert written.attrs["command"] == f"python -m experiments {' '.join(arguments)}"
    assert {"gradtx_version", "jax_version", "commit", "device", "date", "data_fingerprint"} <= set(written.attrs)

    table = captured.out[captured.out.index("quickstart (smoke") :].split("Done in")[0]
    (directory / "figure.png").unlink()
    assert main(["report", "quickstart", "--results", str(tmp_path)]) == 0
    assert table in capsys.readouterr().out
    assert (directory / "figure.png").exists()
    xr.testing.assert_identical(store.read(directory), written)


BAD = {
    "unknown study": (["run", "quikstart"], ["unknown study 'quikstart'", "did you mean 'quickstart'?"]),
    "nothing like it": (["run", "xyz"], ["unknown study 'xyz'", "quickstart, mnist-logistic"]),
    "unknown tier": (["run", "quickstart", "--tier", "gpu"], ["no tier 'gpu'", "smoke, cpu"]),
    "no seeds": (["run", "quickstart", "--seeds", "0"], ["--seeds must be at least 1, got 0"]),
    "no results": (["report", "quickstart"], ["no results of 'quickstart' in", "run quickstart"]),
    "no results at all": (["report"], ["no results in"]),
    "report of an unknown study": (["report", "xyz"], ["unknown study 'xyz'"]),
    "missing data": (["run", "mnist-logistic", "--data-dir", "nothing"], ["not prepared in", "pip install"]),
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


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("most", [0, 1_000, 20_000, 100_000], ids=lambda most: f"{most} bytes")
def test_a_disk_that_becomes_full(tmp_path, capsys, most):
    """The table was printed, so not all work is lost; of the files nothing is left.

    A limit on the size of files makes writes fail as a full disk does, at different files for different limits.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        code = main(["run", "quickstart", "--results", str(tmp_path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    printed = capsys.readouterr()
    assert code == FAILED
    assert "95.10" in printed.out
    assert printed.err.count("\n") == 1
    assert "cannot write results to" in printed.err
    assert "File too large" in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_training")
def test_ctrl_c_while_writing_leaves_the_former_results(tmp_path, capsys, monkeypatch):
    arguments = ["run", "quickstart", "--results", str(tmp_path)]
    assert main(arguments) == 0
    directory = tmp_path / "quickstart" / "cpu"
    before = {file.name: file.read_bytes() for file in directory.iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.report, "write", interrupt)
    capsys.readouterr()
    assert main(arguments) == INTERRUPTED
    assert capsys.readouterr().err == "experiments: interrupted\n"
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == before
    assert [file.name for file in directory.parent.iterdir()] == ["cpu"]


@pytest.mark.usefixtures("no_training")
def test_a_damaged_results_file(tmp_path, capsys):
    assert main(["run", "quickstart", "--results", str(tmp_path)]) == 0
    path = tmp_path / "quickstart" / "cpu" / store.RESULTS
    path.write_bytes(path.read_bytes()[:500])
    capsys.readouterr()
    fails(capsys, ["report", "--results", str(tmp_path)], str(path), "is damaged")


@pytest.mark.slow
def test_the_real_thing(tmp_path):
    """`python -m experiments run quickstart --tier smoke`, in a process of its own, with warnings as errors."""
    command = ["-m", "experiments", "run", "quickstart", "--tier", "smoke", "--results", str(tmp_path)]
    done = subprocess.run([sys.executable, "-W", "error", *command], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 0
    accuracy = store.read(tmp_path / "quickstart" / "smoke").test_accuracy
    assert accuracy.shape == (2, 7, 3)
    assert accuracy.mean("seed").min() > 0.8
