"""Tables from files, as users have them.

A CSV file may begin with a byte-order mark, and may be separated by commas, semicolons or tabs; between semicolons a
comma within a number is a decimal comma.
"""

import csv
import warnings
from collections import Counter
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype
from pandas.errors import ParserWarning

from trueoracle.words.errors import TableError

_DECIMAL_COMMA = r"\s*[+-]?\d+(,\d+)?([eE][+-]?\d+)?\s*"


def read_table(path: Path) -> pd.DataFrame:
    """A Parquet or CSV file, by its ending; `TableError` if it cannot be read or calls two columns alike."""
    if path.suffix not in (".parquet", ".csv"):
        raise TableError(f"`{path}` must end in .parquet or .csv")
    try:
        return _csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except TableError:
        raise
    except OSError as error:
        raise TableError(f"the table `{path}` cannot be read: {error.strerror or error}") from None
    except Exception as error:  # whatever pandas or pyarrow raises for what is no table
        raise TableError(f"the table `{path}` cannot be read: {str(error).splitlines()[0]}") from None


def check_distinct(columns: "list[str]", where: str) -> None:
    """`TableError` where a column stands twice: which one is meant cannot be known."""
    twice = [name for name, times in Counter(columns).items() if times > 1]
    if twice:
        places = [str(place) for place, name in enumerate(columns, 1) if name == twice[0]]
        raise TableError(f"column `{twice[0]}` stands {len(places)} times in {where}: columns {', '.join(places)}")


def _csv(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
    separator = max(",;\t", key=first.count)
    check_distinct(next(csv.reader([first], delimiter=separator), []), f"`{path}`")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)  # rows longer than the header would be cut or shifted
        table = pd.read_csv(path, sep=separator, encoding="utf-8-sig", index_col=False)
    return table.apply(_with_points) if separator == ";" else table


def _with_points(column: "pd.Series") -> "pd.Series":
    """The column as numbers where every entry is one with a decimal comma; else as it is."""
    texts = column.dropna()
    if is_numeric_dtype(column) or not texts.astype(str).str.fullmatch(_DECIMAL_COMMA).all():
        return column
    return pd.to_numeric(column.str.replace(",", "."))
