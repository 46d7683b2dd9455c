"""Tables that a user asked for: trials and analyses, as files."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trueoracle import analysis
from trueoracle.words.errors import TableError
from trueoracle.words.files import write_whole

if TYPE_CHECKING:
    import pandas as pd

    from trueoracle.analysis import CellAnalysis, Leaderboard

TABLE_ENDINGS = (".parquet", ".csv")
BOARD_ENDINGS = (".csv", ".parquet", ".json")
ANALYSIS_ENDINGS = (".csv", ".parquet", ".tex")


def check_table_path(path: Path, endings: Sequence[str] = TABLE_ENDINGS) -> None:
    """`TableError` where no table can be written to `path`: better said before the work than after."""
    if path.suffix not in endings:
        raise TableError(f"`{path}` must end in {', '.join(endings[:-1])} or {endings[-1]}")
    if not path.parent.is_dir():
        raise TableError(f"the folder of `{path}` does not exist")
    if path.is_dir():
        raise TableError(f"`{path}` is a folder: name a file")


def write_analyses(found: "Sequence[CellAnalysis]", path: Path) -> None:
    """Write analyses, a row a group with every figure, or as a LaTeX table in the paper's form, by the file's ending."""
    check_table_path(path, ANALYSIS_ENDINGS)
    if path.suffix != ".tex":
        return write_table(analysis.as_table(found), path)
    return write_whole(path, lambda partial: partial.write_text(analysis.as_latex(found)), TableError)


def write_board(board: "Leaderboard", path: Path) -> None:
    """Write a leaderboard: a row a predictor as CSV or Parquet, or everything as JSON, by the file's ending."""
    check_table_path(path, BOARD_ENDINGS)
    if path.suffix != ".json":
        return write_table(board.table(), path)
    text = json.dumps(board.as_dict(), indent=2) + "\n"
    return write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"), TableError)


def write_table(table: "pd.DataFrame", path: Path) -> None:
    """Write a table as Parquet or CSV by the file's ending, whole or not at all."""
    largest = max(table["mask"]) if "mask" in table and len(table) else 0
    write_parts(iter([table]), largest, path)


def write_parts(parts: "Iterator[pd.DataFrame]", largest: int, path: Path) -> int:
    """As `write_table`, parts of a table one after another, none of them held longer than it takes; how many rows there were.

    `largest` is the largest rank of all: beyond 64 bits ranks become text, padded so that text order is numeric order.
    """
    check_table_path(path)
    digits = len(str(largest)) if largest >= 2**63 else 0
    rows = 0

    def told() -> "Iterator[pd.DataFrame]":
        nonlocal rows
        for part in parts:
            rows += len(part)
            yield part.assign(mask=[str(rank).zfill(digits) for rank in part["mask"]]) if digits else part

    write = _write_csv if path.suffix == ".csv" else _write_parquet
    write_whole(path, lambda partial: write(told(), partial), TableError)
    return rows


def _write_csv(parts: "Iterator[pd.DataFrame]", path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for number, part in enumerate(parts):
            part.to_csv(file, index=False, header=number == 0)


def _write_parquet(parts: "Iterator[pd.DataFrame]", path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = pa.Table.from_pandas(next(parts), preserve_index=False)
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for part in parts:
            writer.write_table(pa.Table.from_pandas(part, schema=first.schema, preserve_index=False))
