"""What the README and the pages print type-checks as it is printed, with the checker's usual settings."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.M | re.S)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
NOTEBOOKS_ONLY = re.compile(r'Import "IPython[\w.]*" could not be resolved')  # of the docs' extra, not of the tests'
FRAGMENTS = {"contract.md"}  # its plain blocks show the shape of a loop, with names from nowhere


def code(page: pathlib.Path) -> str:
    """The Python of a page, each line where it stands there."""
    text = page.read_text()
    found = [*CELL.finditer(text), *([] if page.name in FRAGMENTS else BLOCK.finditer(text))]
    lines = [""] * (text.count("\n") + 1)
    for match in found:
        start = text[: match.start(1)].count("\n")
        for i, line in enumerate(match[1].splitlines()):
            lines[start + i] = "" if line.startswith(":tags:") else line
    return "\n".join(lines)


@pytest.mark.slow
def test_pages_type_check(tmp_path: pathlib.Path) -> None:
    for page in PAGES:
        if (source := code(page)).strip():
            (tmp_path / f"{page.stem.replace('-', '_').lower()}.py").write_text(source)
    config = {
        "pythonVersion": "3.11",
        "extraPaths": [str(ROOT)],
        "reportUnusedExpression": False,  # what a cell ends with is shown
        "reportPossiblyUnboundVariable": False,  # a loop over batches runs
        "reportIncompatibleMethodOverride": False,  # as in pyproject.toml
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    run = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    report = json.loads(run.stdout)
    wrong = [
        f"{pathlib.Path(each['file']).stem}:{each['range']['start']['line'] + 1}: {each['message']}"
        for each in report["generalDiagnostics"]
        if each["severity"] == "error" and not NOTEBOOKS_ONLY.search(each["message"])
    ]
    assert report["summary"]["filesAnalyzed"] > 8, run.stdout
    assert not wrong, "\n".join(wrong)
