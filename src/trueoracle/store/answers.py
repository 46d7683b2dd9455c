"""The answers of a cell's masks, out of the database into arrays.

Letters: M masks, R repeats, I images.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from trueoracle.store.checksums import verified
from trueoracle.store.records import Answers
from trueoracle.store.schema import answers, masks, trials

_ROWS_AT_ONCE = 256


def cell_answers(connection: Connection, study: str, cell: int, split: str, *, losses: bool) -> Answers | None:
    """As `Store.answers`: a row at a time is unpacked into its place, so that no more than the arrays is held."""
    known = select(masks.c.rank).where(masks.c.study == study, masks.c.cell == cell).order_by(masks.c.rank)
    place = {rank: number for number, rank in enumerate(connection.execute(known).scalars())}
    of_cell = select(trials.c.repeat).where(trials.c.study == study, trials.c.cell == cell)
    repeats = 1 + max(connection.execute(of_cell.distinct()).scalars(), default=-1)
    right_MRI = loss_MRI = None
    known_MR = np.zeros((len(place), repeats), bool)
    for _, _, rank, repeat, _, images, bits, loss, _ in _rows(connection, study, cell, split):
        if right_MRI is None:
            right_MRI = np.zeros((len(place), repeats, images), bool)
        here = place[rank], repeat
        known_MR[here] = True
        right_MRI[here] = np.unpackbits(np.frombuffer(bits, np.uint8), count=images)
        if losses and loss is not None:
            if loss_MRI is None:
                loss_MRI = np.full((len(place), repeats, images), np.nan, np.float16)
            loss_MRI[here] = np.frombuffer(loss, "<f2")
    if right_MRI is None:
        return None
    return Answers(ranks=tuple(map(int, place)), known_MR=known_MR, right_MRI=right_MRI, loss_MRI=loss_MRI)


def _rows(connection: Connection, study: str, cell: int, split: str) -> Iterator[Any]:
    query = select(answers).where(answers.c.study == study, answers.c.cell == cell, answers.c.split == split)
    yield from verified(answers, connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query))
