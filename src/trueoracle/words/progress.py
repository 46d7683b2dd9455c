"""How far the work is: what the rooms report to, and the two that listen (nobody, a terminal or notebook)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

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
    """A bar with rate, elapsed and remaining time for every task, on a terminal or in a notebook.

    A task begun inside another one is a line below it. Where the output is no terminal (a log file), tasks leave
    their lines when the outermost ends.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars: RichProgress | None = None

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Advance]:
        with self._shown() as bars:
            task = bars.add_task(what, total=total, unit=unit)
            yield lambda steps: bars.advance(task, steps)

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False)

    @contextmanager
    def _shown(self) -> Iterator[RichProgress]:
        """The bars on show, or new ones where there are none: a terminal can show one such display at a time."""
        if self._bars is not None:
            yield self._bars
            return
        columns = (
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", table_column=Column(no_wrap=True)),
            _Rate(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self._console) as self._bars:
            try:
                yield self._bars
            finally:
                self._bars = None


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g}/s")
