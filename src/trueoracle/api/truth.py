"""The public table from Python, and what the command line asks of it."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueoracle.api.environment import default_data_dir
from trueoracle.api.tables import check_table_path, write_table
from trueoracle.store import Store, shown_url, store_exists
from trueoracle.truth import TruthTable, restore, score
from trueoracle.truth.columns import KEY
from trueoracle.words.errors import StoreError, TableError, unknown
from trueoracle.words.progress import Progress

if TYPE_CHECKING:
    from trueoracle.analysis import Leaderboard
    from trueoracle.truth import Remade

_PARQUET_ONLY = ("networks", "answers")


def open_table(folder: Path | None) -> TruthTable:
    """The table in a folder, or the one that comes with trueoracle."""
    return TruthTable() if folder is None else TruthTable(folder)


def verify_study(
    table: TruthTable, study: str, *, trials: int, seed: int, data_dir: Path | None, progress: Progress
) -> "list[Remade]":
    """Check a study's files and retrain some of its trials: see `trueoracle.truth.verify`."""
    from trueoracle.truth import verify

    return verify(table, study, progress, trials=trials, seed=seed, data_dir=data_dir or default_data_dir())


def write_truth(table: TruthTable, name: str, file: str | None, path: Path) -> int:
    """Write the trials of a study or cell, or one `file` of it, as Parquet or CSV by the path's ending; how many rows.

    In CSV the lists of units are JSON; files that hold weights or an answer an image are Parquet only.
    """
    check_table_path(path)
    if path.suffix == ".csv" and file in _PARQUET_ONLY:
        raise TableError(f"the file {file} holds more than text can: `{path}` must end in .parquet")
    found = table.trials(name) if file is None else table.frame(name, file)
    if path.suffix == ".csv":
        lists = [column for column in ("sites", "units", "kept") if column in found]
        found = found.assign(**{column: [_json(value) for value in found[column]] for column in lists})
    write_table(found, path)
    return len(found)


def _json(value: Any) -> str:
    return json.dumps(value, default=lambda array: array.tolist())


def restore_study(table: TruthTable, study: str, url: str, cells: Collection[str] | None, progress: Progress) -> None:
    """Put a study of the table into a store, made where there is none; `StoreError` where it stands there already."""
    digest = table.facts(study).digest
    for cell in cells or ():
        if cell not in table.cells(study):
            raise TableError(unknown("cell", cell, table.cells(study)))
    if store_exists(url) and any(one.digest == digest for one in Store(url).studies()):
        raise StoreError(f"`{study}` stands in the store {shown_url(url)} already: nothing was changed")
    restore(table, study, Store(url, create=True), progress, cells=cells)


def score_file(
    path: Path,
    better: str,
    *,
    x: str | None,
    study: str,
    y: str,
    k: int,
    split: str | None,
    folder: Path | None,
    progress: Progress,
) -> "dict[str, Leaderboard]":
    """As `trueoracle.score`, of a file; `x` may be left out where the file has one column beside the masks' names."""
    from trueoracle.analysis.reading import read_table

    values = read_table(path)
    others = [str(name) for name in values.columns if name not in KEY["masks"]]
    if x is None and len(others) != 1:
        raise TableError(
            f"`{path}` has {len(others)} columns beside {', '.join(KEY['masks'])}: name the predictor by --x"
        )
    return score(
        values,
        others[0] if x is None else x,
        better,
        study=study,
        y=y,
        k=k,
        split=split,
        folder=folder,
        progress=progress,
    )
