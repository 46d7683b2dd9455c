"""The paper's picture: what is known of a mask before retraining against what it reaches after."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from trueoracle.analysis import Absent
from trueoracle.report import drawing
from trueoracle.report.drawing import Scale
from trueoracle.report.findings import CellFindings, Findings
from trueoracle.report.wording import column, signed, y_title

WIDTH, HEIGHT = 640, 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 568, 92, 450
_PLACE = 9  # pixels of a square that holds binned masks
_MARGINAL = 44  # pixels that the highest bar of a marginal takes


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """The picture with its scales, by which a point of the data is found in it."""

    svg: Markup
    x: Scale
    y: Scale


def scatter(study: Findings, cell: CellFindings, *, binned: bool = False) -> Scatter:
    """A point a mask: circles, diamonds for the anomalies, a star for the oracle mask; `binned`, how many lie in a place.

    Masks that were chosen by their loss are triangles: no figure counts them, nor do the marginal distributions.

    A line marks chance, ln(classes); a band what cannot be told from the oracle mask, given how repeats differ. At the
    edges stand the marginal distributions.
    """
    x = Scale.around(_with_chance(cell), _LEFT, _RIGHT)
    y = Scale.around(np.append(cell.y, cell.searched.y), _BOTTOM, _TOP)
    parts = [
        *_noise_band(cell, y),
        drawing.bottom_axis(x, _BOTTOM, _x_title(cell), top=_TOP),
        drawing.left_axis(
            y, _LEFT, y_title(cell.analysis.y, study.spec.final, study.spec.repeats), right=_RIGHT, rise=_TOP - 22
        ),
        *_chance_line(cell, x),
        *_points(cell, x, y, binned=binned),
        _marginals(cell, x, y),
    ]
    return Scatter(svg=drawing.picture(WIDTH, HEIGHT, describe(cell), parts, kind="scatter"), x=x, y=y)


def describe(cell: CellFindings) -> str:
    """The picture in words."""
    a = cell.analysis
    return (
        f"Scatter of {a.n:,} masks of {cell.record.name}: {column(a.x)} from {cell.x.min():.3g} to {cell.x.max():.3g}, "
        f"{column(a.y)} from {cell.y.min():.4g} to {cell.y.max():.4g}, Kendall's tau {signed(a.kendall_tau)}. "
        f"The oracle mask, at {cell.x[cell.oracle]:.3g}, ends at {cell.y[cell.oracle]:.4g}; "
        f"{a.choice.anomalies:,} masks end better.{_searched_in_words(cell)}"
    )


def _searched_in_words(cell: CellFindings) -> str:
    x, y = cell.searched.x, cell.searched.y
    if not len(x):
        return ""
    return (
        f" {len(x):,} masks more that were chosen by their loss, counted in no figure, lie from {x.min():.3g} to {x.max():.3g} and end "
        f"from {y.min():.4g} to {y.max():.4g}."
    )


def noise_halfwidth(cell: CellFindings) -> float | None:
    """Two standard errors of a mask's result less the oracle mask's: of images and retraining, or of retraining alone; else None."""
    on_others, ceiling = cell.analysis.on_others, cell.analysis.ceiling
    if not isinstance(on_others, Absent):
        return 2 * on_others.mask_error
    return None if isinstance(ceiling, Absent) else 2 * ceiling.repeat_deviation * float(np.sqrt(2 / ceiling.repeats))


def chance_loss(cell: CellFindings) -> float | None:
    """ln(classes) where x is a loss, else None."""
    chance = cell.analysis.regime.chance_loss
    return None if isinstance(chance, Absent) or cell.analysis.x_metric.unit != "nats" else chance


def _x_title(cell: CellFindings) -> str:
    return column(cell.analysis.x) + (" (nats)" if cell.analysis.x_metric.unit == "nats" else "")


def _with_chance(cell: CellFindings) -> NDArray[np.float64]:
    """The predictor's values, and chance where it lies near enough not to squeeze them."""
    chance, x = chance_loss(cell), np.append(cell.x, cell.searched.x)
    spread = float(np.ptp(x))
    if chance is None or not x.min() - spread / 2 <= chance <= x.max() + spread / 2:
        return x
    return np.append(x, chance)


def _chance_line(cell: CellFindings, x: Scale) -> list[Markup]:
    chance = chance_loss(cell)
    if chance is None:
        return []
    if x.holds(chance):
        at, classes = x.at(chance), cell.base.classes
        left = at > (_LEFT + _RIGHT) / 2
        words = drawing.text(
            at + (-6 if left else 6), _TOP + 14, f"chance, ln({classes})", "note", anchor="end" if left else "start"
        )
        return [drawing.line(at, _BOTTOM, at, _TOP, "chance"), words]
    beyond = chance > x.high
    sentence = (
        f"chance, ln({cell.base.classes}) = {chance:.2f} →"
        if beyond
        else f"← chance, ln({cell.base.classes}) = {chance:.2f}"
    )
    place = (_RIGHT - 6, "end") if beyond else (_LEFT + 6, "start")
    return [drawing.text(place[0], _TOP + 14, sentence, "note", anchor=place[1])]


def _noise_band(cell: CellFindings, y: Scale) -> list[Markup]:
    half, middle = noise_halfwidth(cell), cell.y[cell.oracle]
    if half is None:
        return []
    low, high = max(middle - half, y.low), min(middle + half, y.high)
    return [drawing.box(_LEFT, y.at(high), _RIGHT - _LEFT, y.at(low) - y.at(high), "noise")]


def _points(cell: CellFindings, x: Scale, y: Scale, *, binned: bool) -> list[Markup]:
    star = np.arange(len(cell.x)) == cell.oracle
    others, better = ~cell.anomalies & ~star, cell.anomalies & ~star
    px, py = x(cell.x), y(cell.y)
    size = "dense" if len(cell.x) > 3000 else "sparse"
    marks = (
        [
            drawing.density(px[others], py[others], "masks binned", _PLACE),
            drawing.density(px[better], py[better], "anomalies binned", _PLACE),
        ]
        if binned
        else [
            drawing.dots(px[others], py[others], f"masks {size}"),
            drawing.diamonds(px[better], py[better], f"anomalies {size}", 2.6 if size == "dense" else 4),
        ]
    )
    return [
        *marks,
        drawing.triangles(x(cell.searched.x), y(cell.searched.y), "searched", 5),
        drawing.star(float(px[cell.oracle]), float(py[cell.oracle]), 12, "oracle"),
        Markup('<circle class="chosen" r="8" hidden/>'),
    ]


def _marginals(cell: CellFindings, x: Scale, y: Scale) -> Markup:
    bins = int(np.clip(np.sqrt(len(cell.x)), 12, 60))
    bars = []
    counts, edges = np.histogram(cell.x, bins=bins)
    for count, left, right in zip(counts, x(edges[:-1]), x(edges[1:]), strict=True):
        height = _MARGINAL * count / counts.max()
        bars.append(drawing.box(left, _TOP - 6 - height, right - left - 0.6, height, "bar"))
    counts, edges = np.histogram(cell.y, bins=bins)
    for count, low, high in zip(counts, y(edges[:-1]), y(edges[1:]), strict=True):
        bars.append(drawing.box(_RIGHT + 6, high, _MARGINAL * count / counts.max(), low - high - 0.6, "bar"))
    return drawing.group("marginals", bars)
