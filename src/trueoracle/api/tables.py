"""Tables that a user asked for: trials and analyses, as files."""

import json
from collections.abc import Sequence
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
    """Write a table as Parquet or CSV by the file's ending, whole or not at all.

    Ranks beyond 64 bits become text, padded so that text order is numeric order.
    """
    check_table_path(path)
    if "mask" in table and len(table) and max(table["mask"]) >= 2**63:
        digits = len(str(max(table["mask"])))
        table = table.assign(mask=[str(rank).zfill(digits) for rank in table["mask"]])
    write_whole(
        path,
        lambda partial: (
            table.to_csv(partial, index=False) if path.suffix == ".csv" else table.to_parquet(partial, index=False)
        ),
        TableError,
    )
