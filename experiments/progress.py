"""A progress bar over the work of a study: what is done now, how far it is, and the time left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Counts work in any unit (epochs of one training, say).

    Args:
        console: Where to draw. Nothing is drawn on one that is not a terminal; None draws nothing.
    """

    def __init__(self, console: Console | None = None):
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            transient=True,
            disable=console is None or not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=0)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def describe(self, what: str) -> None:
        """Say what is done now."""
        self._bar.update(self._task, description=what)

    def expect(self, amount: float) -> None:
        """So much more work than was expected before."""
        self._bar.update(self._task, total=(self._bar.tasks[0].total or 0) + amount)

    def advance(self, amount: float) -> None:
        """So much is done."""
        self._bar.advance(self._task, amount)

    @property
    def done(self) -> float:
        """How much is done, of all that was expected."""
        return self._bar.tasks[0].completed
