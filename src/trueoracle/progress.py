"""How far the work is: what the rooms report to, and the two that listen (nobody, a terminal or notebook)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

Advance = Callable[[int], None]


class Progress(Protocol):
    """Something that is told how far a task of known size is."""

    def task(self, what: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Enter to begin `what`, call the value with the steps just done, leave to end it."""
        ...

    def say(self, line: str) -> None:
        """One line of news."""
        ...


class Quiet:
    """Nobody listens."""

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Advance]:  # noqa: ARG002
        yield lambda _steps: None

    def say(self, line: str) -> None:
        pass


class Bars:
    """A bar with elapsed and remaining time for every task, on a terminal or in a notebook.

    Where the output is no terminal (a log file), each task leaves one line when it ends.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Advance]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("· left"),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self._console) as bars:
            task = bars.add_task(what, total=total)
            yield lambda steps: bars.advance(task, steps)

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False)
