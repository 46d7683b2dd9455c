"""The null distribution of a cell's tau, with what was measured marked in it."""

import numpy as np
from markupsafe import Markup
from scipy.stats import norm

from trueoracle.analysis import Absent
from trueoracle.analysis.result import UnitNull
from trueoracle.report import drawing
from trueoracle.report.drawing import Scale
from trueoracle.report.findings import CellFindings
from trueoracle.report.wording import signed

WIDTH, HEIGHT = 640, 254
_LEFT, _RIGHT, _TOP, _BOTTOM = 12, 628, 58, 206
_BIN = 0.02


def null_picture(cell: CellFindings, null: UnitNull) -> Markup:
    """How tau lies where units are relabelled (bars) and where masks were independent (line), and the tau measured."""
    taus = np.asarray(null.taus)
    tau, ceiling = cell.analysis.kendall_tau, cell.analysis.reachable
    reach = [tau, *(() if isinstance(ceiling, Absent) else (np.copysign(ceiling, tau),))]
    across = Scale.around([*taus, *reach, -0.1, 0.1], _LEFT, _RIGHT)
    edges = np.arange(np.floor(across.low / _BIN), np.ceil(across.high / _BIN) + 1) * _BIN
    density, edges = np.histogram(taus, bins=edges, density=True)
    grid = np.linspace(across.low, across.high, 241)
    naive = norm.pdf(grid, scale=naive_deviation(cell.analysis.n))
    up = Scale(
        low=0, high=1.06 * float(max(density.max(), min(naive.max(), 3 * density.max()))), start=_BOTTOM, end=_TOP
    )
    bars = [
        drawing.box(left, up.at(height), right - left - 0.6, _BOTTOM - up.at(height), "bar")
        for height, left, right in zip(density, across(edges[:-1]), across(edges[1:]), strict=True)
        if height
    ]
    parts = [
        drawing.bottom_axis(across, _BOTTOM, "Kendall's τ"),
        drawing.group("null", bars),
        drawing.curve(across(grid), np.where(up(naive) < _TOP, np.nan, up(naive)), "naive"),
        *_mark(across, tau, "measured", f"measured τ = {signed(tau)}", _TOP - 36),
    ]
    if not isinstance(ceiling, Absent):
        at = float(np.copysign(ceiling, tau))
        parts += _mark(across, at, "ceiling", f"ceiling {signed(at)}", _TOP - 14)
    return drawing.picture(WIDTH, HEIGHT, describe(cell, null), parts, kind="nulls")


def describe(cell: CellFindings, null: UnitNull) -> str:
    """The picture in words."""
    return (
        f"Null distribution of Kendall's tau for {cell.record.name}: 95% of relabellings give an absolute tau of at most "
        f"{null.abs_tau_95:.2f}; measured is {signed(cell.analysis.kendall_tau)}, p = {null.p:.2g}."
    )


def naive_deviation(n: int) -> float:
    """The standard deviation of tau of n independent masks without ties (Kendall 1938)."""
    return float(np.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))))


def _mark(across: Scale, value: float, kind: str, words: str, top: float) -> list[Markup]:
    at = across.at(value)
    anchor = "end" if at > (_LEFT + _RIGHT) / 2 else "start"
    return [
        drawing.line(at, _BOTTOM, at, top, kind),
        drawing.text(at + (-6 if anchor == "end" else 6), top + 11, words, f"note {kind}", anchor=anchor),
    ]
