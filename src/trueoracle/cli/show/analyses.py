"""What analyses found, and what a claim takes."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from trueoracle.analysis import Absent, Caveat, CellAnalysis, Claim, Interval, Need, PooledCell, Takes, Target
from trueoracle.analysis.result import OnOthers, Stratified
from trueoracle.cli.show.lines import print_table, say

_MANY = 30  # images, of which a difference needs no telling


def analyses(found: Sequence[CellAnalysis]) -> None:
    """The table of correlations, the ranking where there are several predictors, then each group's verdict."""
    first = found[0]
    table = _table(
        f"{first.x} against {first.y}",
        f"{first.x}: {first.x_better.value}; {first.y}: {first.y_better.value}. 95% and p speak of {_target(first)}; "
        "chance: 95% of |tau| if units were unrelated; p: no relation for the target, or no more than chance (the larger; in brackets "
        f"where units are unknown), corrected for {len(found)} groups (Holm); "
        f"ceiling: tau of one who knows {'other' if first.target is Target.IMAGES else 'these'} images; better: masks that end better than "
        "the oracle mask; regret: what the best mask, picked on other images where these are known, ends better by",
    )
    for heading in ("n", "tau-b", "95%", "chance", "p", "ceiling", "better", "regret"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in found:
        table.add_row(
            cell.group,
            str(cell.n),
            f"{cell.kendall_tau:.2f}",
            _interval(cell.interval),
            "-" if isinstance(cell.null, Absent) else f"{cell.null.abs_tau_95:.2f}",
            f"({cell.decision.zero_p_holm:.1g})" if cell.decision.zero_p_naive else f"{cell.decision.zero_p_holm:.2g}",
            _or_dash(cell.reachable, ".2f"),
            f"{100 * cell.anomaly_ratio:.1f}%",
            f"{cell.choice.regret:.2g}",
        )
    print_table(table)
    if any(len(cell.predictors) > 1 for cell in found):
        print_table(_ranking(found))
    for line in _beside(found):
        say(line)
    for cell in found:
        say(f"{cell.group + ': ' if cell.group else ''}{cell.x} {cell.verdict.value}")
    for caveat in Caveat:
        told = [cell for cell in found if caveat in cell.caveats]
        if told:
            named = (f"{c.group}: {c.excluded}" if caveat is Caveat.LEFT_OUT else c.group for c in told)
            where = f" ({', '.join(named)})" if len(told) < len(found) or caveat is Caveat.LEFT_OUT else ""
            say(f"note: {caveat.value}{where}")


def _target(cell: CellAnalysis) -> str:
    number = "" if isinstance(cell.on_others, Absent) else f" ({cell.on_others.other_images:,} of them)"
    return cell.target.sentence + (number if cell.target is Target.IMAGES else "")


def _beside(found: Sequence[CellAnalysis]) -> Iterator[str]:
    """What speaks of other images, and of more masks than the table does."""
    for cell in found:
        if not isinstance(cell.on_others, Absent):
            yield _on_others(cell, cell.on_others)
    for cell in found:
        if not isinstance(cell.stratified, Absent):
            yield _stratified(cell, cell.stratified)


def _on_others(cell: CellAnalysis, found: OnOthers) -> str:
    """What other images would show, and what regret is in images where those are few."""
    where, regret = f"{cell.group}: " if cell.group else "", cell.choice.regret
    line = f"{where}on {found.other_images:,} other images tau-b {found.tau:.2f} ({_interval(found.interval)})"
    bounds = cell.choice.regret_interval
    if isinstance(bounds, Interval):
        line += f", regret {regret:.4f} ({bounds.low:.4f}, {bounds.high:.4f})"
    few = abs(regret * found.images) < _MANY
    return f"{line}; here {regret * found.images:.1f} of {found.images:,} images" if few else line


def _stratified(cell: CellAnalysis, found: Stratified) -> str:
    """What the sample with its tail says, weighted."""
    return (
        f"{cell.group + ': ' if cell.group else ''}with the tail, weighted ({found.n:,} masks that stand for {found.stands_for:,}): "
        f"tau-b {found.kendall_tau:.2f} ({_interval(found.kendall_interval)}), better than the oracle mask "
        f"{100 * found.anomaly_ratio:.1f}% ({_percent(found.anomaly_interval)})"
    )


def _percent(found: Interval | Absent) -> str:
    return "-" if isinstance(found, Absent) else f"{100 * found.low:.1f}, {100 * found.high:.1f}"


def pooled(found: Sequence[PooledCell]) -> None:
    """Each cell over the base networks: the mean of their taus."""
    for cell in found:
        bounds = cell.interval
        interval = f"[{bounds.low:.3f}, {bounds.high:.3f}]" if isinstance(bounds, Interval) else bounds.why
        say(
            f"{cell.group}: mean tau-b {cell.mean_tau:.3f} over {len(cell.taus)} base networks, {interval} "
            f"({', '.join(f'{tau:.3f}' for tau in cell.taus)})"
        )


def needs(claim: Claim, found: Sequence[tuple[str, Need]], takes: Sequence[Takes | None]) -> None:
    """What a claim takes, a line for each cell and number of repeats; with how long on machines, where these are known."""
    table = _table(
        f"to show {claim.value}",
        "seen tau: what the noise of so many repeats leaves of it; images: test images on which the pilot's own masks show the claim for other images",
    )
    of_machines = {"hours": any(takes), "cost": any(one and one.cost is not None for one in takes)}
    shown = [heading for heading, there in of_machines.items() if there]
    for heading in ("repeats", "seen tau", "masks", "trials", "core-hours", "images", *shown):
        table.add_column(heading, justify="right", no_wrap=True)
    for (cell, need), of_need in zip(found, takes, strict=True):
        hours = "-" if isinstance(need.seconds, Absent) else f"{need.seconds / 3600:,.2f}"
        table.add_row(
            cell,
            str(need.repeats),
            f"{need.tau:.3f}",
            _or_dash(need.masks, ","),
            _or_dash(need.trials, ","),
            hours,
            _or_dash(need.images, ","),
            *("-" if (value := getattr(of_need, heading, None)) is None else f"{value:,.2f}" for heading in shown),
        )
    print_table(table)
    if any(one and one.limit == "store" for one in takes):
        say("note: the store is the limit: it takes no more trials a second, however many machines there are")
    for why in dict.fromkeys(
        part.why for _, need in found for part in (need.masks, need.seconds, need.images) if isinstance(part, Absent)
    ):
        say(f"note: {why}")


def _ranking(found: Sequence[CellAnalysis]) -> Table:
    table = _table(
        "predictors, best first",
        f"agreement: tau, positive where the predictor is right; 95% of it, and of it less that of {found[0].x} and of random (paired): "
        f"{found[0].target.sentence}; by chance: p of relabelled units (naive in brackets), corrected over predictors (Holm)",
        first="predictor",
    )
    for heading in ("agreement", "95%", "over first", "over random", "by chance"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in found:
        if len(found) > 1:
            table.add_row(cell.group)
        for one in cell.predictors:
            table.add_row(
                one.x,
                f"{one.agreement:.2f}",
                _interval(one.interval),
                _interval(one.over_first),
                _interval(one.over_random),
                f"({one.p_holm:.1g})" if isinstance(one.unit_p, Absent) else f"{one.p_holm:.2g}",
            )
    return table


def _table(title: str, caption: str, first: str = "group") -> Table:
    table = Table(title=title, caption=caption, caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    return table


def _interval(found: Interval | Absent) -> str:
    return "-" if isinstance(found, Absent) else f"{found.low:.2f}, {found.high:.2f}"


def _or_dash(found: float | Absent, form: str) -> str:
    return "-" if isinstance(found, Absent) else format(found, form)
