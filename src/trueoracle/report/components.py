"""Where the spread of final accuracy comes from: a bar a source, as long as its standard deviation."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from trueoracle.analysis import CellAnalysis, Metric
from trueoracle.analysis.result import Spread
from trueoracle.report import drawing
from trueoracle.report.drawing import Scale
from trueoracle.report.wording import difference

WIDTH = 400
_LEFT, _RIGHT, _TOP, _ROW = 6, 310, 6, 42


def components(found: CellAnalysis, spread: Spread, networks: Sequence[float]) -> Markup:
    """The picture of a cell; `networks` are the mean accuracies of this cell on several base networks, or empty."""
    bars = named(found, spread, networks)
    across = Scale(low=0.0, high=1.02 * max(1e-12, *(deviation for _, deviation in bars)), start=_LEFT, end=_RIGHT)
    parts = []
    for place, (name, deviation) in enumerate(bars):
        y = _TOP + _ROW * (place + 0.68)
        parts.append(drawing.text(_LEFT, y - 13, name, "tick"))
        parts.append(drawing.box(_LEFT, y - 8, max(0.5, across.at(deviation) - _LEFT), 16, "bar"))
        parts.append(drawing.text(across.at(deviation) + 8, y + 4, difference(deviation, found.y_metric), "tick"))
    title = f"Where the spread of {found.y} in {found.group} comes from: {_words(bars, found.y_metric)}."
    return drawing.picture(WIDTH, _TOP + _ROW * len(bars) + 8, title, parts, kind="components")


def named(found: CellAnalysis, spread: Spread, networks: Sequence[float]) -> list[tuple[str, float]]:
    """Each source with its standard deviation, in y's unit."""
    images = f"{found.images:,} " if isinstance(found.images, int) else ""
    bars = [
        ("masks", spread.masks),
        (f"which {images}test images", spread.images + spread.retraining_by_images),
        ("retraining", spread.retraining),
    ]
    if len(networks) > 1:
        bars.append((f"base networks ({len(networks)})", float(np.var(networks, ddof=1))))
    return [(name, float(np.sqrt(variance))) for name, variance in bars]


def _words(bars: Sequence[tuple[str, float]], y: Metric) -> str:
    return "; ".join(f"{name} {difference(deviation, y)}" for name, deviation in bars)
