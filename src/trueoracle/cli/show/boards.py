"""The leaderboard of criteria and predictors."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from trueoracle.analysis import Absent, Leaderboard
from trueoracle.analysis.leaderboard import Over
from trueoracle.cli.show.lines import print_table, say


def leaderboard(board: Leaderboard) -> None:
    """The table, the groups that do not differ, what was left out, and why."""
    print_table(_table(board))
    _studies(board)
    names = [row.x for row in board.rows]
    for first, last in board.groups:
        say(f"not told apart: {', '.join(names[first : last + 1])}")
    for first, name in enumerate(names):
        behind = [names[second] for one, second in sorted(board.apart) if one == first]
        if behind:
            say(f"{name} differs from {', '.join(behind)}")
    if board.winner is not None:
        say(f"{board.winner} differs from all others and ranks first")
    for basis in board.bases:
        say(f"regret: the best mask is {basis.value}")
    for why, cells in board.left_out_by_reason:
        say(f"not judged, as {why}: {'; '.join(cells)}")
    for x, why in board.unranked.items():
        say(f"not ranked: {x}, as {why}")
    for remark in board.remarks:
        say(f"note: {remark}")


def _table(board: Leaderboard) -> Table:
    found = Table(
        title=f"predictors of {board.y}",
        caption=f"{len(board.blocks)} cells of {board.networks} base network{'s' * (board.networks > 1)}. Rank and tau: means over "
        "cells, positive tau where the predictor is right; ceiling: tau over that of one who knows other images; regret: what the best mask ends "
        f"better by than the mask chosen, on images that did not pick it; top {board.k}: share of its {board.k} masks that are among the {board.k} best"
        + ("" if isinstance(board.chance, Absent) else f" (by chance {board.chance:.0%})")
        + "; core-s: core-seconds a mask, where measured; below: 95% over base networks (Student)",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    found.add_column("predictor", overflow="fold", min_width=14)  # a name may be broken, never left out
    for heading in ("rank", "tau", "ceiling", "regret", f"top {board.k}", "core-s"):
        found.add_column(heading, justify="right", no_wrap=True)
    for row in board.rows:
        found.add_row(
            row.x,
            f"{row.mean_rank.mean:.2f}\n{_interval(row.mean_rank, '.1f')}",
            f"{row.agreement.mean:.2f}\n{_interval(row.agreement, '.2f')}",
            "-" if isinstance(row.relative, Absent) else f"{row.relative.mean:.0%}",
            f"{row.regret.mean:.4f}\n{_interval(row.regret, '.3f')}",
            "-" if isinstance(row.hit, Absent) else f"{row.hit.mean:.0%}",
            "-" if isinstance(row.seconds, Absent) else f"{row.seconds:.2g}",
        )
    return found


def _studies(board: Leaderboard) -> None:
    """Of several studies the mean rank in each, with its interval over base networks, and how alike their orders are."""
    if len(board.studies) == 1:
        return
    found = Table(title="mean rank in each study", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    found.add_column("predictor", overflow="fold", min_width=14)
    for study in board.studies:
        found.add_column(study, justify="right", overflow="fold")
    for row in board.rows:
        found.add_row(
            row.x, *(f"{row.by_study[s].mean:.2f}\n{_interval(row.by_study[s], '.1f')}" for s in board.studies)
        )
    print_table(found)
    for (one, other), tau in board.alike.items():
        say(f"the orders of {one} and {other}: Kendall's tau {tau:.2f}")


def _interval(over: Over, form: str) -> str:
    bounds = over.interval
    return "-" if isinstance(bounds, Absent) else f"{bounds.low:{form}}, {bounds.high:{form}}"
