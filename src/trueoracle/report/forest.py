"""A line for each of several taus: the point, its interval, and what chance and noise would allow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from trueoracle.analysis import Absent
from trueoracle.analysis.result import Interval
from trueoracle.report import drawing
from trueoracle.report.drawing import Scale
from trueoracle.report.wording import signed

WIDTH = 400
_LEFT, _RIGHT, _TOP, _ROW = 14, 346, 6, 38


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line: an agreement (tau, positive where the predictor is right) and what surrounds it, where known."""

    name: str
    agreement: float
    interval: Interval | Absent
    null_95: float | None = None
    ceiling: float | None = None


def forest(lines: Sequence[Line], what: str, names: str) -> Markup:
    """The lines from top to bottom; `what` is the whole picture's subject, `names` what a line stands for."""
    reach = [0.0, *(value for line in lines for value in _reach(line))]
    across = Scale(low=min(-0.2, *reach) - 0.05, high=max(1.0, *reach), start=_LEFT, end=_RIGHT)
    bottom = _TOP + _ROW * len(lines) + 6
    parts = [drawing.bottom_axis(across, bottom, "τ, positive where the predictor is right", top=_TOP)]
    parts.append(drawing.line(across.at(0), bottom, across.at(0), _TOP, "zero"))
    for place, line in enumerate(lines):
        parts.append(_drawn(line, across, _TOP + _ROW * (place + 0.7)))
    title = f"{what}: a line {names}. " + "; ".join(_words(line) for line in lines[:30]) + "."
    return drawing.picture(WIDTH, int(bottom) + 46, title, parts, kind="forest")


def _reach(line: Line) -> tuple[float, ...]:
    ends = () if isinstance(line.interval, Absent) else (line.interval.low, line.interval.high)
    return (line.agreement, *ends)


def _drawn(line: Line, across: Scale, y: float) -> Markup:
    parts = [drawing.text(_LEFT, y - 11, _short(line.name), "tick")]
    if line.null_95 is not None:
        low, high = across.at(max(-line.null_95, across.low)), across.at(min(line.null_95, across.high))
        parts.append(drawing.box(low, y - 8, high - low, 16, "noise"))
    if not isinstance(line.interval, Absent):
        parts.append(drawing.line(across.at(line.interval.low), y, across.at(line.interval.high), y, "interval"))
    if line.ceiling is not None:
        at = across.at(min(line.ceiling, across.high))
        parts.append(drawing.line(at, y - 8, at, y + 8, "ceiling"))
    parts.append(drawing.dots(across([line.agreement]), np.array([y]), "estimate"))
    parts.append(drawing.text(_RIGHT + 10, y + 4, signed(line.agreement), "tick"))
    return drawing.group("line", parts)


def _words(line: Line) -> str:
    return f"{line.name} {signed(line.agreement)}"


def _short(name: str) -> str:
    return name if len(name) <= 48 else f"{name[:23]}…{name[-24:]}"
