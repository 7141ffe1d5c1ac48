"""A progress bar over the sweeps of a study: what is trained now, how far, and the time left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class SweepProgress:
    """Counts epochs; one epoch is one pass of all learning rates and seeds of an optimizer.

    Args:
        console: Where to draw. Nothing is drawn on one that is not a terminal.
        sweeps: Sweeps expected. Extensions of a grid add to them.
        epochs: Epochs in a sweep.
    """

    def __init__(self, console: Console, sweeps: int, epochs: int):
        self._epochs = epochs
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=sweeps * epochs)

    def __enter__(self) -> SweepProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def describe(self, what: str) -> None:
        """Say what is trained now."""
        self._progress.update(self._task, description=what)

    def extend(self) -> None:
        """A sweep more than expected."""
        self._progress.update(self._task, total=(self._progress.tasks[0].total or 0) + self._epochs)

    def advance(self, epochs: int) -> None:
        """So many epochs are done."""
        self._progress.advance(self._task, epochs)
