"""Trials out of the database as they went in: with their curves and answers. For a cell of few masks."""

from collections import defaultdict

from sqlalchemy import Connection, Row, Select, Table, select

from trueoracle.store.checksums import verified
from trueoracle.store.curves import points_of
from trueoracle.store.schema import answers, curves, points, trials
from trueoracle.words.trial import Figures, Outcome, SplitAnswers, Trial

_Key = tuple[str, int]


def whole_trials(connection: Connection, study: str, cell: int) -> list[Trial]:
    """The trials of a cell, by mask and repeat."""
    curve_of: dict[_Key, dict[int, Figures]] = defaultdict(dict)
    for table in (curves, points):
        for point in points_of(
            verified(table, connection.execute(_of(table, study, cell).order_by(*table.primary_key)))
        ):
            curve_of[point.rank, point.repeat][point.epoch] = point.figures
    answers_of: dict[_Key, dict[str, SplitAnswers]] = defaultdict(dict)
    for row in verified(answers, connection.execute(_of(answers, study, cell))):
        answers_of[row.rank, row.repeat][row.split] = SplitAnswers(images=row.images, bits=row.bits, losses=row.losses)
    return [
        Trial(
            cell=cell,
            mask=int(row.rank),
            repeat=row.repeat,
            seed=row.seed,
            outcome=Outcome[row.outcome],
            curve=tuple(curve_of[row.rank, row.repeat].values()),
            every=next(iter(curve_of[row.rank, row.repeat]), 1),
            final=None if row.train_loss is None else _figures(row),
            seconds=row.seconds,
            error=row.error,
            answers=answers_of[row.rank, row.repeat],
        )
        for row in verified(
            trials, connection.execute(_of(trials, study, cell).order_by(trials.c.rank, trials.c.repeat))
        )
    ]


def _of(table: Table, study: str, cell: int) -> Select[tuple[object, ...]]:
    return select(table).where(table.c.study == study, table.c.cell == cell)


def _figures(row: Row[tuple[object, ...]]) -> Figures:
    return Figures(**{name: getattr(row, name) for name in Figures.__slots__})
