"""The picture of a selection's rungs: a line a mask, from the accuracy it showed on the lowest to where it was left behind."""

import numpy as np
from markupsafe import Markup

from trueoracle.report import drawing
from trueoracle.report.drawing import Scale
from trueoracle.report.wording import share
from trueoracle.words.selection import Candidate, Selected

_WIDTH, _HEIGHT = 620, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 596, 34, 318


def rungs(found: Selected) -> Markup:
    """Accuracy on the images that choose, by the epochs of the rung; the chosen mask stands out."""
    lengths = [rung.epochs for rung in found.rungs]
    across = {epochs: float(x) for epochs, x in zip(lengths, _places(len(lengths)), strict=True)}
    down = Scale.around(
        [100 * seen.validation_accuracy for one in found.candidates for seen in one.seen], _BOTTOM, _TOP
    )
    parts = [drawing.left_axis(down, _LEFT, "accuracy on validation images, %", _RIGHT)]
    for rung in found.rungs:
        x = across[rung.epochs]
        parts.append(drawing.line(x, _BOTTOM, x, _TOP, "gridline"))
        parts.append(drawing.text(x, _BOTTOM + 20, _many(rung.epochs, "epoch"), "title", anchor="middle"))
        parts.append(drawing.text(x, _BOTTOM + 38, _many(rung.masks, "mask"), "tick", anchor="middle"))
    others = [one for one in found.candidates if (one.cell, one.mask) != (found.chosen.cell, found.chosen.mask)]
    parts.append(drawing.group("left-behind", [_line(one, across, down, "left-behind-curve") for one in others]))
    parts += [_dots(one, across, down, "masks") for one in others]
    parts += [_line(found.chosen, across, down, "chosen-curve"), _dots(found.chosen, across, down, "winner")]
    return drawing.picture(_WIDTH, _HEIGHT, _words(found), parts, kind="rungs")


def _places(rungs: int) -> np.ndarray:
    return np.linspace(_LEFT + 40, _RIGHT - 40, rungs) if rungs > 1 else np.array([(_LEFT + _RIGHT) / 2])


def _line(one: Candidate, across: dict[int, float], down: Scale, kind: str) -> Markup:
    return drawing.curve(*_points(one, across, down), kind) if len(one.seen) > 1 else Markup("")


def _dots(one: Candidate, across: dict[int, float], down: Scale, kind: str) -> Markup:
    return drawing.dots(*_points(one, across, down), kind)


def _points(one: Candidate, across: dict[int, float], down: Scale) -> tuple[np.ndarray, np.ndarray]:
    x = np.array([across[seen.epochs] for seen in one.seen])
    return x, down([100 * seen.validation_accuracy for seen in one.seen])


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _words(found: Selected) -> str:
    on_rungs = "; ".join(f"{_many(rung.masks, 'mask')} for {_many(rung.epochs, 'epoch')}" for rung in found.rungs)
    shown = found.chosen.highest
    return (
        f"Rungs of the selection {found.name}: {on_rungs}. The chosen mask showed {share(shown.validation_accuracy)} "
        f"after {_many(shown.epochs, 'epoch')}."
    )
