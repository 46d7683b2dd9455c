"""Tables from files, as users have them."""

from pathlib import Path

import pandas as pd

from trueoracle.words.errors import TableError


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
