"""Any table that a user brings: two columns correlated, in each group of a third."""

from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from trueoracle.analysis.cells import X, Y, analyze_trials
from trueoracle.analysis.relation import Relation, relate
from trueoracle.errors import TableError, unknown

_TRIAL_COLUMNS = {"cell", "mask", "repeat", "outcome"}


def read_table(path: Path) -> pd.DataFrame:
    """A Parquet or CSV file, by its ending; `TableError` if it cannot be read."""
    if path.suffix not in (".parquet", ".csv"):
        raise TableError(f"`{path}` must end in .parquet or .csv")
    try:
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except OSError as error:
        raise TableError(f"the table `{path}` cannot be read: {error.strerror or error}") from None
    except Exception as error:  # whatever pandas or pyarrow raises for what is no table
        raise TableError(f"the table `{path}` cannot be read: {str(error).splitlines()[0]}") from None


def analyze_table(table: pd.DataFrame, x: str = X, y: str = Y, group: str | None = None) -> list[Relation]:
    """The relation of columns `x` and `y`, a row a mask, in each group in order of appearance.

    A trial table (with columns cell, mask, repeat, outcome) is read as one where no `group` is named: repeats
    are averaged and unfinished trials left out. Raises `TableError` for what cannot bear statistics.
    """
    for column in filter(None, (x, y, group)):
        if column not in table.columns:
            raise TableError(unknown("column", column, map(str, table.columns)))
    for column in (x, y):
        if not is_numeric_dtype(table[column]):
            raise TableError(f"column `{column}` must hold numbers, but holds {table[column].dtype}")
    if group is None and set(table.columns) >= _TRIAL_COLUMNS:
        return analyze_trials(table, x, y)
    groups = [("", table)] if group is None else [(str(key), rows) for key, rows in table.groupby(group, sort=False)]
    return [relate(rows[x].to_numpy(float), rows[y].to_numpy(float), group=key, names=(x, y)) for key, rows in groups]
