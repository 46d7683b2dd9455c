"""The masks of one cell as arrays: what every statistic is computed from. Letters: n masks, R repeats."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trueoracle.analysis.result import Absent
from trueoracle.words.errors import TableError

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CellMasks:
    """Predictors `x` (each of shape (n,)) and the results `y_nR` of every finished repeat, NaN where there is none.

    `pruned` is each mask's JSON, site -> pruned units; `units` says how many units each site has, where that is known.
    `loss` is the pruned train loss, whichever predictor is asked about; `parameters_kept` and `operations_kept` are shares of the base's.
    """

    group: str
    x: Mapping[str, Values]
    y_name: str
    y_nR: Values
    excluded: int = 0
    mask: tuple[int, ...] | None = None
    pruned: tuple[str, ...] | None = None
    units: Mapping[str, int] | None = None
    loss: Values | None = None
    classes: int | Absent = field(default=Absent(why="the number of classes is not known: name it with `--classes`"))
    parameters_kept: float | Absent = field(default=Absent(why="a table does not say what the networks cost"))
    operations_kept: float | Absent = field(default=Absent(why="a table does not say what the networks cost"))

    def __post_init__(self) -> None:
        where = f"in group `{self.group}`" if self.group else "in the table"
        if self.n < 3:
            raise TableError(f"a correlation needs at least 3 masks, but {where} there are {self.n}")
        for name, values in (*self.x.items(), (self.y_name, self.raw_y)):
            _check(values, name, where)

    @property
    def n(self) -> int:
        """How many masks."""
        return len(self.y_nR)

    @cached_property
    def raw_y(self) -> Values:
        """The mean of each mask's repeats, to the last bit: shape (n,)."""
        counts = np.isfinite(self.y_nR).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nansum(self.y_nR, axis=1) / np.where(counts, counts, np.nan))

    @cached_property
    def y(self) -> Values:
        """The mean of each mask's repeats, as measured: equal means tie."""
        return as_measured(self.raw_y, self.y_name)

    @property
    def trials(self) -> int:
        """How many finished repeats, over all masks."""
        return int(np.isfinite(self.y_nR).sum())

    @property
    def y_sign(self) -> float:
        """+1 where a higher result is better, else -1."""
        return 1.0 if higher_is_better(self.y_name) else -1.0


def x_sign(name: str) -> float:
    """+1 for a predictor that promises more the lower it is (a loss, what a criterion throws away), else -1."""
    return -1.0 if "accuracy" in name.lower() else 1.0


def higher_is_better(name: str) -> bool:
    """Whether a result of this name is better when higher: all but losses and errors."""
    return not ("loss" in name.lower() or "error" in name.lower())


def as_measured(values: Values, name: str) -> Values:
    """Accuracies to a millionth, so that means equal but for rounding error tie; other columns as they are."""
    return np.round(values, 6) if "accuracy" in name.lower() else values


def _check(values: Values, name: str, where: str) -> None:
    missing = int((~np.isfinite(values)).sum())
    if missing:
        raise TableError(f"column `{name}` holds {missing} missing or infinite values {where}: drop those rows first")
    if np.ptp(as_measured(values, name)) == 0:
        raise TableError(f"column `{name}` is constant ({values[0]:g}) {where}: nothing can correlate with it")
