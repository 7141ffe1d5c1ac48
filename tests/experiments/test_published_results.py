"""The results that the docs show are what is made of the published data, and meet the figures that were set."""

import pathlib
import re

import numpy as np
import pytest

from experiments import findings, results, sealed, summary
from experiments.comparison import DEFAULT, TUNED
from experiments.findings import StudyResults
from experiments.readings import final_accuracies
from experiments.studies import STUDIES

ROOT = pathlib.Path(__file__).parents[2] / "docs" / "results"
METHODS = ("lbfgs", "scipy", "optax")
PUBLISHED = sorted(path.parent for path in ROOT.glob("*/*/results.nc"))


def read(directory: pathlib.Path) -> StudyResults:
    return StudyResults(STUDIES[directory.parent.name], directory.name, results.read(directory))


@pytest.mark.slow
@pytest.mark.parametrize("directory", PUBLISHED, ids=lambda directory: directory.parent.name)
def test_tables_and_verdicts_are_those_of_the_data(directory: pathlib.Path):
    """A rule or a table that changes must be published anew: `python -m experiments report --results docs/results`."""
    one = read(directory)
    assert summary.as_json(one) == (directory / summary.JSON).read_text()
    assert summary.as_markdown(one) == (directory / summary.MARKDOWN).read_text()
    assert one.dataset.attrs["tier"] == directory.name == "cpu"
    assert set(summary.claims([one]).splitlines()) <= set((ROOT / summary.CLAIMS).read_text().splitlines())
    for picture in one.study.pictures:
        assert (directory / f"{picture.name}.png").stat().st_size > 1000


@pytest.mark.parametrize("directory", PUBLISHED, ids=lambda directory: directory.parent.name)
def test_results_are_of_the_settings_that_the_command_has_today(directory: pathlib.Path):
    attributes = results.read(directory).attrs
    study = STUDIES[directory.parent.name]
    spec = study.spec(study.tiers["cpu"], attributes.get("data_fingerprint"))
    assert attributes["command"] == f"python -m experiments run {study.name} --tier cpu"
    assert attributes["spec"] == sealed.checksum(spec.encode())


def test_the_table_of_claims_is_whole():
    """Each claim once, in order; the test above compares the lines."""
    head, rule, *rows = (ROOT / summary.CLAIMS).read_text().splitlines()
    assert [head, rule] == summary.claims([]).splitlines()
    claims = [claim.name for directory in PUBLISHED for claim in STUDIES[directory.parent.name].claims]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == sorted(claims, key=findings.order)


def means(study: str, model: str, track: str = TUNED, epoch: int | None = None) -> dict[str, float]:
    accuracies = final_accuracies(results.read(ROOT / study / "cpu"), model, track, epoch)
    return {name: 100 * float(np.mean(values)) for name, values in accuracies.items()}


def test_softmax_regression_on_mnist():
    # Published: 92.5 % (Theano's tutorial). Each tuned optimizer 92.2 to 92.9 %, at most half a point apart.
    found = means("mnist-logistic", "softmax regression")
    assert len(found) == 7
    assert all(92.2 <= accuracy <= 92.9 for accuracy in found.values())
    assert max(found.values()) - min(found.values()) <= 0.5


def test_mlp_on_mnist():
    # Published: 98.35 % (Theano, one hidden layer of 500), 98.40 % (Keras, 2x512 with dropout).
    found = means("mnist-mlp", "MLP 784-500-500-10")
    assert max(found.values()) >= 98.2
    assert all(found[name] >= 98.0 for name in ("Adam", "RMSprop", "Momentum", "NAG"))
    assert found["SGD"] >= 97.8


def test_lenet_on_mnist():
    # Published: 99.05 % (LeCun et al., 1998), 99.08 % (Theano), after more epochs.
    assert max(means("mnist-lenet", "LeNet-5").values()) >= 98.7


def test_2c2d_on_fashion_mnist():
    # Published over ten seeds (DeepOBS): 85.3 ± 0.6 % after one epoch, 87.6 ± 0.3 % after two.
    assert means("fashion-2c2d", "2c2d", DEFAULT, 1)["Adam"] >= 84.1
    assert means("fashion-2c2d", "2c2d", DEFAULT, 2)["Adam"] >= 86.9


def test_3c3d_on_cifar10():
    # Published over ten seeds (DeepOBS): 54.2 ± 1.3 % after one epoch, 72.0 ± 0.9 % after five.
    assert means("cifar-3c3d", "3c3d", DEFAULT, 1)["Adam"] >= 51
    assert means("cifar-3c3d", "3c3d", DEFAULT, 5)["Adam"] >= 70


def test_what_is_said_of_minimisers_is_what_their_table_says():
    """`bench minimize` published anew, or a sentence that claims more: one of them has to follow."""
    lines = (ROOT / "bench-minimize.txt").read_text(encoding="utf-8").splitlines()
    split = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│float")]
    table = {name: cells for name, *cells in split}
    double, single = (
        [table[f"{precision}, {method}"][0] for method in METHODS] for precision in ("float64", "float32")
    )
    against_scipy, against_optax = (re.split(r" \(|–|\)", cell)[:3] for cell in table["float64, lbfgs"][3:])
    solved = "it solves {} in float64 (SciPy's L-BFGS-B {}, optax {}) and {} in float32 (SciPy's {}, optax {})."
    means = "is {} of SciPy's, on single problems {} to {}, and {} of optax's, {} to {}."
    page = " ".join((ROOT.parent / "differences.md").read_text(encoding="utf-8").split())
    assert solved.format(*double, *single) in page
    assert means.format(*against_scipy, *against_optax) in page
