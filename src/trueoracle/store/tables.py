"""Tables of a study, row after row as the database gives them: as one frame, or in parts that follow one another.

Every row is held against its checksum. A part has the columns of the whole.
"""

import json
from collections.abc import Iterator, Sequence
from heapq import merge
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, Select, Table, exists, func, or_, select

from trueoracle.store.checksums import damaged, verified
from trueoracle.store.curves import FIGURES, Point, points_of
from trueoracle.store.schema import cells, curves, masks, points, studies, trials
from trueoracle.words.errors import StoreError
from trueoracle.words.trial import Outcome

if TYPE_CHECKING:
    import pandas as pd

TRIAL_COLUMNS = (
    "study", "base", "cell", "mask", "pruned", "repeat", "seed", "pruned_train_loss", "pruned_train_accuracy",
    "final_train_loss", "final_test_loss", "final_test_accuracy", "final_validation_loss",
    "final_validation_accuracy", "outcome", "seconds",
)  # fmt: skip
SEARCHED = "searched"
"""A mark that stands among a mask's scores, so that stores of old need no new column; only studies that search have it."""

WEIGHT = "sampling_weight"
"""Among a mask's scores likewise: how many masks it stands for in a sample stratified over the loss."""

ROWS_AT_ONCE = 50_000
_FINAL_VALIDATION = ("final_validation_loss", "final_validation_accuracy")
_each_of = attrgetter(*FIGURES)
_FIGURES = ("final_train_loss", "final_test_loss", "final_test_accuracy", *_FINAL_VALIDATION)


def trial_parts(connection: Connection, study: str, rows: int = ROWS_AT_ONCE) -> Iterator["pd.DataFrame"]:
    """As `Store.trial_table`, at most so many rows at a time, and one part at least."""
    import pandas as pd

    name = connection.execute(select(studies.c.name).where(studies.c.digest == study)).scalar()
    of_cells = {row.cell: row for row in _rows(connection, cells, study)}
    scores = _scores(connection, study, retrained=True)
    validated = connection.execute(
        select(exists().where(trials.c.study == study, trials.c.validation_loss.is_not(None)))
    ).scalar_one()
    absent = [] if validated else list(_FINAL_VALIDATION)
    for part in _parts(_masks_and_trials(connection, study), rows):
        table = pd.DataFrame(
            [
                (name, of_cells[t.cell].base, of_cells[t.cell].name, int(t.rank), m.pruned, t.repeat, t.seed, m.loss,
                 m.accuracy, t.train_loss, t.test_loss, t.test_accuracy, t.validation_loss, t.validation_accuracy,
                 _outcome(t.outcome), t.seconds)
                for m, t in part
            ],
            columns=list(TRIAL_COLUMNS),
        )  # fmt: skip
        table[list(_FIGURES)] = table[list(_FIGURES)].astype(float)
        yield _with_scores(table.drop(columns=absent), [m.scores for m, _ in part], scores)


def mask_table(connection: Connection, study: str) -> "pd.DataFrame":
    """As `Store.mask_table`."""
    import pandas as pd

    of_cells = {row.cell: row for row in _rows(connection, cells, study)}
    rows = list(_rows(connection, masks, study))
    table = pd.DataFrame(
        [(of_cells[r.cell].base, of_cells[r.cell].name, int(r.rank), r.pruned, r.loss, r.accuracy) for r in rows],
        columns=["base", "cell", "mask", "pruned", "pruned_train_loss", "pruned_train_accuracy"],
    )
    return _with_scores(table, [row.scores for row in rows], _scores(connection, study))


def curve_parts(
    connection: Connection, study: str, cell: int | None, rows: int = ROWS_AT_ONCE
) -> Iterator["pd.DataFrame"]:
    """As `Store.curve_table`, at most so many rows at a time, and one part at least."""
    import pandas as pd

    of_cells = {row.cell: row for row in _rows(connection, cells, study)}
    absent = [] if _validated(connection, study) else ["validation_loss", "validation_accuracy"]
    columns = ["base", "cell", "mask", "repeat", "epoch", *FIGURES]
    for part in _parts(_points(connection, study, cell), rows):
        yield pd.DataFrame(
            [
                (of_cells[p.cell].base, of_cells[p.cell].name, int(p.rank), p.repeat, p.epoch, *_each_of(p.figures))
                for p in part
            ],
            columns=columns,
        ).drop(columns=absent)


def _points(connection: Connection, study: str, cell: int | None) -> Iterator[Point]:
    """The points of all curves in order, those that earlier schemas kept among them."""
    streams = []
    for table in (curves, points):
        query = _ordered(table, study)
        rows = _streamed(connection, query if cell is None else query.where(table.c.cell == cell))
        streams.append(points_of(verified(table, rows)))
    return merge(*streams, key=lambda point: point.key)


def _validated(connection: Connection, study: str) -> bool:
    """Whether curves have figures on a validation split."""
    of_trials = exists().where(curves.c.study == study, curves.c.width == len(FIGURES))
    of_epochs = exists().where(points.c.study == study, points.c.validation_loss.is_not(None))
    return bool(connection.execute(select(or_(of_trials, of_epochs))).scalar_one())


def largest_rank(connection: Connection, study: str) -> int:
    """Of all masks of the study; -1 where there is none."""
    query = select(func.max(masks.c.rank)).where(masks.c.study == study).group_by(masks.c.cell)
    return max((int(rank) for rank in connection.execute(query).scalars()), default=-1)


def _masks_and_trials(connection: Connection, study: str) -> Iterator[tuple[Row[Any], Row[Any]]]:
    """Each trial with its mask: both come in order, and are read side by side."""
    of_masks = _rows(connection, masks, study)
    mask = next(of_masks, None)
    for trial in _rows(connection, trials, study):
        while mask is not None and (mask.cell, mask.rank) < (trial.cell, trial.rank):
            mask = next(of_masks, None)
        if mask is None or (mask.cell, mask.rank) != (trial.cell, trial.rank):
            raise StoreError(f"{damaged('masks')}: mask {int(trial.rank)} of a trial is missing")
        yield mask, trial


def _rows(connection: Connection, table: Table, study: str) -> Iterator[Row[Any]]:
    return verified(table, _streamed(connection, _ordered(table, study)))


def _ordered(table: Table, study: str) -> Select[Any]:
    return select(table).where(table.c.study == study).order_by(*list(table.primary_key)[1:])


def _streamed(connection: Connection, query: Select[Any]) -> Iterator[Row[Any]]:
    with connection.execute(query, execution_options={"yield_per": 1000}) as result:
        yield from result


def _parts(rows: Iterator[Any], size: int) -> Iterator[list[Any]]:
    part: list[Any] = []
    told = False
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part, told = [], True
    if part or not told:
        yield part


def _outcome(name: str) -> str:
    try:
        return Outcome[name].value
    except KeyError:
        raise StoreError(damaged("trials")) from None


def _scores(connection: Connection, study: str, *, retrained: bool = False) -> list[str]:
    """The names of all scores, in the order in which masks, or retrained ones alone, first bear them."""
    query = select(masks.c.scores).where(masks.c.study == study).order_by(masks.c.cell, masks.c.rank)
    if retrained:
        of_mask = (trials.c.study == study, trials.c.cell == masks.c.cell, trials.c.rank == masks.c.rank)
        query = query.where(exists().where(*of_mask))
    names: dict[str, None] = {}
    for row in _streamed(connection, query):
        try:
            names |= dict.fromkeys(json.loads(row.scores))
        except ValueError:
            raise StoreError(damaged("masks")) from None
    return list(names)


def _with_scores(table: "pd.DataFrame", scores: Sequence[str], names: Sequence[str]) -> "pd.DataFrame":
    """The table with a column for each of `names`, out of the rows' `scores`, JSON objects; `searched` is one of yes or no."""
    import pandas as pd

    columns = pd.DataFrame([json.loads(text) for text in scores], index=table.index, columns=list(names))
    if SEARCHED in columns:
        columns[SEARCHED] = columns[SEARCHED].notna()
    plain = [name for name in names if name != SEARCHED]
    columns[plain] = columns[plain].astype(float)
    return pd.concat([table, columns], axis=1)
