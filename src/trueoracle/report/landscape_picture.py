"""How the pruned train losses of a whole mask space lie: a histogram, and against the accuracies."""

import numpy as np
from markupsafe import Markup

from trueoracle.report import drawing
from trueoracle.report.drawing import Scale
from trueoracle.store.landscape import ACCURACIES, BIN, Landscape

WIDTH, HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 628, 44, 310
_CHOSEN = " A search chose these masks."


def landscape_pictures(what: str, found: Landscape) -> tuple[Markup, Markup]:
    """The histogram of losses, and losses against accuracies, of a landscape called `what`."""
    return _histogram(what, found), _joint(what, found)


def _ends(found: Landscape) -> tuple[int, int]:
    """The bins of loss that hold masks: the first, and one behind the last."""
    filled = np.flatnonzero(found.counts)
    return (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 1)


def _across(found: Landscape) -> str:
    return "pruned train loss (nats)" + ", of masks that a search chose" * found.searched


def _histogram(what: str, found: Landscape) -> Markup:
    first, end = _ends(found)
    counts = found.counts[first:end]
    across = Scale(low=BIN * first, high=BIN * end, start=_LEFT, end=_RIGHT)
    up = Scale(low=0, high=1.05 * max(1, counts.max()), start=_BOTTOM, end=_TOP)
    bars = [
        drawing.box(
            across.at(BIN * place), up.at(count), across.at(BIN) - across.at(0) - 0.4, _BOTTOM - up.at(count), "bar"
        )
        for place, count in enumerate(counts.tolist(), first)
        if count
    ]
    parts = [
        drawing.bottom_axis(across, _BOTTOM, _across(found)),
        drawing.left_axis(up, _LEFT, f"masks in {BIN:g} nats", right=_RIGHT, most=5),
        drawing.group("bars", bars),
    ]
    below = np.cumsum(counts) / max(1, counts.sum())
    middle = BIN * (first + int(np.searchsorted(below, 0.5)) + 0.5)
    words = (
        f"Histogram of the pruned train losses of {found.masks:,} masks of {what}: from {BIN * first:.2f} to {BIN * end:.2f} nats, "
        f"half of them below about {middle:.2f}.{_CHOSEN * found.searched}"
    )
    return drawing.picture(WIDTH, HEIGHT, words, parts, kind="scatter")


def _joint(what: str, found: Landscape) -> Markup:
    first, end = _ends(found)
    filled = np.flatnonzero(found.joint.sum(axis=0))
    low, high = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 1)
    across = Scale(low=BIN * first, high=BIN * end, start=_LEFT, end=_RIGHT)
    up = Scale(low=low / ACCURACIES, high=high / ACCURACIES, start=_BOTTOM, end=_TOP)
    losses, accuracies = np.nonzero(found.joint)
    depth = np.sqrt(found.joint[losses, accuracies] / max(1, found.joint.max()))
    wide, tall = across.at(BIN) - across.at(0), up.at(0) - up.at(1 / ACCURACIES)
    squares = [
        drawing.shade(across.at(BIN * loss), up.at((accuracy + 1) / ACCURACIES), wide, tall, deep)
        for loss, accuracy, deep in zip(losses.tolist(), accuracies.tolist(), depth.tolist(), strict=True)
    ]
    parts = [
        drawing.group("masks binned", squares),
        drawing.bottom_axis(across, _BOTTOM, _across(found)),
        drawing.left_axis(up, _LEFT, "pruned train accuracy", right=_RIGHT, most=5),
    ]
    words = (
        f"Pruned train loss against accuracy of {found.masks:,} masks of {what}, the deeper the more masks: accuracies from "
        f"{low / ACCURACIES:.2f} to {high / ACCURACIES:.2f}.{_CHOSEN * found.searched}"
    )
    return drawing.picture(WIDTH, HEIGHT, words, parts, kind="scatter")
