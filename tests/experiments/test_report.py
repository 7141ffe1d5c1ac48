"""The table and the picture say what the results say."""

import json
import math

import numpy as np
import pytest
from rich.console import Console

from experiments import figure, report
from experiments.optimizers import OPTIMIZERS


def test_ranked_by_test_accuracy_with_the_diverged_last(results):
    rows = report.rank(results)["a model"]
    assert [row.optimizer for row in rows] == ["RMSprop", "Adadelta", "Adagrad", "NAG", "Momentum", "SGD", "Adam"]
    assert [row.rank for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert rows[-1].cells()[2:] == ("all diverged", "–", "–", "–", "1.0")


def test_a_row(results):
    best = report.rank(results)["a model"][0]
    assert best.learning_rate == 0.1
    # The seeds' accuracies are 0.950, 0.951, 0.952; t(0.975, 2) = 4.302653.
    assert best.test_accuracy.mean == pytest.approx(0.951)
    assert best.test_accuracy.high - 0.951 == pytest.approx(4.302653 * 0.001 / math.sqrt(3), rel=1e-6)
    final = results.validation_accuracy.sel(optimizer="RMSprop", learning_rate=0.1, epoch=4).mean()
    assert best.validation_accuracy == pytest.approx(float(final))


def test_a_choice_at_the_edge_is_marked_and_explained(results):
    assert report.rank(results)["a model"][5].cells()[1:3] == ("SGD", "0.1*")
    assert report.EDGE_NOTE in report.notes(results)
    results["edge"][:] = "none"
    assert report.EDGE_NOTE not in report.notes(results)


def test_a_smoke_run_says_so_everywhere(results, tmp_path):
    results.attrs["tier"] = "smoke"
    report.write(results, tmp_path)
    assert "not a result" in (tmp_path / "table.md").read_text()
    assert "not a result" in figure.draw(results, report.headline(results)).get_suptitle()


def test_files(results, tmp_path):
    report.write(results, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["figure.png", "figure.svg", "summary.json", "table.md"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["provenance"]["command"] == "made up"
    best, *_, last = summary["ranking"]["a model"]
    assert best["optimizer"] == "RMSprop"
    assert last["test_accuracy"] == {"mean": None, "low": None, "high": None}
    assert "| 1 | RMSprop | 0.1 | 95.10 | 94.85 to 95.35 |" in (tmp_path / "table.md").read_text()


def test_the_same_results_give_the_same_files(results, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        report.write(results, tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_text_from_a_file_is_text(results):
    hostile = results.assign_coords(model=["[red]a | model"]).assign_attrs(study="[link=x]y")
    console = Console(width=200, record=True, file=None, quiet=True)
    console.quiet = False
    with console.capture() as captured:
        for table in report.tables(hostile):
            console.print(table)
    assert "[red]a | model" in captured.get()
    assert "[link=x]y" in captured.get()


def test_every_optimizer_has_a_look_of_its_own():
    assert figure.LOOKS.keys() == OPTIMIZERS.keys()
    assert len({look.colour for look in figure.LOOKS.values()}) == len(OPTIMIZERS)
    assert len({look.marker for look in figure.LOOKS.values()}) == len(OPTIMIZERS)


def test_the_picture_shows_the_results(results):
    (losses, sensitivity) = figure.draw(results, "title").axes
    assert len(losses.get_lines()) == len(OPTIMIZERS) - 1  # the diverged one has no chosen rate
    expected = results.train_loss.sel(optimizer="SGD", learning_rate=0.1, model="a model").mean("seed")
    np.testing.assert_allclose(np.asarray(losses.get_lines()[0].get_ydata(), float), expected)
    assert [axes.get_xlabel() for axes in (losses, sensitivity)] == ["epoch", "learning rate (ring: chosen)"]
