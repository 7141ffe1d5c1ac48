"""What is written about the library is true: README blocks and docstring examples run, links lead somewhere."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "results").rglob("*.md")])


def blocks(text: str, language: str) -> str:
    """The code blocks of a page, each on the lines where it stands, and nothing else."""
    lines, inside = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside and line == f"```{language}"
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines)


@pytest.mark.slow
def test_the_readme_runs() -> None:
    """In an interpreter of its own, so that an import which it forgets is missed; and as strictly as the tests."""
    code = blocks((ROOT / "README.md").read_text(), "python")
    assert code.strip()
    strict = {
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_NUM_CPU_DEVICES": "8",
        "JAX_PLATFORMS": "cpu",
    }
    # Errors name the line of the README.
    run = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input=code,
        text=True,
        capture_output=True,
        cwd=ROOT,
        env=os.environ | strict,
    )
    assert run.returncode == 0, run.stderr


@pytest.fixture
def extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of the documentation's build can be imported."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")


@pytest.mark.usefixtures("extensions")
def test_the_reference_lists_itself() -> None:
    """Every public name, once, under a heading."""
    public_api = importlib.import_module("public_api")
    text = public_api.reference()
    listed = re.findall(r"^\.\. (?:auto|py:)\w+:: gradtx\.([\w.]+)", text, re.M)
    public = [name for name, value in vars(gradtx).items() if not name.startswith("_") and not inspect.ismodule(value)]
    assert sorted(name for name in listed if "." not in name) == sorted(set(public) - {"TYPE_CHECKING"})
    assert {"learned.mlp", "testing.LAWS", "testing.check_transformation", "interop.from_optax"} <= {*listed}
    assert "## More" not in text


@pytest.mark.usefixtures("extensions")
def test_every_argument_is_documented() -> None:
    """By the class itself, or by the part that a recipe hands it to."""
    docstrings, public_api = (importlib.import_module(name) for name in ("docstrings", "public_api"))
    for module in ("gradtx", "gradtx.learned"):
        for name in (name for _, names in public_api.exports(module) for name in names):
            cls = getattr(importlib.import_module(module), name)
            if hasattr(cls, "replace"):
                # A constructor of one's own has other arguments than fields.
                own = set() if cls._takes_fields else set(inspect.signature(cls.__init__).parameters) - {"self"}
                arguments = own or {field.name for field in dataclasses.fields(cls)}
                missing = arguments - docstrings.all_entries(cls).keys()
                assert not missing, f"{name} says nothing about {missing}"


@pytest.mark.usefixtures("extensions")
def test_the_table_of_optax_names_has_every_name() -> None:
    table = importlib.import_module("optax_names").table()
    names = set(re.findall(r"^\| `(?:\w+\.)?(\w+)` \|", table, re.M))
    assert {"adam", "lion", "inject_hyperparams", "MultiSteps", "softmax_cross_entropy", "muon"} <= names
    public = {name for name in vars(optax) if not name.startswith("_") and not name.endswith("State")} | {"OptState"}
    modules = {name for name in public if inspect.ismodule(getattr(optax, name))}
    assert not public - names - modules


def examples() -> list[doctest.DocTest]:
    """The examples of all docstrings. By source: `doctest`'s own finder does not look behind decorators."""
    names = {"gradtx": gradtx, "jax": jax, "jnp": jnp, "train": lambda tx: None}
    found = []
    for path in sorted((ROOT / "gradtx").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                name = f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}"
                line = node.body[0].lineno if node.body else 0
                found.append(doctest.DocTestParser().get_doctest(text, dict(names), name, str(path), line))
    return [example for example in found if example.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_docstring_examples_run(example: doctest.DocTest) -> None:
    report: list[str] = []
    failed, tried = doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert tried
    assert not failed, "".join(report)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: pathlib.Path) -> None:
    prose = re.sub(r"^(```|:::).*?^\1$|^%.*?$|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", prose)
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not broken, f"{page.name} links to {broken}"


PYTORCH = {
    "SGD": ({"lr": 0.1, "momentum": 0.9}, gradtx.sgd(0.1, 0.9)),
    "SGD, Nesterov": ({"lr": 0.1, "momentum": 0.9, "nesterov": True}, gradtx.sgd(0.1, 0.9, nesterov=True)),
    "Adagrad": ({}, gradtx.adagrad(0.01, initial_accumulator_value=0.0, eps=1e-10, eps_in_sqrt=False)),
    "Adadelta": ({}, gradtx.adadelta()),
    "RMSprop": ({}, gradtx.rmsprop(0.01, decay=0.99, eps_in_sqrt=False)),
    "RMSprop, momentum": (
        {"momentum": 0.9},
        gradtx.chain(
            gradtx.scale_by_rms(0.99, eps_in_sqrt=False), gradtx.trace(0.9), gradtx.scale_by_learning_rate(0.01)
        ),
    ),
    "Adam": ({}, gradtx.adam(1e-3)),
    "Adam, weight decay": ({"weight_decay": 0.1}, gradtx.chain(gradtx.add_decayed_weights(0.1), gradtx.adam(1e-3))),
    "AdamW": ({}, gradtx.adamw(1e-3, weight_decay=1e-2)),
}


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", PYTORCH)
def test_variants_of_the_table_are_pytorchs(name: str) -> None:
    """`docs/differences.md` says how to write PyTorch's methods."""
    torch = pytest.importorskip("torch")
    arguments, tx = PYTORCH[name]
    rng = np.random.default_rng(0)
    # Of many sizes, so that it matters where eps stands.
    gradients = rng.normal(size=(20, 8)) * 10.0 ** rng.integers(-6, 3, size=8)
    start = rng.normal(size=8)

    theirs = torch.tensor(start, requires_grad=True)
    peer = getattr(torch.optim, name.partition(",")[0])([theirs], **arguments)
    ours = jnp.asarray(start)
    state = tx.init(ours)
    for gradient in gradients:
        theirs.grad = torch.tensor(gradient)
        peer.step()
        updates, state = tx.update(jnp.asarray(gradient), state, ours)
        ours = gradtx.apply_updates(ours, updates)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12)
