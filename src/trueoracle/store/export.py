"""Answers as a file that pandas reads: a row a trial and split, a group of rows after another.

Letters: M masks, R repeats, I images, T trials.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trueoracle.store.records import Answers, CellRecord
from trueoracle.store.sql import Store
from trueoracle.words.errors import StoreError, TableError
from trueoracle.words.files import write_whole
from trueoracle.words.trial import SPLITS

_MASKS_AT_ONCE = 64


def write_answers(store: Store, study: str, path: Path) -> int:
    """Write the answers of all trials of a study to `path` (.parquet), whole or not at all; how many rows there are.

    A row a trial and split: `base, cell, mask, repeat, split`; `right`, a list with a bool an image; and where the study
    keeps them `loss`, a list with a float32 an image. Images stand in the same order in every row of a split. Trials
    without answers have no row. Ranks beyond 64 bits become text, as in a trial table. `StoreError` where there are
    none at all.
    """
    if path.suffix != ".parquet":
        raise TableError(f"answers are lists, so `{path}` must end in .parquet")
    if not path.parent.is_dir():
        raise TableError(f"the folder of `{path}` does not exist")
    tables = _tables(store, study)
    first = next(tables, None)
    if first is None:
        raise StoreError("no answers are kept of this study: none of its trials finished, or an earlier version ran it")
    rows = len(first)

    def write(partial: Path) -> None:
        nonlocal rows
        with pq.ParquetWriter(partial, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)
                rows += len(table)

    write_whole(path, write, TableError)
    return rows


def _tables(store: Store, study: str) -> Iterator[pa.Table]:
    cells = store.cells(study)
    largest = max((cell.largest for cell in cells), default=0)
    digits = len(str(largest)) if largest >= 2**63 else 0
    for cell in cells:
        for split in SPLITS:
            answers = store.answers(study, cell.index, split, losses=True)
            if answers is not None:
                yield from _parts(answers, cell, split, digits)


def _parts(answers: Answers, cell: CellRecord, split: str, digits: int) -> Iterator[pa.Table]:
    for start in range(0, len(answers.ranks), _MASKS_AT_ONCE):
        part = slice(start, start + _MASKS_AT_ONCE)
        mask_T, repeat_T = np.nonzero(answers.known_MR[part])
        if not len(mask_T):
            continue
        ranks = [answers.ranks[start + mask] for mask in mask_T]
        columns = {
            "base": pa.array(np.full(len(ranks), cell.base)),
            "cell": pa.array([cell.name] * len(ranks)),
            "mask": pa.array([str(rank).zfill(digits) for rank in ranks] if digits else ranks),
            "repeat": pa.array(repeat_T),
            "split": pa.array([split] * len(ranks)),
            "right": _lists(answers.right_MRI[part][mask_T, repeat_T]),
        }
        if answers.loss_MRI is not None:
            columns["loss"] = _lists(answers.loss_MRI[part][mask_T, repeat_T].astype(np.float32))
        yield pa.table(columns)


def _lists(values_TI: NDArray[np.generic]) -> pa.ListArray:
    """A list a row."""
    rows, images = values_TI.shape
    return pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * images, pa.array(values_TI.reshape(-1)))
