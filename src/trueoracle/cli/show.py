"""What the command line prints."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from trueoracle.analysis import Relation
from trueoracle.spec import StudySpec
from trueoracle.store import Status

if TYPE_CHECKING:
    from trueoracle.study.landscape import Landscape

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


def status(name: str, facts: Status, epochs: int) -> None:
    """How far a study is, in one line; `epochs` are those of its retraining."""
    line = f"{name}: {facts.finished} of {facts.total} trials finished, {facts.diverged} diverged, {facts.failed} failed, {facts.left} left"
    if facts.rate:
        line += f"; {60 * facts.rate:.1f} trials a minute, {epochs * facts.rate:.3g} model-epochs a second"
    if facts.left and facts.seconds_left:
        line += f", {facts.seconds_left / 60:.0f} minutes left at that rate"
    say(line)


def landscape(found: "Landscape", output: Path) -> None:
    """How the losses of a space lie: a histogram, and the masks of lowest loss."""
    from trueoracle.study.landscape import BIN

    say(f"{found.masks:,} masks on {found.images:,} images, written to {output} (path: {found.path})")
    filled = found.counts.nonzero()[0]
    step = max(1, -(-(filled[-1] + 1 - filled[0]) // 12)) if len(filled) else 1
    for start in range(filled[0], filled[-1] + 1, step) if len(filled) else ():
        count = int(found.counts[start : start + step].sum())
        bar = "#" * round(50 * count / found.masks)
        say(f"{BIN * start:7.2f} to {BIN * (start + step):5.2f} {count:>12,} {bar}")
    table = Table(title="lowest pruned train loss")
    for heading in ("mask", "loss", "accuracy", "pruned"):
        table.add_column(heading, justify="left" if heading == "pruned" else "right", overflow="fold")
    for row in found.best.itertuples():
        error = f" ± {row.standard_error:.2g}" if hasattr(row, "standard_error") else ""
        table.add_row(
            str(row.mask), f"{row.pruned_train_loss:.6g}{error}", f"{row.pruned_train_accuracy:.4f}", str(row.pruned)
        )
    _out.print(table)
    if found.rivals is not None:
        say(f"{found.rivals:,} other masks lie within two standard errors of the lowest loss")


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
