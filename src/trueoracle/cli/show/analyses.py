"""What analyses found, and what a claim takes."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from trueoracle.analysis import Absent, Caveat, CellAnalysis, Claim, Interval, Need, PooledCell
from trueoracle.cli.show.lines import print_table, say


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
    print_table(table)
    if any(len(cell.predictors) > 1 for cell in found):
        print_table(_ranking(found))
    for cell in found:
        say(f"{cell.group + ': ' if cell.group else ''}{cell.x} {cell.verdict.value}")
    for caveat in Caveat:
        told = [cell for cell in found if caveat in cell.caveats]
        if told:
            named = (f"{c.group}: {c.excluded}" if caveat is Caveat.LEFT_OUT else c.group for c in told)
            where = f" ({', '.join(named)})" if len(told) < len(found) or caveat is Caveat.LEFT_OUT else ""
            say(f"note: {caveat.value}{where}")


def pooled(found: Sequence[PooledCell]) -> None:
    """Each cell over the base networks: the mean of their taus."""
    for cell in found:
        bounds = cell.interval
        interval = f"[{bounds.low:.3f}, {bounds.high:.3f}]" if isinstance(bounds, Interval) else bounds.why
        say(
            f"{cell.group}: mean tau-b {cell.mean_tau:.3f} over {len(cell.taus)} base networks, {interval} "
            f"({', '.join(f'{tau:.3f}' for tau in cell.taus)})"
        )


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
    print_table(table)
    for why in dict.fromkeys(
        part.why for _, need in found for part in (need.masks, need.seconds) if isinstance(part, Absent)
    ):
        say(f"note: {why}")


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


def _table(title: str, caption: str) -> Table:
    table = Table(title=title, caption=caption, caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("group", overflow="fold")
    return table


def _interval(found: Interval | Absent) -> str:
    return "-" if isinstance(found, Absent) else f"{found.low:.2f}, {found.high:.2f}"


def _or_dash(found: float | Absent, form: str) -> str:
    return "-" if isinstance(found, Absent) else format(found, form)
