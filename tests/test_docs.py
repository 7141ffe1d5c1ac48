"""What is written about the library is true: README blocks and docstring examples run, names and links exist."""

import ast
import doctest
import inspect
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
import gradtx.interop
import gradtx.testing

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "results").rglob("*.md")])

# A rename is a conscious act: it changes this list.
PUBLIC = [
    "DType", "Data", "Decay", "EmptyState", "GradientTransformation", "LearningRate", "LossOfOutputs", "Minimum",
    "NonNegative", "Outcome", "Positive", "Reason", "Scalar", "ScalarOrSchedule", "Schedule", "Static",
    "Transform", "adadelta", "adagrad", "adam", "adamw", "add_decayed_weights", "apply_updates", "batch_axes",
    "bias_correction", "chain", "clip", "clip_by_global_norm", "constant_schedule", "cosine_decay_schedule",
    "current", "ema", "exponential_decay", "from_config", "gauss_newton_cg", "global_norm", "identity",
    "join_schedules", "lbfgs", "linear_schedule", "map_leaves", "minimize", "momentum", "nag", "named_chain", "newton",
    "newton_cg", "piecewise_constant_schedule", "polynomial_schedule", "rmsprop", "safe_increment", "safe_sqrt",
    "scale", "scale_by_adadelta", "scale_by_adam", "scale_by_backtracking_linesearch", "scale_by_gauss_newton_cg",
    "scale_by_lbfgs", "scale_by_learning_rate", "scale_by_newton", "scale_by_newton_cg", "scale_by_rms",
    "scale_by_rss", "scale_by_schedule", "scale_by_stochastic_lbfgs", "scale_by_zoom_linesearch", "schedule",
    "set_to_zero", "sgd", "stateless", "stochastic_lbfgs", "to_config", "trace", "transformation", "value_at",
    "warmup_cosine_decay_schedule", "zeros_like",
]  # fmt: skip
ELSEWHERE = [
    "interop.as_optax",
    "interop.from_optax",
    "learned.load",
    "learned.lstm",
    "learned.lstm_weights",
    "learned.mlp",
    "learned.mlp_weights",
    "learned.origin",
    "learned.pretrained",
    "learned.pretrained_names",
    "learned.save",
    "learned.scale_by_lstm",
    "learned.scale_by_mlp",
    "testing.LAWS",
    "testing.LawBroken",
    "testing.check_transformation",
]


def test_the_public_api_is_the_one_that_is_listed() -> None:
    found = [name for name, value in vars(gradtx).items() if not name.startswith("_") and not inspect.ismodule(value)]
    assert sorted(found) == PUBLIC


def test_every_public_name_has_a_place_in_the_reference() -> None:
    directives = re.findall(r"^\.\. (?:auto|py:)\w+:: gradtx\.([\w.]+)", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert sorted(directives) == sorted([*PUBLIC, *ELSEWHERE])
    assert all(hasattr(getattr(gradtx, place), name) for place, _, name in (n.partition(".") for n in ELSEWHERE))


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
            gradtx.scale_by_rms(0.99, eps_in_sqrt=False), gradtx.momentum(0.9), gradtx.scale_by_learning_rate(0.01)
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
