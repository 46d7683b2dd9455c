"""The file that the oracle writes of a mask space, a row a mask, and what is known of all its losses together.

Files hold millions of rows: they are read group by group, and no more than sums are held.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trueoracle.store.tables import SEARCHED
from trueoracle.words.errors import TableError

# The histogram's bins, in nats and in accuracy; the last bin of losses takes all that lies above.
BIN, _BINS, ACCURACIES = 0.05, 400, 100
_LOSS, _ACCURACY = "pruned_train_loss", "pruned_train_accuracy"


@dataclass(kw_only=True)
class Landscape:
    """What is known of all losses once they are in a file.

    `best` has the masks of lowest loss, columns as in the file. `joint` counts masks by loss (a row for each bin of `BIN` nats from
    0 on, the last bin open; losses that are no number are in none) and accuracy (a column for each of `ACCURACIES` bins of [0, 1]). `rivals` says how many masks lie within two standard
    errors (of the difference, taken for independent) of the lowest loss; None where all images were used. `path` and `images` say
    how the losses were computed, and on how many images, where that is known: a file does not say it. `searched` says that
    a search chose the masks, so that they do not show how the losses of the space lie.
    """

    path: str | None = None
    images: int | None = None
    masks: int = 0
    best: pd.DataFrame = field(default_factory=pd.DataFrame)
    joint: NDArray[np.int64] = field(default_factory=lambda: np.zeros((_BINS, ACCURACIES), dtype=np.int64))
    rivals: int | None = None
    searched: bool = False

    @property
    def counts(self) -> NDArray[np.int64]:
        """Masks a bin of loss: shape (400,)."""
        found: NDArray[np.int64] = self.joint.sum(axis=1)
        return found

    def add(self, table: pa.Table, top: int) -> None:
        """Take in the rows of another group."""
        losses, accuracies = (table[name].to_numpy() for name in (_LOSS, _ACCURACY))
        self.masks += len(losses)
        self.searched |= SEARCHED in table.column_names
        known = np.isfinite(losses)
        rows = np.minimum(losses[known] / BIN, _BINS - 1).astype(np.int64)
        columns = np.clip(accuracies[known] * ACCURACIES, 0, ACCURACIES - 1).astype(np.int64)
        self.joint += np.bincount(rows * ACCURACIES + columns, minlength=self.joint.size).reshape(self.joint.shape)
        candidates = np.argpartition(losses, min(top, len(losses)) - 1)[:top]
        best = pd.concat([self.best, table.take(np.sort(candidates)).to_pandas()])
        self.best = best.sort_values(_LOSS, kind="stable").head(top).reset_index(drop=True)


def read_landscape(path: Path, top: int = 10) -> Landscape:
    """What a file of the oracle (.parquet or .csv) says; `TableError` where it is none, or cannot be read."""
    found = Landscape()
    with _reading(path):
        for table in _tables(path):
            if len(table):
                found.add(table, top)
    if not found.masks:
        raise TableError(f"the landscape `{path}` has no rows")
    if "standard_error" in found.best:
        found.rivals = rivals(path, found.best.iloc[0])
    return found


def check_landscape(path: Path) -> None:
    """`TableError` where the beginning of a file says already that it is none."""
    with _reading(path):
        next(_tables(path), None)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    if path.suffix not in (".parquet", ".csv"):
        raise TableError(f"a landscape is a .parquet or .csv file of `trueoracle oracle`, but got `{path}`")
    try:
        yield
    except OSError as error:
        raise TableError(f"the landscape `{path}` cannot be read: {error.strerror or error}") from None
    except (pa.ArrowException, TypeError) as error:
        raise TableError(f"the landscape `{path}` cannot be read: {str(error).splitlines()[0]}") from None


def _tables(path: Path) -> Iterator[pa.Table]:
    for table in _groups(path):
        missing = {"mask", "pruned", _LOSS, _ACCURACY} - set(table.column_names)
        if missing:
            raise TableError(f"`{path}` is no landscape: it has no column `{min(missing)}`")
        yield table


def rivals(path: Path, best: "pd.Series[float]") -> int:
    """How many other masks of a file may be as good as the best, given how sure their losses are."""
    count = 0
    for table in _groups(path):
        losses, errors = (table[name].to_numpy() for name in (_LOSS, "standard_error"))
        margin = 2 * np.hypot(errors, best["standard_error"])
        count += int((losses - best[_LOSS] <= margin).sum())
    return count - 1


def _groups(path: Path) -> Iterator[pa.Table]:
    if path.suffix == ".csv":
        yield from (pa.Table.from_batches([batch]) for batch in pa_csv.open_csv(path))
    else:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)
