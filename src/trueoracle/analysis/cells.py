"""A stored study cell by cell: every mask with its repeats, trials without figures counted and left out."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from trueoracle.analysis.analyze import analyze_cells
from trueoracle.analysis.masks import CellMasks
from trueoracle.analysis.result import CellAnalysis
from trueoracle.errors import TableError, unknown
from trueoracle.store import Store
from trueoracle.trial import Outcome

X, Y = "pruned_train_loss", "final_test_accuracy"


def analyze_study(store: Store, study: str, x: str | Sequence[str] = X, y: str = Y) -> list[CellAnalysis]:
    """The analysis of `x` and `y` in every cell of the study (by name or digest) that has trials.

    `x` is a column of the trials or a criterion's score, or several of them: the first is judged, all are ranked.
    """
    xs = [x] if isinstance(x, str) else list(x)
    return analyze_cells(study_masks(store, study, xs, y), xs)


def study_masks(store: Store, study: str, xs: Sequence[str], y: str) -> list[CellMasks]:
    """The masks of each cell of a stored study, with what the store knows beyond its trial table."""
    digest = store.find(study).digest
    records = {record.name: record for record in store.cells(digest)}
    found = []
    for cell in trial_masks(scored_trials(store, study), xs, y):
        record = records[cell.group]
        base = store.base(digest, record.base)
        if base is not None:
            cell = replace(
                cell,
                parameters_kept=record.parameters / base.parameters,
                operations_kept=record.macs / base.macs,
            )
        found.append(cell)
    return found


def scored_trials(store: Store, study: str) -> pd.DataFrame:
    """The trial table of a study that has trials."""
    trials = store.trial_table(store.find(study).digest)
    if trials.empty:
        raise TableError(f"study `{study}` has no trials yet: run it first")
    return trials


def trial_masks(trials: pd.DataFrame, xs: Sequence[str], y: str) -> list[CellMasks]:
    """The masks of each cell of a trial table, in order of mask."""
    for column in (*xs, y):
        if column not in trials.columns:
            raise TableError(unknown("column", column, map(str, trials.columns)))
    return [_masks(str(cell), rows, xs, y) for cell, rows in trials.groupby("cell", sort=False)]


def _masks(cell: str, rows: pd.DataFrame, xs: Sequence[str], y: str) -> CellMasks:
    finished = rows[rows["outcome"] == Outcome.FINISHED.value]
    firsts = finished.groupby("mask", sort=True).first()
    repeats = finished.pivot(index="mask", columns="repeat", values=y).sort_index()
    return CellMasks(
        group=cell,
        x={x: firsts[x].to_numpy(float) for x in xs},
        y_name=y,
        y_nR=repeats.to_numpy(float) if len(repeats) else np.empty((0, 1)),
        excluded=len(rows) - len(finished),
        mask=tuple(int(mask) for mask in firsts.index),
        pruned=tuple(firsts["pruned"]) if "pruned" in firsts else None,
        loss=firsts[X].to_numpy(float) if X in firsts else None,
    )


def mean_over_repeats(rows: pd.DataFrame, x: str, y: str) -> tuple[pd.DataFrame, int]:
    """A row a mask, in order of mask, with `pruned`, x and the mean of y; and how many trials were left out."""
    for column in (x, y):
        if column not in rows.columns:
            raise TableError(unknown("column", column, map(str, rows.columns)))
    finished = rows[rows["outcome"] == Outcome.FINISHED.value]
    masks = finished.groupby("mask", sort=True).agg({"pruned": "first", x: "first", y: "mean"}).reset_index()
    return masks, len(rows) - len(finished)
