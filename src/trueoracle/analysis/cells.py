"""A stored study cell by cell: every mask with its repeats, trials without figures counted and left out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from trueoracle.analysis.analyze import Options, analyze_cells
from trueoracle.analysis.masks import NOT_STRATIFIED, Answers, CellMasks, Values, WeightedMasks
from trueoracle.analysis.metric import Better, Metric, known, metric
from trueoracle.analysis.result import Absent, CellAnalysis
from trueoracle.store import SEARCHED, TRIAL_COLUMNS, WEIGHT, CellRecord, Store
from trueoracle.words.errors import TableError, unknown
from trueoracle.words.progress import Progress
from trueoracle.words.spec import parse_spec
from trueoracle.words.trial import Outcome

X, Y = "pruned_train_loss", "final_test_accuracy"


def analyze_study(
    store: Store,
    study: str,
    x: str | Sequence[str] = X,
    y: str | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
    better: Mapping[str, Better] | None = None,
) -> list[CellAnalysis]:
    """The analysis of `x` and `y` in every cell of the study (by name or digest) that has trials.

    `x` is a column of the trials or a criterion's score, or several of them: the first is judged, all are ranked. Where
    one `x` is named, every criterion that the study scored its masks by is ranked with it. `better` says of columns which
    values are better; else their names do, and of a criterion lower is: it says what a mask throws away. Without `y` it
    is what the study's task is judged by.
    """
    y = y or result_of(store, [study])
    xs = [x] if isinstance(x, str) else list(x)
    if y in xs:
        raise TableError(f"x and y are the same column, `{y}`: name two")
    return analyze_cells(study_masks(store, study, xs, y, better), xs, options, progress)


def result_of(store: Store, studies: Sequence[str]) -> str:
    """What the tasks of these studies are judged by; `TableError` where that is not the same for all."""
    records = [store.find(study) for study in studies]
    found = {parse_spec(json.loads(record.spec), record.name).result for record in records}
    if len(found) > 1:
        raise TableError(f"the studies are judged by {' and by '.join(sorted(found))}: name one by `--y`")
    return found.pop() if found else Y


def study_masks(
    store: Store,
    study: str,
    xs: Sequence[str],
    y: str,
    better: Mapping[str, Better] | None = None,
    left_out: dict[str, str] | None = None,
) -> list[CellMasks]:
    """The masks of each cell of a stored study, with what the store knows beyond its trial table.

    A cell that cannot bear statistics, as one that has just begun, is an error; where `left_out` is given, it is told there
    by its name, with the reason, and left out. If that leaves none, `TableError` gives the first reason.
    """
    digest = store.find(study).digest
    records = {record.name: record for record in store.cells(digest)}
    trials = scored_trials(store, study)
    ranked = list(dict.fromkeys([*xs, *(predictors_of(trials) if len(xs) == 1 else ())]))
    cells = trial_masks(trials, xs, y, ranked, {**thrown_away(trials), **(better or {})}, left_out)
    return [with_store(cell, records[cell.group], store, digest) for cell in cells]


def predictors_of(trials: pd.DataFrame) -> list[str]:
    """The pruned train loss and the columns of criteria."""
    return [X, *(str(column) for column in trials.columns if column not in (*TRIAL_COLUMNS, SEARCHED, WEIGHT))]


def thrown_away(trials: pd.DataFrame) -> Mapping[str, Better]:
    """Of criteria lower is better: they say what a mask throws away."""
    return {name: Better.LOWER for name in predictors_of(trials) if known(name) is None}


def with_store(cell: CellMasks, record: CellRecord, store: Store, digest: str) -> CellMasks:
    """The cell with what the store knows beyond its trial table."""
    base = store.base(digest, record.base)
    cell = replace(
        cell,
        test=_answers(cell, store, digest, record.index, "test"),
        validation=_answers(cell, store, digest, record.index, "validation"),
    )
    cell = replace(cell, units={site: units for site, (units, _) in record.sites.items()}, space=record.space)
    if base is None:
        return cell
    return replace(
        cell,
        classes=base.classes or Absent(why="nothing is sorted into classes, so no loss is that of guessing"),
        parameters_kept=record.parameters / base.parameters,
        operations_kept=record.macs / base.macs,
    )


def _answers(
    cell: CellMasks, store: Store, digest: str, index: int, split: Literal["test", "validation"]
) -> Answers | None:
    """The answers of the cell's masks to a split; None where some mask has none."""
    found = store.answers(digest, index, split)
    if found is None or cell.mask is None:
        return None
    place = {rank: row for row, rank in enumerate(found.ranks)}
    rows = [place[rank] for rank in cell.mask]
    answers = Answers(right_nRI=found.right_MRI[rows], known_nR=found.known_MR[rows])
    return answers if answers.known_nR.any(axis=1).all() else None


def scored_trials(store: Store, study: str) -> pd.DataFrame:
    """The trial table of a study that has trials."""
    trials = store.trial_table(store.find(study).digest)
    if trials.empty:
        raise TableError(f"study `{study}` has no trials yet: run it first")
    return trials


def trial_masks(
    trials: pd.DataFrame,
    xs: Sequence[str],
    y: str,
    ranked: Sequence[str] | None = None,
    better: Mapping[str, Better] | None = None,
    left_out: dict[str, str] | None = None,
) -> list[CellMasks]:
    """The masks of each cell of a trial table, in order of mask; `left_out` as in `study_masks`.

    Of the predictors to be `ranked`, those not among `xs` are left out of a cell where they cannot correlate (one
    value for all masks, or missing): that is an error only for what was asked for.
    """
    for column in (*xs, y):
        if column not in trials.columns:
            raise TableError(unknown("column", column, map(str, trials.columns)))
    found = []
    for cell, of_cell in trials.groupby("cell", sort=False):
        rows, searched = random_sample(of_cell)
        if not len(rows):
            continue
        weighted = _weighted(of_cell, xs, y)
        try:
            masks = _masks(str(cell), rows, xs, y, ranked or xs, better or {})
            masks.check_metrics()
        except TableError as error:
            if left_out is None:
                raise
            left_out[str(cell)] = str(error)
        else:
            found.append(replace(masks, searched=searched, weighted=weighted))
    if not found:
        raise TableError(next(iter((left_out or {}).values()), ALL_SEARCHED))
    return found


ALL_SEARCHED = "all masks were found by a search or given by criteria: statistics need masks that were drawn at random"


def _weighted(rows: pd.DataFrame, xs: Sequence[str], y: str) -> WeightedMasks | Absent:
    """The stratified sample of a cell, of which those masks count that have a finished trial."""
    if WEIGHT not in rows:
        return NOT_STRATIFIED
    weighed = rows[rows[WEIGHT].notna() & (rows["outcome"] == Outcome.FINISHED.value)]
    if weighed.empty:
        return NOT_STRATIFIED
    masks = weighed.groupby("mask", sort=True)
    firsts = masks.first()
    return WeightedMasks(
        x={x: firsts[x].to_numpy(float) for x in xs},
        y=masks[y].mean().to_numpy(float),
        weight=firsts[WEIGHT].to_numpy(float),
    )


def random_sample(rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The rows of masks that were drawn at random, and how many others are left out (see the column `searched`).

    Those are of low loss by choice: a correlation with the loss, or a share of masks that end better, would be the
    search's doing where they are counted in.
    """
    if SEARCHED not in rows:
        return rows, 0
    by_search = rows[SEARCHED].astype(bool)
    left_out = rows[by_search]
    return rows[~by_search], int(left_out["mask"].nunique() if "mask" in rows else len(left_out))


def _masks(
    cell: str, rows: pd.DataFrame, xs: Sequence[str], y: str, ranked: Sequence[str], better: Mapping[str, Better]
) -> CellMasks:
    finished = rows[rows["outcome"] == Outcome.FINISHED.value]
    firsts = finished.groupby("mask", sort=True).first()
    repeats = finished.pivot(index="mask", columns="repeat", values=y).sort_index()
    columns = {x: firsts[x].to_numpy(float) for x in ranked}
    return CellMasks(
        group=cell,
        x={x: values for x, values in columns.items() if x in xs or _tells(values, metric(x, better.get(x)))},
        y_name=y,
        better=better,
        y_nR=repeats.to_numpy(float) if len(repeats) else np.empty((0, 1)),
        excluded=len(rows) - len(finished),
        mask=tuple(int(mask) for mask in firsts.index),
        pruned=tuple(firsts["pruned"]) if "pruned" in firsts else None,
        loss=firsts[X].to_numpy(float) if X in firsts else None,
    )


def _tells(values: Values, column: Metric) -> bool:
    """Whether a predictor tells masks apart, as measured."""
    return bool(len(values) and np.isfinite(values).all() and np.ptp(column.measured(values)) > 0)


def trial_seconds(store: Store, study: str) -> dict[str, float]:
    """Core-seconds that a finished trial of each cell took on average."""
    trials = store.trial_table(store.find(study).digest)
    finished = trials[trials["outcome"] == Outcome.FINISHED.value]
    return {str(cell): float(mean) for cell, mean in finished.groupby("cell", sort=False)["seconds"].mean().items()}


def mean_over_repeats(rows: pd.DataFrame, x: str, y: str) -> tuple[pd.DataFrame, int]:
    """A row a mask, in order of mask, with `pruned`, x and the mean of y; and how many trials were left out."""
    for column in (x, y):
        if column not in rows.columns:
            raise TableError(unknown("column", column, map(str, rows.columns)))
    finished = rows[rows["outcome"] == Outcome.FINISHED.value]
    masks = finished.groupby("mask", sort=True).agg({"pruned": "first", x: "first", y: "mean"}).reset_index()
    return masks, len(rows) - len(finished)
