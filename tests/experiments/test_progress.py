"""The bar counts what is done of what there is, also when more turns up."""

import io

from rich.console import Console

from experiments.progress import Progress


def test_counts_to_the_end():
    written = io.StringIO()
    with Progress(Console(file=written, force_terminal=True, width=100)) as progress:
        progress.expect(6)
        progress.describe("a model, Adam")
        progress.advance(6)
        progress.expect(3.5)
        bar = progress._bar
        assert (progress.done, bar.tasks[0].total) == (6, 9.5)
        assert not bar.finished
        progress.advance(3.5)
        assert bar.finished
        bar.refresh()
    assert "a model, Adam" in written.getvalue()


def test_draws_nothing_where_nobody_looks():
    written = io.StringIO()
    for progress in (Progress(Console(file=written, force_terminal=False)), Progress()):
        with progress:
            progress.describe("a model, Adam")
            progress.expect(1)
            progress.advance(2)
        assert progress.done == 2
    assert written.getvalue() == ""
