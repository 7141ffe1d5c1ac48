"""The bar counts what is done of what there is, extensions included."""

import io

from rich.console import Console

from experiments.progress import SweepProgress


def test_counts_to_the_end():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with SweepProgress(console, sweeps=2, epochs=3) as progress:
        progress.describe("a model, Adam")
        progress.advance(6)
        progress.extend()
        drawn = progress._progress
        assert (drawn.tasks[0].completed, drawn.tasks[0].total) == (6, 9)
        progress.advance(3)
        assert drawn.finished
        drawn.refresh()
    assert isinstance(console.file, io.StringIO)
    assert "a model, Adam" in console.file.getvalue()


def test_draws_nothing_where_nobody_looks():
    console = Console(file=io.StringIO(), force_terminal=False)
    with SweepProgress(console, sweeps=1, epochs=1) as progress:
        progress.describe("a model, Adam")
        progress.extend()
        progress.advance(2)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""
