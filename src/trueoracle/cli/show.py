"""What the command line prints."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from trueoracle.analysis import Relation
from trueoracle.spec import StudySpec
from trueoracle.store import Status

_out = Console()
_err = Console(stderr=True)


def say(line: str) -> None:
    """One line, as it is."""
    _out.print(line, highlight=False, markup=False, soft_wrap=True)


def problem(line: str) -> None:
    """One line of error."""
    _err.print("error: " + " ".join(line.split()), highlight=False, markup=False, soft_wrap=True)


def studies(specs: Iterable[StudySpec]) -> None:
    """The built-in studies, with the cells that can be run alone."""
    for spec in specs:
        say(f"{spec.name}: {' '.join(spec.description.split())}")
        if len(spec.cells) > 1:
            say(f"  one cell alone: {', '.join(f'{spec.name}-{cell.name}' for cell in spec.cells)}")


def status(name: str, facts: Status) -> None:
    """How far a study is, in one line."""
    line = f"{name}: {facts.finished} of {facts.total} trials finished, {facts.diverged} diverged, {facts.failed} failed, {facts.left} left"
    if facts.rate:
        line += f"; {60 * facts.rate:.1f} trials a minute"
    if facts.left and facts.seconds_left:
        line += f", {facts.seconds_left / 60:.0f} minutes left at that rate"
    say(line)


def relations(found: Sequence[Relation]) -> None:
    """The table of correlations, then each group's verdict."""
    first = found[0]
    table = Table(
        title=f"{first.x} against {first.y}",
        caption="p is naive: it takes masks that share units for independent; better: masks that end better than "
        "the oracle mask; ties: equal pairs of x, y; out: trials left out",
    )
    table.add_column("group", overflow="fold")
    for heading in ("n", "tau-b", "p", "rho", "r", "better", "ties", "out"):
        table.add_column(heading, justify="right", no_wrap=True)
    for r in found:
        table.add_row(
            r.group,
            str(r.n),
            f"{r.kendall_tau:.3f}",
            f"{r.kendall_p:.1g}",
            f"{r.spearman_rho:.3f}",
            f"{r.pearson_r:.3f}",
            f"{100 * r.anomaly_ratio:.1f}%",
            f"{r.tied_x}, {r.tied_y}",
            str(r.excluded),
        )
    _out.print(table)
    for r in found:
        say(f"{r.group + ': ' if r.group else ''}{r.x} {r.verdict.value}")


def facts(found: Mapping[str, str]) -> None:
    """Names and values, a line each."""
    for name, value in found.items():
        say(f"{name}: {value}")
