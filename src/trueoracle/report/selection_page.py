"""A selection as one page: the chosen mask, what it reaches, what it cost, what it was held against, and the rungs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from trueoracle.report import drawing
from trueoracle.report.drawing import Scale
from trueoracle.report.page import environment, own
from trueoracle.report.rungs import rungs
from trueoracle.report.wording import share
from trueoracle.words.errors import ReportError
from trueoracle.words.files import check_folder, write_whole
from trueoracle.words.selection import Measured, Selected

CANDIDATES = 12
"""So many are in the table: the foremost."""


def write_selection_report(found: Selected, path: Path) -> None:
    """Write the page; `ReportError` where it cannot be written."""
    check_folder(path.parent)
    page = selection_page(found)
    write_whole(path, lambda partial: partial.write_text(page, encoding="utf-8"), ReportError)


def selection_page(found: Selected) -> str:
    """The page as text."""
    return environment().get_template("selection.html").render(css=Markup(own("page.css")), **selection_context(found))


def selection_context(found: Selected) -> dict[str, Any]:
    """What the template `selection_parts.html`, all of the page but its head, speaks of."""
    lines = [_Line("the chosen mask", found.test), *(_Line(rival.name, rival.test) for rival in found.rivals)]
    return {
        "found": found,
        "shown": found.candidates[:CANDIDATES],
        "several": len({one.cell for one in found.candidates}) > 1,
        "rungs": rungs(found),
        "against": _against(lines) if found.rivals else "",
    }


@dataclass(frozen=True)
class _Line:
    name: str
    test: Measured


_WIDTH, _LEFT, _RIGHT, _ROW = 620, 14, 540, 38


def _against(lines: Sequence[_Line]) -> Markup:
    """Test accuracies with their intervals, one above the other."""
    across = Scale.around([100 * end for one in lines for end in (one.test.low, one.test.high)], _LEFT, _RIGHT)
    bottom = _ROW * len(lines) + 6
    parts = [drawing.bottom_axis(across, bottom, "accuracy on test images, %, and its 95% interval", top=0)]
    for place, one in enumerate(lines):
        y = _ROW * (place + 0.7)
        parts += [
            drawing.text(_LEFT, y - 11, one.name, "title" if place == 0 else "tick"),
            drawing.line(across.at(100 * one.test.low), y, across.at(100 * one.test.high), y, "interval"),
            drawing.dots(across([100 * one.test.value]), np.array([y]), "winner" if place == 0 else "estimate"),
            drawing.text(_RIGHT + 10, y + 4, share(one.test.value), "tick"),
        ]
    words = "; ".join(f"{one.name} {share(one.test.value)}" for one in lines)
    return drawing.picture(_WIDTH, bottom + 46, f"Accuracy on test images: {words}.", parts, kind="against")
