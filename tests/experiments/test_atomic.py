"""Whatever happens on the way, what was there before is whole, and nothing else is left."""

import os
import pathlib
import signal
import subprocess
import sys
from contextlib import AbstractContextManager

import pytest

from experiments import atomic

FAILURES = [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("a bug")]


def fail_in(opened: AbstractContextManager[pathlib.Path], name: str, failure: BaseException) -> None:
    """Write something where the context says, then fail."""
    with opened as place:
        (place / name).write_text("half")
        raise failure


def content(directory: pathlib.Path) -> dict[str, str]:
    return {str(file.relative_to(directory)): file.read_text() for file in directory.rglob("*") if file.is_file()}


def test_a_directory_takes_the_place_of_the_former(tmp_path):
    for text in ("one", "two"):
        with atomic.new_directory(tmp_path / "deep" / "run") as staged:
            (staged / f"{text}.txt").write_text(text)
    assert content(tmp_path) == {"deep/run/two.txt": "two"}


def test_a_directory_may_have_directories_in_it(tmp_path):
    with atomic.new_directory(tmp_path / "site") as staged:
        (staged / "pictures").mkdir()
        (staged / "pictures" / "a.svg").write_text("picture")
    assert (tmp_path / "site" / "pictures" / "a.svg").read_text() == "picture"


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_failure_leaves_the_former_directory(tmp_path, failure):
    with atomic.new_directory(tmp_path / "run") as staged:
        (staged / "a.txt").write_text("former")
    with pytest.raises(type(failure)):
        fail_in(atomic.new_directory(tmp_path / "run"), "a.txt", failure)
    assert content(tmp_path) == {"run/a.txt": "former"}
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_a_failure_leaves_no_empty_directories(tmp_path):
    with pytest.raises(OSError, match="full"), atomic.new_directory(tmp_path / "a" / "b" / "run"):
        raise OSError(28, "full")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_rename_brings_the_former_directory_back(tmp_path, monkeypatch):
    with atomic.new_directory(tmp_path / "run") as staged:
        (staged / "a.txt").write_text("former")
    rename = os.replace

    def refuse_the_new(source, target):
        if ".new-" in str(source):
            raise PermissionError(13, "refused")
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse_the_new)
    with pytest.raises(PermissionError), atomic.new_directory(tmp_path / "run") as staged:
        (staged / "a.txt").write_text("new")
    assert content(tmp_path) == {"run/a.txt": "former"}


def test_a_process_killed_while_writing_leaves_the_former_directory(tmp_path):
    with atomic.new_directory(tmp_path / "run") as staged:
        (staged / "a.txt").write_text("former")
    script = (
        "import os, pathlib, signal; from experiments import atomic\n"
        f"with atomic.new_directory(pathlib.Path({str(tmp_path / 'run')!r})) as staged:\n"
        "    (staged / 'a.txt').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert content(tmp_path / "run") == {"a.txt": "former"}


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_failure_leaves_the_former_file(tmp_path, failure):
    path = tmp_path / "file.txt"
    path.write_text("former")
    with pytest.raises(type(failure)):
        fail_in(atomic.new_file(path), "", failure)
    assert content(tmp_path) == {"file.txt": "former"}


def test_a_results_directory_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").mkdir()
    with atomic.new_directory(tmp_path / "run"):
        pass
    assert (tmp_path / "run").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_cannot_be_written_is_found_early(tmp_path):
    (tmp_path / "file").touch()
    atomic.check_writable(tmp_path / "new" / "run", free_bytes=1)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    with pytest.raises(NotADirectoryError):
        atomic.check_writable(tmp_path / "file" / "run", free_bytes=1)
    with pytest.raises(OSError, match="No space left"):
        atomic.check_writable(tmp_path / "run", free_bytes=2**62)
    with pytest.raises(OSError, match="/proc"):  # where not even root can write
        atomic.check_writable(pathlib.Path("/proc/run"), free_bytes=0)
