"""How the library's source is kept: short files, and types that say something."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted((ROOT / "gradtx").rglob("*.py"))
LONGEST = 400
ANY_SHARE = 0.05


def test_no_file_is_longer_than_a_few_screens() -> None:
    sources = [*SOURCES, *sorted((ROOT / "tests" / "gradtx").rglob("*.py"))]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def parameters(path: pathlib.Path) -> list[tuple[str, str]]:
    """The annotated parameters of a file's functions: where each is, and its annotation."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            place = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
            given = [child for child in ast.walk(node.args) if isinstance(child, ast.arg) and child.annotation]
            found += [(f"{place}({each.arg})", ast.unparse(each.annotation)) for each in given if each.annotation]
    return found


def test_few_parameters_are_any() -> None:
    """`Any` turns the checks of pyright and beartype off; `PyTree` and the like say at least what is meant."""
    every = [parameter for path in SOURCES for parameter in parameters(path)]
    loose = [where for where, annotation in every if annotation in ("Any", "Any | None")]
    assert len(loose) <= ANY_SHARE * len(every), f"{len(loose)} of {len(every)} are Any:\n" + "\n".join(loose)
