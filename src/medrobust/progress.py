"""How far a long job is, on standard error and to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Listen = Callable[[str, int, int], None]
"""Hears what is being done, and how much of how much is."""


class ProgressBar:
    """A bar on standard error."""

    def __init__(self, bar: Progress, text: str, total: int, listen: Listen | None) -> None:
        self._bar, self._task = bar, bar.add_task(text, total=total)
        self._listen = listen
        self._tell()

    def __call__(self, count: int) -> None:
        """So many more are done."""
        self._bar.advance(self._task, count)
        self._tell()

    def to(self, count: int) -> None:
        """So many are done in all."""
        self._bar.update(self._task, completed=count)
        self._tell()

    def stage(self, text: str) -> None:
        """What is being done from now on."""
        self._bar.update(self._task, description=text)
        self._tell()

    def _tell(self) -> None:
        if self._listen is not None:
            task = self._bar.tasks[self._task]
            self._listen(task.description, int(task.completed), int(task.total or 0))


@contextmanager
def progress_bar(part: str, total: int, shown: bool, listen: Listen | None = None) -> Iterator[ProgressBar]:
    """A bar that moves when called with a count; `listen` hears of it whether or not the bar is shown."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as bar:
        yield ProgressBar(bar, f"attacking {part}", total, listen)
