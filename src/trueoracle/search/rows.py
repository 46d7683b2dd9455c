"""Masks of a pattern N:M, row by row: of each row the pattern of lowest loss, given those chosen before it, the rows to come whole.

In every row the choice is exact, for all C(M, N) patterns are judged; where the rows do not depend on one another, so is the
mask. A space of C(M, N) to the power of the rows is thereby searched with C(M, N) times the rows evaluations.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from trueoracle.space import WeightSpace
from trueoracle.words.errors import SpecError
from trueoracle.words.mask import WeightGroup, WeightMask
from trueoracle.words.progress import Advance

ROWS = "rows"
"""What the search is called."""

JudgeMasks = Callable[[Sequence[WeightMask]], NDArray[np.float64]]
"""The losses of masks."""


def row_evaluations(space: WeightSpace) -> int:
    """How many losses are asked for."""
    return sum(group.rows * comb(group.row, group.kept) for group in space.sites)


def check_rows(space: WeightSpace, evaluations: int) -> None:
    """`SpecError` where a budget of so many evaluations does not suffice."""
    needs = row_evaluations(space)
    if evaluations < needs:
        shown = f"{needs:,}" if needs < 10**15 else "more than 10^15"
        raise SpecError(
            f"search `{ROWS}` takes {shown} evaluations here, every pattern of every row, but `evaluations` is {evaluations:,}"
        )


def row_by_row(space: WeightSpace, judge: JudgeMasks, advance: Advance = lambda _rows: None) -> WeightMask:
    """The mask that is found; `advance` is told of rows. Of patterns of equal loss the first in order is taken."""
    gone = {group.site: np.zeros((group.rows, group.row), np.bool_) for group in space.sites}
    for group in space.sites:
        for row in range(group.rows):
            tries = [
                _with_row(gone[group.site], row, pattern)
                for pattern in combinations(range(group.row), group.row - group.kept)
            ]
            loss_P = judge([_mask(space.sites, {**gone, group.site: one}) for one in tries])
            gone[group.site] = tries[int(np.nanargmin(loss_P)) if np.isfinite(loss_P).any() else 0]
            advance(1)
    return _mask(space.sites, gone)


def _with_row(gone: NDArray[np.bool_], row: int, pattern: tuple[int, ...]) -> NDArray[np.bool_]:
    changed = gone.copy()
    changed[row, list(pattern)] = True
    return changed


def _mask(groups: tuple[WeightGroup, ...], gone: dict[str, NDArray[np.bool_]]) -> WeightMask:
    return WeightMask(
        groups=groups, bits=tuple(np.packbits(gone[group.site]).tobytes() for group in groups), criterion=ROWS
    )
