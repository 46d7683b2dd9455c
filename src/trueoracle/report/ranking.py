"""The critical-difference picture: predictors by mean rank with intervals, bars beside those that do not differ.

Demšar's picture (J. Mach. Learn. Res. 7, 2006) turned by a quarter, so that many names have room.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from markupsafe import Markup

from trueoracle.analysis import Absent, Leaderboard
from trueoracle.report import drawing
from trueoracle.report.drawing import Scale
from trueoracle.report.figures import BLACK, BLUE, COLUMN, STYLE, figure_of, save
from trueoracle.report.wording import column
from trueoracle.words.errors import ReportError
from trueoracle.words.files import check_file

ENDINGS = (".svg", ".png", ".pdf")
_WIDTH, _LEFT, _TOP, _ROW, _STEP = 560, 230, 8, 24, 9


def ranking(board: Leaderboard) -> Markup:
    """The picture for a page."""
    lanes = _lanes(board.groups)
    right = _WIDTH - 16 - _STEP * (1 + max(lanes, default=0))
    across = Scale(low=0.5, high=len(board.rows) + 0.5, start=_LEFT, end=right, whole=True)
    bottom = _TOP + _ROW * len(board.rows)
    parts = [drawing.bottom_axis(across, bottom, "mean rank, 1 is best", top=_TOP)]
    for place, row in enumerate(board.rows):
        y, bounds = _TOP + _ROW * (place + 0.5), row.mean_rank.interval
        drawn = [drawing.text(_LEFT - 8, y + 4, column(row.x), "tick", anchor="end")]
        if not isinstance(bounds, Absent):
            drawn.append(drawing.line(across.at(bounds.low), y, across.at(bounds.high), y, "interval"))
        drawn.append(drawing.dots(across([row.mean_rank.mean]), np.array([y]), "estimate"))
        parts.append(drawing.group("line", drawn))
    for (first, last), lane in zip(board.groups, lanes, strict=True):
        x = right + 14 + _STEP * lane
        parts.append(drawing.line(x, _TOP + _ROW * (first + 0.25), x, _TOP + _ROW * (last + 0.75), "alike"))
    return drawing.picture(_WIDTH, bottom + 50, _words(board), parts, kind="ranking")


def write_ranking(board: Leaderboard, path: Path) -> None:
    """Write the picture for a manuscript, one column wide, as SVG, PNG (600 dpi) or PDF by the file's ending."""
    check_ranking_path(path)
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE}):
        figure, (axes,) = figure_of(COLUMN, 0.55 + 0.15 * len(board.rows), 1)
        names = [column(row.x) for row in board.rows]
        for place, row in enumerate(board.rows):
            bounds = row.mean_rank.interval
            if not isinstance(bounds, Absent):
                axes.plot([bounds.low, bounds.high], [place, place], color=BLUE, linewidth=1)
            axes.plot(row.mean_rank.mean, place, "o", color=BLUE, markersize=3)
        for (first, last), lane in zip(board.groups, _lanes(board.groups), strict=True):
            x = 1.03 + 0.035 * lane
            axes.plot([x, x], [first - 0.25, last + 0.25], color=BLACK, linewidth=1.6, clip_on=False,
                      transform=axes.get_yaxis_transform(), solid_capstyle="butt")  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.set(xlim=(0.5, len(names) + 0.5), ylim=(len(names) - 0.5, -0.5), xlabel="mean rank, 1 is best")
        axes.grid(axis="x", linewidth=0.3)
        save(figure, path)


def check_ranking_path(path: Path) -> None:
    """`ReportError` where no picture can be written to `path`: better said before the work than after."""
    if path.suffix not in ENDINGS:
        raise ReportError(f"`{path}` must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    check_file(path)


def _lanes(groups: tuple[tuple[int, int], ...]) -> list[int]:
    """For each bar the lowest lane in which it overlaps no other."""
    ends: list[int] = []
    found = []
    for first, last in groups:
        lane = next((lane for lane, end in enumerate(ends) if end < first), len(ends))
        ends[lane : lane + 1] = [last]
        found.append(lane)
    return found


def _words(board: Leaderboard) -> str:
    ranks = "; ".join(f"{column(row.x)} {row.mean_rank.mean:.1f}" for row in board.rows[:30])
    return f"Predictors by mean rank, 1 is best: {ranks}."
