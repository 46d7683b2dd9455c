"""What can be taken home: trials as CSV or Parquet, the report, figures.

Trials are asked for part by part, so that no question holds the database for long, however many there are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from tempfile import TemporaryFile
from threading import BoundedSemaphore

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from trueoracle.store import SEARCHED, CellRecord, Store
from trueoracle.store.browse import TrialFilter, TrialRow, all_trials

_ROWS = 10_000  # of a part
_PIECE = 1 << 20  # bytes
_AT_ONCE = BoundedSemaphore(4)


def trials_file(
    store: Store, study: str, name: str, which: TrialFilter, cells: Sequence[CellRecord], ending: str
) -> Response:
    """All trials of a study that the filter lets through, as a file of the study's `name`; `ending` is csv or parquet."""
    if not _AT_ONCE.acquire(blocking=False):
        raise HTTPException(503, "4 downloads are under way: wait for one to end")
    tables = _tables(store, study, which, cells)
    pieces = _csv(tables) if ending == "csv" else _parquet(tables)
    kind = "text/csv; charset=utf-8" if ending == "csv" else "application/vnd.apache.parquet"
    return StreamingResponse(_released(pieces), media_type=kind, headers=attachment(f"{name}-trials.{ending}"))


def attachment(name: str) -> dict[str, str]:
    """The header by which a browser keeps what comes as a file, and does not show it."""
    return {"Content-Disposition": f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]+", "-", name)}"'}


def _released(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    finally:
        _AT_ONCE.release()


def _tables(store: Store, study: str, which: TrialFilter, cells: Sequence[CellRecord]) -> Iterator[pa.Table]:
    """One table at least, so that a file of no trials has its columns."""
    by_index = {cell.index: cell for cell in cells}
    largest = max((cell.largest for cell in cells), default=0)
    digits = len(str(largest)) if largest >= 2**63 else 0
    empty = True
    for rows in all_trials(store, study, which, _ROWS):
        yield _table(rows, by_index, digits)
        empty = False
    if empty:
        yield _table([], by_index, digits)


def _table(rows: Sequence[TrialRow], cells: Mapping[int, CellRecord], digits: int) -> pa.Table:
    """The columns of a trial table (see `Store.trial_table`); ranks beyond 64 bits are text."""
    floats = ("pruned_train_loss", "pruned_train_accuracy", "final_train_loss", "final_test_loss", "final_test_accuracy",
              "final_validation_loss", "final_validation_accuracy")  # fmt: skip
    return pa.table(
        {
            "base": pa.array([cells[row.cell].base for row in rows], pa.int64()),
            "cell": pa.array([cells[row.cell].name for row in rows], pa.string()),
            "mask": pa.array([str(row.mask).zfill(digits) for row in rows], pa.string())
            if digits
            else pa.array([row.mask for row in rows], pa.int64()),
            "pruned": pa.array([row.pruned for row in rows], pa.string()),
            "repeat": pa.array([row.repeat for row in rows], pa.int64()),
            **{name: pa.array([getattr(row, name) for row in rows], pa.float64()) for name in floats},
            "outcome": pa.array([row.outcome.value for row in rows], pa.string()),
            "seconds": pa.array([row.seconds for row in rows], pa.float64()),
            SEARCHED: pa.array([row.searched for row in rows], pa.bool_()),
        }
    )


def _csv(tables: Iterator[pa.Table]) -> Iterator[bytes]:
    header = True
    for table in tables:
        piece = BytesIO()
        pa_csv.write_csv(table, piece, pa_csv.WriteOptions(include_header=header))
        header = False
        yield piece.getvalue()


def _parquet(tables: Iterator[pa.Table]) -> Iterator[bytes]:
    """The file is whole before the first piece: what is in it stands at its end."""
    with TemporaryFile() as file:
        first = next(tables)
        with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)
        file.seek(0)
        while piece := file.read(_PIECE):
            yield piece
