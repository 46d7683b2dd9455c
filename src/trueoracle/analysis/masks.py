"""The masks of one cell as arrays: what every statistic is computed from. Letters: n masks, R repeats."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trueoracle.analysis.metric import Better, Metric, metric
from trueoracle.analysis.result import Absent
from trueoracle.words.errors import TableError

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Right or wrong, image by image: `right_nRI`; `known_nR` says which trials finished. I images of one split."""

    right_nRI: NDArray[np.bool_]
    known_nR: NDArray[np.bool_]

    @property
    def images(self) -> int:
        """How many."""
        return int(self.right_nRI.shape[2])

    def sums(self, chosen_I: NDArray[np.bool_]) -> Values:
        """How many of the chosen images each trial has right: shape (n, R)."""
        return np.asarray(self.right_nRI[:, :, chosen_I].sum(axis=2), float)


@dataclass(frozen=True, kw_only=True)
class WeightedMasks:
    """The n masks of a sample stratified over the loss, those drawn at random among them.

    Predictors, results (means of repeats) and how many masks each stands for, each of shape (n,).
    """

    x: Mapping[str, Values]
    y: Values
    weight: Values


NOT_STRATIFIED = Absent(why="the masks were not drawn stratified over the loss")


@dataclass(frozen=True, kw_only=True)
class CellMasks:
    """Predictors `x` (each of shape (n,)) and the results `y_nR` of every finished repeat, NaN where there is none.

    `pruned` is each mask's JSON, site -> pruned units; `units` says how many units each site has, where that is known.
    `loss` is the pruned train loss, whichever predictor is asked about; `parameters_kept` and `operations_kept` are shares of the base's.
    `better` says which values of a column are better where its name does not. `space` is how many masks there are in all.
    `searched` masks more were chosen, by the loss or a criterion: they are no random sample, and left out. `weighted` is a
    sample that counts those of them that were drawn stratified.
    `test` and `validation` hold the answers to the images of a split, masks and repeats as in `y_nR`.
    """

    group: str
    x: Mapping[str, Values]
    y_name: str
    y_nR: Values
    better: Mapping[str, Better] = field(default_factory=dict)
    excluded: int = 0
    searched: int = 0
    mask: tuple[int, ...] | None = None
    pruned: tuple[str, ...] | None = None
    units: Mapping[str, int] | None = None
    loss: Values | None = None
    space: int | None = None
    weighted: WeightedMasks | Absent = NOT_STRATIFIED
    test: Answers | None = None
    validation: Answers | None = None
    classes: int | Absent = field(default=Absent(why="the number of classes is not known: name it with `--classes`"))
    parameters_kept: float | Absent = field(default=Absent(why="a table does not say what the networks cost"))
    operations_kept: float | Absent = field(default=Absent(why="a table does not say what the networks cost"))

    def __post_init__(self) -> None:
        where = f"in group `{self.group}`" if self.group else "in the table"
        if self.n < 3:
            raise TableError(f"a correlation needs at least 3 masks, but {where} there are {self.n}")
        for name, values in (*self.x.items(), (self.y_name, self.raw_y)):
            missing = int((~np.isfinite(values)).sum())
            if missing:
                raise TableError(
                    f"column `{name}` holds {missing} missing or infinite values {where}: drop those rows first"
                )
            _check_varies(values, name, where)

    def check_metrics(self) -> None:
        """`TableError` where it is not known which values of a column are better, or as measured all are equal."""
        where = f"in group `{self.group}`" if self.group else "in the table"
        for name, values in (*self.x.items(), (self.y_name, self.raw_y)):
            _check_varies(self.metric_of(name).measured(values), name, where)

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
        return self.y_metric.measured(self.raw_y)

    @property
    def trials(self) -> int:
        """How many finished repeats, over all masks."""
        return int(np.isfinite(self.y_nR).sum())

    @cached_property
    def y_metric(self) -> Metric:
        """What the result means."""
        return self.metric_of(self.y_name)

    @property
    def goodness(self) -> Values:
        """The results as measured, higher being better: shape (n,)."""
        return self.y_metric.sign * self.y

    def metric_of(self, name: str) -> Metric:
        """What a column means: a predictor or the result."""
        return metric(name, self.better.get(name))

    def promise(self, x: str) -> Values:
        """What predictor `x` promises of each mask, as measured, higher being better: shape (n,)."""
        column = self.metric_of(x)
        return column.sign * column.measured(self.x[x])


def _check_varies(values: Values, name: str, where: str) -> None:
    if np.ptp(values) == 0:
        raise TableError(f"column `{name}` is constant ({values[0]:g}) {where}: nothing can correlate with it")
