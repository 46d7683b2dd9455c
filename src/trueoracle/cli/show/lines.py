"""Lines and tables on the terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

_out = Console()
_err = Console(stderr=True)


def say(line: str) -> None:
    """One line, as it is."""
    _out.print(line, highlight=False, markup=False, soft_wrap=True)


def problem(line: str) -> None:
    """One line of error."""
    _err.print("error: " + " ".join(line.split()), highlight=False, markup=False, soft_wrap=True)


def facts(found: Mapping[str, str]) -> None:
    """Names and values, a line each."""
    for name, value in found.items():
        say(f"{name}: {value}")


def columns(rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
    """A line a row, however long, for in a table on a narrow terminal names would break; `right` are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            text.rjust(width) if at in right else text.ljust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        say("  ".join(cells).rstrip())


def print_table(shown: Table) -> None:
    """A table, as wide as the terminal allows."""
    _out.print(shown)
