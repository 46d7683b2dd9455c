"""How far the work is: what the rooms report to, and those that listen: nobody, a terminal, a log file, a notebook."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from html import escape
from threading import Event, Thread
from time import monotonic
from typing import Protocol, TextIO

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
    """A bar with rate, elapsed and remaining time for every task, on a terminal.

    A task begun inside another one is a line below it.
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


class Lines:
    """Plain lines for a log file: of every task one when it ends, and now and then one before that, more and more rarely
    while nothing moves, as in a training of hours.

    Where nobody reads any more (a pipe whose other end was closed, a full disk) the work goes on in silence.
    """

    def __init__(self, out: TextIO | None = None, *, seconds: float = 30.0) -> None:
        """To `out`, standard error if not said; of a task one line in so many `seconds`, after twice as long if it stands still."""
        self._out = out or sys.stderr
        self._seconds = seconds
        self._heard = True

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Advance]:
        began, done, over = monotonic(), 0, Event()

        def advance(steps: int) -> None:
            nonlocal done
            done += steps

        def tell() -> None:
            self.say(f"{what}: {_how_far(done, total, unit, monotonic() - began)}")

        def now_and_then() -> None:
            told, pause = 0, self._seconds
            while not over.wait(pause):
                pause = 2 * pause if done == told else self._seconds
                told = done
                tell()

        teller = Thread(target=now_and_then, daemon=True)
        teller.start()
        try:
            yield advance
        finally:
            over.set()
            teller.join()
            tell()

    def say(self, line: str) -> None:
        if not self._heard:
            return
        try:
            print(line, file=self._out, flush=True)
        except (OSError, ValueError):  # a broken pipe, or a file that was closed
            self._heard = False


class NotebookBars:
    """As `Bars` where a page shows them: each task is a line of the notebook's output, changed in place."""

    def __init__(self, display: Callable[[str, str | None], str]) -> None:
        """`display` shows HTML as a new output (None) or in place of one, and returns the output's name."""
        self._display = display

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Advance]:
        began = shown = monotonic()
        done = 0
        output = self._display(_bar(what, 0, total, unit, 0.0), None)

        def advance(steps: int) -> None:
            nonlocal done, shown
            done += steps
            if monotonic() - shown >= _BETWEEN or done >= total:
                shown = monotonic()
                self._display(_bar(what, done, total, unit, shown - began), output)

        try:
            yield advance
        finally:
            self._display(_bar(what, done, total, unit, monotonic() - began), output)

    def say(self, line: str) -> None:
        self._display(f"<div>{escape(line)}</div>", None)


_BETWEEN = 0.25  # seconds between two changes of a line


def bars() -> Progress:
    """What suits the place where this runs: a notebook, a terminal, or else a log file."""
    display = _notebook()
    if display is not None:
        return NotebookBars(display)
    console = Console(stderr=True)
    return Bars(console) if console.is_terminal else Lines()


def _notebook() -> Callable[[str, str | None], str] | None:
    """What shows HTML in the notebook that this runs in; None where it is none."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import HTML, DisplayHandle

    outputs: dict[str, DisplayHandle] = {}

    def display(html: str, output: str | None) -> str:
        if output is not None:
            outputs[output].update(HTML(html))
            return output
        handle = DisplayHandle()
        handle.display(HTML(html))
        outputs[handle.display_id] = handle
        return str(handle.display_id)

    return display


def _bar(what: str, done: int, total: int, unit: str, seconds: float) -> str:
    return (
        f'<div><label>{escape(what)} <progress max="{max(total, 1)}" value="{done}"></progress></label> '
        f"{escape(_how_far(done, total, unit, seconds))}</div>"
    )


def _how_far(done: int, total: int, unit: str, seconds: float) -> str:
    """`120 of 504 trials, 0.8/s, 150 s, 480 s left`."""
    rate = done / seconds if done and seconds else 0.0
    left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
    speed = f", {rate:.3g}/s" if rate else ""
    return f"{done:,} of {total:,} {unit}{speed}, {seconds:.0f} s{left}"


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g}/s")
