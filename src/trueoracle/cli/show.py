"""What the command line prints."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.table import Table

from trueoracle.analysis import CellAnalysis, Interval, PooledCell
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


def status(name: str, facts: Status) -> None:
    """How far a study is, in one line."""
    line = f"{name}: {facts.finished} of {facts.total} trials finished, {facts.diverged} diverged, {facts.failed} failed, {facts.left} left"
    if facts.rate:
        line += f"; {60 * facts.rate:.1f} trials a minute"
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


def analyses(found: Sequence[CellAnalysis]) -> None:
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
    for cell in found:
        a = cell.association
        table.add_row(
            cell.group,
            str(cell.n),
            f"{a.kendall_tau:.3f}",
            f"{a.kendall_p:.1g}",
            f"{a.spearman_rho:.3f}",
            f"{a.pearson_r:.3f}",
            f"{100 * cell.anomaly_ratio:.1f}%",
            f"{a.tied_x}, {a.tied_y}",
            str(cell.excluded),
        )
    _out.print(table)
    for cell in found:
        say(f"{cell.group + ': ' if cell.group else ''}{cell.x} {cell.verdict.value}")


def pooled(found: Sequence[PooledCell]) -> None:
    """Each cell over the base networks: the mean of their taus."""
    for cell in found:
        bounds = cell.interval
        interval = f"[{bounds.low:.3f}, {bounds.high:.3f}]" if isinstance(bounds, Interval) else bounds.why
        say(
            f"{cell.group}: mean tau-b {cell.mean_tau:.3f} over {len(cell.taus)} base networks, {interval} "
            f"({', '.join(f'{tau:.3f}' for tau in cell.taus)})"
        )


def sites(found: pd.DataFrame) -> None:
    """A line a site; a unit's parameters and operations are what the whole network saves by losing it."""
    table = Table(caption="parameters and multiply-accumulates (for one image) that the network saves a unit")
    table.add_column("site", overflow="fold")
    table.add_column("kind")
    for heading in ("units", "parameters", "operations"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("coupled", overflow="fold")
    for row in found.to_dict("records"):
        numbers = (f"{row[name]:,}" for name in ("units", "parameters_per_unit", "operations_per_unit"))
        table.add_row(row["site"], row["kind"], *numbers, ", ".join(row["coupled"]))
    _out.print(table)


def facts(found: Mapping[str, str]) -> None:
    """Names and values, a line each."""
    for name, value in found.items():
        say(f"{name}: {value}")
