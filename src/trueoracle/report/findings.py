"""What a report shows of a study, as values: read from the store and analysed, not yet drawn.

Letters: n masks, R repeats, E epochs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trueoracle.analysis import Absent, CellAnalysis, CellMasks, Leaderboard, Options, PooledCell, compare, pool
from trueoracle.analysis.analyze import analyze_cells
from trueoracle.analysis.cells import X, random_sample, study_masks
from trueoracle.analysis.regret import better_than
from trueoracle.store import BaseRecord, CellRecord, RunRecord, Status, Store, StudyRecord
from trueoracle.words.errors import StoreError, TableError
from trueoracle.words.progress import Progress
from trueoracle.words.spec import StudySpec
from trueoracle.words.trial import Outcome

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """The learning curves of a cell's masks, each the mean over the mask's finished repeats.

    The train loss begins with that of the pruned network before retraining, so it has E + 1 entries; what it is judged by on
    test images has one after each of the E epochs that were evaluated: `result`, the test accuracy, or of noise the test loss.
    `epochs_E1` are these epochs, 0 before them. `oracle_..._R...` are the oracle mask's repeats one by one.
    """

    result: str

    epochs_E1: NDArray[np.int64]
    train_loss_nE1: Values
    result_nE: Values
    oracle_train_loss_RE1: Values
    oracle_result_RE: Values


@dataclass(frozen=True, kw_only=True)
class Points:
    """Masks in a picture: predictor and result (mean of repeats) of each, of equal shape."""

    x: Values
    y: Values


@dataclass(frozen=True, kw_only=True)
class CellFindings:
    """One cell: what is stored of it, its masks with at least one finished trial, and their analysis.

    `sites` and `ratio` say where it stands in the results grid; `outcomes` counts its trials by how they ended.
    `standard_error_n` is that of the masks' pruned train losses, 0 where they were taken on the whole train split.
    `searched` are the masks that were chosen by their loss: shown, but in no figure.
    """

    record: CellRecord
    base: BaseRecord
    sites: str
    ratio: str
    masks: CellMasks
    analysis: CellAnalysis
    curves: Curves
    outcomes: Mapping[str, int]
    standard_error_n: Values
    searched: Points

    @property
    def x(self) -> Values:
        """The predictor that is judged, of each mask: shape (n,)."""
        return self.masks.x[self.analysis.x]

    @property
    def y(self) -> Values:
        """The result of each mask, the mean of its repeats: shape (n,)."""
        return self.masks.raw_y

    @cached_property
    def oracle(self) -> int:
        """Where the oracle mask stands among the masks."""
        return self.ranks.index(_oracle(self.analysis))

    @property
    def ranks(self) -> tuple[int, ...]:
        """The masks by their ranks."""
        return self.masks.mask or ()

    @property
    def exact(self) -> bool:
        """Whether every mask of the space was evaluated on the whole split, so that the oracle mask is the lowest of all."""
        return self.record.masks == self.record.space and not self.standard_error_n.any()

    @cached_property
    def rivals(self) -> tuple[int, ...]:
        """The ranks of the other masks whose pruned train loss lies within two standard errors (of the difference, taken
        for independent) of the oracle mask's, the lowest first.
        """
        behind_n = self.x - self.x[self.oracle]
        margin_n = 2 * np.hypot(self.standard_error_n, self.standard_error_n[self.oracle])
        near = [at for at in np.argsort(behind_n, kind="stable") if at != self.oracle and behind_n[at] <= margin_n[at]]
        return tuple(self.ranks[at] for at in near)

    @cached_property
    def anomalies(self) -> NDArray[np.bool_]:
        """Which masks end strictly better than the oracle mask: shape (n,)."""
        return better_than(self.masks.y_metric.sign * self.masks.raw_y, self.oracle)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """A study: its cells with trials in order, its base networks, its runs; `waiting` are the cells without trials.

    `left_out` says of cells by name why they cannot be analysed, as yet or at all.

    `pooled` says of each cell what holds over several base networks; it is empty where there is one. `board` ranks the predictors,
    where there are several.
    """

    record: StudyRecord
    spec: StudySpec
    bases: tuple[BaseRecord, ...]
    cells: tuple[CellFindings, ...]
    waiting: tuple[CellRecord, ...]
    left_out: Mapping[str, str]
    pooled: tuple[PooledCell, ...]
    board: Leaderboard | Absent
    runs: tuple[RunRecord, ...]
    status: Status
    x: str
    y: str


def find(
    store: Store, study: str, progress: Progress, x: str = X, y: str | None = None, options: Options | None = None
) -> Findings:
    """Everything about a study (by name or digest) whose predictor `x` is judged against `y`; all others are ranked beside it.

    Without `y` it is what the study's task is judged by.
    `TableError` where there is too little to analyse.
    """
    record = store.find(study)
    spec = record.parsed
    y = y or spec.result
    records = store.cells(record.digest)
    trials = store.trial_table(record.digest)
    if trials.empty:
        raise TableError(f"study `{study}` has no trials yet: run it first")
    bases = _bases(store, record.digest, records)
    left_out: dict[str, str] = {}
    masks = study_masks(store, record.digest, [x], y, left_out=left_out)
    analyses = analyze_cells(masks, [x], options, progress)
    begun = {record.name: record for record in records}
    cells = []
    with progress.task("reading learning curves", len(masks), "cells") as advance:
        for cell, analysis in zip(masks, analyses, strict=True):
            of_cell = trials[trials["cell"] == cell.group]
            cells.append(_cell(store, record.digest, spec, begun[cell.group], bases, cell, analysis, of_cell))
            advance(1)
    shown = {cell.record.name for cell in cells} | left_out.keys()
    return Findings(
        record=record,
        spec=spec,
        bases=tuple(bases.values()),
        cells=tuple(cells),
        waiting=tuple(cell for cell in records if cell.name not in shown),
        left_out=left_out,
        pooled=tuple(pool(analyses, records)),
        board=_board(store, record.digest, y, progress),
        runs=tuple(store.runs(record.digest)),
        status=store.status(record.digest, spec.repeats * sum(cell.masks for cell in records)),
        x=x,
        y=y,
    )


def _board(store: Store, digest: str, y: str, progress: Progress) -> Leaderboard | Absent:
    try:
        board = compare(store, [digest], y=y, progress=progress)
    except TableError as error:
        return Absent(why=str(error))
    return board if len(board.rows) > 1 else Absent(why="there is one predictor only")


def _bases(store: Store, digest: str, cells: list[CellRecord]) -> dict[int, BaseRecord]:
    found = {}
    for number in sorted({cell.base for cell in cells}):
        base = store.base(digest, number)
        if base is None:
            raise StoreError(f"base network {number} of study `{digest[:12]}` is not trained yet: run the study")
        found[number] = base
    return found


def _cell(
    store: Store,
    digest: str,
    spec: StudySpec,
    record: CellRecord,
    bases: Mapping[int, BaseRecord],
    masks: CellMasks,
    analysis: CellAnalysis,
    trials: pd.DataFrame,
) -> CellFindings:
    sites, ratio = _place(spec, record)
    drawn, _ = random_sample(trials)
    errors = store.standard_errors(digest, record.index)
    finished = drawn[drawn["outcome"] == Outcome.FINISHED.value]
    return CellFindings(
        record=record,
        base=bases[record.base],
        sites=sites,
        ratio=ratio,
        masks=masks,
        analysis=analysis,
        curves=_curves(
            store.curve_table(digest, record.index), finished, _oracle(analysis), spec.result.removeprefix("final_")
        ),
        outcomes={outcome.value: int((drawn["outcome"] == outcome.value).sum()) for outcome in Outcome},
        standard_error_n=np.array([errors[rank] for rank in masks.mask or ()]),
        searched=_points(trials.drop(drawn.index), analysis),
    )


def _points(trials: pd.DataFrame, analysis: CellAnalysis) -> Points:
    """The masks of these trials that have a result."""
    finished = trials[trials["outcome"] == Outcome.FINISHED.value]
    masks = finished.groupby("mask", sort=True)[[analysis.x, analysis.y]].mean().dropna()
    return Points(x=masks[analysis.x].to_numpy(float), y=masks[analysis.y].to_numpy(float))


def _oracle(analysis: CellAnalysis) -> int:
    rank = analysis.choice.oracle_mask
    assert not isinstance(rank, Absent), "the masks of a stored study have ranks"
    return rank


def _place(spec: StudySpec, record: CellRecord) -> tuple[str, str]:
    """The cell's row and column in the results grid: its sites and its ratio, `0.5+0.4` where they differ."""
    return spec.cells[record.index % len(spec.cells)].place


def _curves(table: pd.DataFrame, finished: pd.DataFrame, oracle: int, result: str) -> Curves:
    """The curves of the finished trials, masks in order of rank; every finished trial lived through all epochs."""
    before = finished.groupby("mask", sort=True)["pruned_train_loss"].first()
    kept = table.merge(finished[["mask", "repeat"]], on=["mask", "repeat"])
    means = kept.groupby(["mask", "epoch"], sort=True)[["train_loss", result]].mean()
    of_oracle = kept[kept["mask"] == oracle].pivot(index="repeat", columns="epoch")
    oracle_loss = of_oracle["train_loss"].to_numpy(float)
    return Curves(
        result=result,
        epochs_E1=np.concatenate([[0], means.index.unique("epoch")]),
        train_loss_nE1=np.column_stack([before, means["train_loss"].unstack()]),
        result_nE=means[result].unstack().to_numpy(float),
        oracle_train_loss_RE1=np.column_stack([np.full(len(oracle_loss), before[oracle]), oracle_loss]),
        oracle_result_RE=of_oracle[result].to_numpy(float),
    )
