"""Any table that a user brings: a row a mask, in each group of a column."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
from pandas.api.types import is_numeric_dtype

from trueoracle.analysis.analyze import Options, analyze_cells
from trueoracle.analysis.cells import ALL_SEARCHED, X, Y, random_sample, trial_masks
from trueoracle.analysis.masks import CellMasks
from trueoracle.analysis.metric import Better
from trueoracle.analysis.reading import check_distinct
from trueoracle.analysis.result import CellAnalysis
from trueoracle.words.errors import TableError, unknown
from trueoracle.words.progress import Progress

_TRIAL_COLUMNS = {"cell", "mask", "repeat", "outcome"}


def analyze_table(
    table: pd.DataFrame,
    x: str | Sequence[str] = X,
    y: str | None = None,
    group: str | None = None,
    classes: int | None = None,
    classes_of: Mapping[str, int] | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
    better: Mapping[str, Better] | None = None,
) -> list[CellAnalysis]:
    """The analysis of columns `x` and `y`, a row a mask, in each group in order of appearance.

    A trial table (with columns cell, mask, repeat, outcome) is read as one where no `group` is named: repeats
    are averaged and unfinished trials left out. With several `x` the first is judged and all are ranked. The number
    of classes is `classes`, or in some groups that of `classes_of`, or a column `classes` says it. `better` says of columns which values are better, where their names do not. Raises `TableError` for what cannot bear statistics.
    """
    xs, y = [x] if isinstance(x, str) else list(x), y or Y
    if y in xs:
        raise TableError(f"x and y are the same column, `{y}`: name two")
    cells = table_masks(table, xs, y, group, better)
    exceptions = dict(classes_of or {})
    for name in exceptions.keys() - {cell.group for cell in cells}:
        raise TableError(unknown("group", name, [cell.group for cell in cells]))
    known = [_with_classes(cell, exceptions.get(cell.group, classes)) for cell in cells]
    return analyze_cells(known, xs, options, progress)


def _with_classes(cell: CellMasks, classes: int | None) -> CellMasks:
    if classes is None:
        return cell
    if classes < 2:
        raise TableError(f"`classes` must be at least 2, but got {classes}")
    return replace(cell, classes=classes)


def table_masks(
    table: pd.DataFrame, xs: Sequence[str], y: str, group: str | None, better: Mapping[str, Better] | None = None
) -> list[CellMasks]:
    """The masks of each group of a table."""
    for column in filter(None, (*xs, y, group, *(better or {}))):
        if column not in table.columns:
            raise TableError(unknown("column", column, map(str, table.columns)))
    check_distinct([*map(str, table.columns)], "the table")
    for column in (*xs, y):
        _check_numbers(column, table[column])
    if group is not None and table[group].isna().any():
        rows = _rows(table[group].isna())
        raise TableError(f"column `{group}` is empty in {rows}: name their group, or leave them out of the table")
    if group is None and set(table.columns) >= _TRIAL_COLUMNS:
        return trial_masks(table, xs, y, better=better)
    groups = [("", table)] if group is None else [(str(key), rows) for key, rows in table.groupby(group, sort=False)]
    drawn = [(key, *random_sample(rows)) for key, rows in groups]
    if not any(len(rows) for _, rows, _ in drawn):
        raise TableError(ALL_SEARCHED)
    return [
        replace(_masks(key, rows, xs, y, better or {}), searched=searched) for key, rows, searched in drawn if len(rows)
    ]


def _check_numbers(name: str, column: pd.Series) -> None:
    """`TableError` names the first entry that is no number, and its row below the header, from 1."""
    if is_numeric_dtype(column):
        return
    wrong = pd.to_numeric(column, errors="coerce").isna() & column.notna()
    found = f"{_rows(wrong)} holds `{column[wrong].iloc[0]}`" if wrong.any() else f"holds {column.dtype}"
    raise TableError(f"column `{name}` must hold numbers, but {found}")


def _rows(which: pd.Series) -> str:
    """`row 3`, or `row 3 (and 2 others)`."""
    first, others = int(which.to_numpy().argmax()) + 1, int(which.sum()) - 1
    return f"row {first}" + (f" (and {others} other{'s' * (others > 1)})" if others else "")


def _masks(group: str, rows: pd.DataFrame, xs: Sequence[str], y: str, better: Mapping[str, Better]) -> CellMasks:
    classes = list(rows["classes"].unique()) if "classes" in rows else []
    if len(classes) > 1:
        raise TableError(f"column `classes` must hold one number in group `{group}`, but holds {len(classes)}")
    cell = CellMasks(
        group=group,
        x={x: rows[x].to_numpy(float) for x in xs},
        y_name=y,
        better=better,
        y_nR=rows[[y]].to_numpy(float),
        pruned=tuple(rows["pruned"].astype(str)) if "pruned" in rows else None,
        loss=rows[X].to_numpy(float) if X in rows else None,
    )
    return _with_classes(cell, int(classes[0])) if len(classes) else cell
