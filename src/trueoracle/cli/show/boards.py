"""The leaderboard of criteria and predictors."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from trueoracle.analysis import Absent, Interval, Leaderboard
from trueoracle.cli.show.lines import print_table, say


def leaderboard(board: Leaderboard) -> None:
    """The table, the groups that do not differ, what was left out, and why."""
    print_table(_table(board))
    _ranks(board)
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
            f"{row.mean_rank.mean:.2f}\n{_interval(row.mean_rank.interval, '.1f')}",
            f"{row.agreement.mean:.2f}\n{_interval(row.agreement.interval, '.2f')}",
            "-" if isinstance(row.relative, Absent) else f"{row.relative.mean:.0%}",
            f"{row.regret.mean:.4f}\n{_interval(row.regret.interval, '.3f')}",
            "-" if isinstance(row.hit, Absent) else f"{row.hit.mean:.0%}",
            "-" if isinstance(row.seconds, Absent) else f"{row.seconds:.2g}",
        )
    return found


def _ranks(board: Leaderboard) -> None:
    """How the mean rank varies: over cells, and of several studies over these and in each, with how alike their orders are."""
    several = [what for what, ends in board.rows[0].rank_over.items() if not isinstance(ends, Absent)]
    if not several:
        return
    found = Table(title="mean rank", caption="95% over cells, studies: Student's, for others of the kind on these base networks; of a study: over base networks",
                  caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))  # fmt: skip
    found.add_column("predictor", overflow="fold", min_width=14)
    for what in several:
        found.add_column(f"95% over {what}", justify="right", overflow="fold")
    for study in board.rows[0].by_study:
        found.add_column(f"in {study}", justify="right", overflow="fold")
    for row in board.rows:
        found.add_row(
            row.x,
            *(_interval(row.rank_over[what], ".1f") for what in several),
            *(f"{of.mean:.2f}\n{_interval(of.interval, '.1f')}" for of in row.by_study.values()),
        )
    print_table(found)
    for (one, other), tau in board.alike.items():
        say(f"the orders of {one} and {other}: Kendall's tau {tau:.2f}")


def _interval(bounds: Interval | Absent, form: str) -> str:
    return "-" if isinstance(bounds, Absent) else f"{bounds.low:{form}}, {bounds.high:{form}}"
