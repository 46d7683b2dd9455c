"""What the command line prints."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from trueoracle.analysis import Absent, Caveat, CellAnalysis, Claim, Interval, Need, PooledCell
from trueoracle.store import Status
from trueoracle.words.spec import StudySpec

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


def analyses(found: Sequence[CellAnalysis]) -> None:
    """The table of correlations, the ranking where there are several predictors, then each group's verdict."""
    first = found[0]
    table = _table(
        f"{first.x} against {first.y}",
        "tau-b with its 95% interval; p: that there is no relation, by relabelled units, or in brackets the naive one, which takes "
        f"masks for independent; none: p that |tau| is {first.decision.margin:g} or more; both corrected for {len(found)} groups (Holm); "
        "ceiling: a perfect predictor's tau; better: masks that end better than the oracle mask; "
        "regret: best attainable less what the oracle mask attains",
    )
    for heading in ("n", "tau-b", "95%", "p", "none", "ceiling", "better", "regret"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in found:
        table.add_row(
            cell.group,
            str(cell.n),
            f"{cell.kendall_tau:.2f}",
            _interval(cell.association.kendall_interval),
            f"({cell.decision.zero_p_holm:.1g})" if cell.decision.zero_p_naive else f"{cell.decision.zero_p_holm:.2g}",
            _or_dash(cell.decision.equivalence_p_holm, ".1g"),
            "-" if isinstance(cell.ceiling, Absent) else f"{cell.ceiling.tau:.2f}",
            f"{100 * cell.anomaly_ratio:.1f}%",
            f"{cell.choice.regret:.2g}",
        )
    _out.print(table)
    if any(len(cell.predictors) > 1 for cell in found):
        _out.print(_ranking(found))
    for cell in found:
        say(f"{cell.group + ': ' if cell.group else ''}{cell.x} {cell.verdict.value}")
    for caveat in Caveat:
        told = [cell for cell in found if caveat in cell.caveats]
        if told:
            named = (f"{c.group}: {c.excluded}" if caveat is Caveat.LEFT_OUT else c.group for c in told)
            where = f" ({', '.join(named)})" if len(told) < len(found) or caveat is Caveat.LEFT_OUT else ""
            say(f"note: {caveat.value}{where}")


def _table(title: str, caption: str) -> Table:
    table = Table(title=title, caption=caption, caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("group", overflow="fold")
    return table


def _ranking(found: Sequence[CellAnalysis]) -> Table:
    table = _table(
        "predictors, best first",
        "agreement: tau, positive where the predictor is right; p: by relabelled units, in brackets the naive one",
    )
    table.add_column("predictor", overflow="fold")
    for heading in ("agreement", "95%", "p", "better", "regret"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in found:
        for one in cell.predictors:
            table.add_row(
                cell.group if one.rank == 1 else "",
                one.x,
                f"{one.agreement:.2f}",
                _interval(one.interval),
                f"({one.naive_p:.1g})" if isinstance(one.unit_p, Absent) else f"{one.unit_p:.2g}",
                f"{100 * one.anomaly_ratio:.1f}%",
                f"{one.regret:.2g}",
            )
    return table


def needs(claim: Claim, found: Sequence[tuple[str, Need]]) -> None:
    """What a claim takes, a line for each cell and number of repeats."""
    table = _table(f"to show {claim.value}", "seen tau: what the noise of so many repeats leaves of it")
    for heading in ("repeats", "seen tau", "masks", "trials", "core-hours"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell, need in found:
        hours = "-" if isinstance(need.seconds, Absent) else f"{need.seconds / 3600:,.2f}"
        table.add_row(
            cell, str(need.repeats), f"{need.tau:.3f}", _or_dash(need.masks, ","), _or_dash(need.trials, ","), hours
        )
    _out.print(table)
    for why in dict.fromkeys(
        part.why for _, need in found for part in (need.masks, need.seconds) if isinstance(part, Absent)
    ):
        say(f"note: {why}")


def _interval(found: Interval | Absent) -> str:
    return "-" if isinstance(found, Absent) else f"{found.low:.2f}, {found.high:.2f}"


def _or_dash(found: float | Absent, form: str) -> str:
    return "-" if isinstance(found, Absent) else format(found, form)


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
    """A line a site, however long: in a table on a narrow terminal names would break."""
    rows = [("site", "kind", "units", "parameters", "operations", "coupled")]
    for row in found.to_dict("records"):
        numbers = (f"{row[name]:,}" for name in ("units", "parameters_per_unit", "operations_per_unit"))
        coupled = ", ".join(_beside(row["site"], layer) for layer in row["coupled"])
        rows.append((row["site"], row["kind"], *numbers, coupled))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for site, kind, units, parameters, operations, coupled in rows:
        counts = zip((units, parameters, operations), widths[2:5], strict=True)
        right = "  ".join(text.rjust(width) for text, width in counts)
        say(f"{site.ljust(widths[0])}  {kind.ljust(widths[1])}  {right}  {coupled}")
    say(
        "parameters and operations (multiply-accumulates for one image or token) are what the network saves with one unit;"
    )
    say("a coupled layer's name begins with a dot where what comes before is the site's")


def _beside(site: str, layer: str) -> str:
    """The layer's name without what it shares with the site's."""
    parts, ours = layer.split("."), site.split(".")
    shared = next(
        (at for at, (a, b) in enumerate(zip(parts, ours, strict=False)) if a != b), min(len(parts), len(ours))
    )
    return "." + ".".join(parts[shared:]) if shared else layer


def facts(found: Mapping[str, str]) -> None:
    """Names and values, a line each."""
    for name, value in found.items():
        say(f"{name}: {value}")
