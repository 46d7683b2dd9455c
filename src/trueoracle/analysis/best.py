"""The best mask so far: the one whose repeats end best, and what it is worth on other images of the kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from trueoracle.analysis.masks import CellMasks, Values
from trueoracle.analysis.result import Absent, Interval

_NO_ANSWERS = Absent(why="which images each mask answers right is not known")


@dataclass(frozen=True, kw_only=True)
class BestMask:
    """The best of all masks of some cells: `mask` of cell `group`, with the mean `result` of its `repeats`.

    `interval` (95%, Wilson's, Journal of the American Statistical Association 22, 1927) is its accuracy on other images of the
    kind; the repeats' answers to an image count as one. It is right where validation images chose the mask
    (`chosen_on_validation`): where the test images chose it, they flatter it.
    """

    group: str
    mask: int | None
    result: float
    repeats: int
    interval: Interval | Absent
    chosen_on_validation: bool


def best_mask(cells: Sequence[CellMasks]) -> BestMask:
    """The best mask of all cells, by validation images where every cell has their answers, else by the result itself."""
    on_validation = all(cell.validation is not None for cell in cells)
    worth = [_worth(cell, on_validation=on_validation) for cell in cells]
    cell, values = max(zip(cells, worth, strict=True), key=lambda one: one[1].max())
    at = int(values.argmax())
    return BestMask(
        group=cell.group,
        mask=cell.mask[at] if cell.mask else None,
        result=float(cell.raw_y[at]),
        repeats=int(np.isfinite(cell.y_nR[at]).sum()),
        interval=_interval(cell, at),
        chosen_on_validation=on_validation,
    )


def _worth(cell: CellMasks, *, on_validation: bool) -> Values:
    """What each mask is chosen by, higher being better: shape (n,)."""
    if not on_validation or cell.validation is None:
        return cell.y_metric.sign * cell.raw_y
    known_nR = cell.validation.known_nR
    right_n = np.where(known_nR, cell.validation.right_nRI.mean(axis=2), 0).sum(axis=1)
    return np.asarray(right_n / known_nR.sum(axis=1))


def _interval(cell: CellMasks, at: int) -> Interval | Absent:
    if cell.test is None or cell.y_metric.unit != "share":
        return _NO_ANSWERS
    right = float(cell.test.right_nRI[at][cell.test.known_nR[at]].mean())
    images = cell.test.images
    found = binomtest(round(right * images), images).proportion_ci(method="wilson")
    return Interval(low=float(found.low), high=float(found.high))
