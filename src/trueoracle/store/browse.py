"""Trials page by page: filtered, sorted, counted and cut by the database, so that a page of a million costs no more.

What stands on a page is looked up for its rows alone; masks are joined to all trials only where the question is about them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Select, and_, func, literal, select, tuple_

from trueoracle.store.checksums import verified
from trueoracle.store.curves import points_of
from trueoracle.store.records import CellRecord
from trueoracle.store.schema import bases, cells, curves, masks, points, runs, trials
from trueoracle.store.sql import Store
from trueoracle.store.tables import SEARCHED
from trueoracle.words.trial import Outcome

Span = tuple[float | None, float | None]
"""Both ends belong to it; None is open."""

_DIGITS = func.ltrim(trials.c.rank, "0")  # cells pad their ranks to different lengths
SORTS: Mapping[str, tuple[ColumnElement[Any], ...]] = {
    "cell": (trials.c.cell,),
    "mask": (func.length(_DIGITS), _DIGITS),
    "repeat": (trials.c.repeat,),
    "pruned_train_loss": (masks.c.loss,),
    "pruned_train_accuracy": (masks.c.accuracy,),
    "final_train_loss": (trials.c.train_loss,),
    "final_test_loss": (trials.c.test_loss,),
    "final_test_accuracy": (trials.c.test_accuracy,),
    "final_validation_accuracy": (trials.c.validation_accuracy,),
    "outcome": (trials.c.outcome,),
    "seconds": (trials.c.seconds,),
    "stored": (trials.c.number,),
}
"""What trials can be sorted by; `stored` is the order in which they were stored."""
_OF_MASKS = {"pruned_train_loss", "pruned_train_accuracy"}
_KEY = (trials.c.study, trials.c.cell, trials.c.rank, trials.c.repeat)
_SAME_MASK = and_(masks.c.study == trials.c.study, masks.c.cell == trials.c.cell, masks.c.rank == trials.c.rank)


@dataclass(frozen=True, kw_only=True)
class TrialFilter:
    """Which trials of a study: those in all of what is given. `cells` are indices, no cells mean all of them.

    `loss` is the pruned train loss (nats), `accuracy` the final test accuracy (in [0, 1]).
    """

    cells: tuple[int, ...] = ()
    outcome: Outcome | None = None
    mask: int | None = None
    loss: Span = (None, None)
    accuracy: Span = (None, None)

    @property
    def of_masks(self) -> bool:
        """Whether it asks about masks before retraining."""
        return self.loss != (None, None)


@dataclass(frozen=True, kw_only=True)
class Order:
    """By what, and whether from high to low; equal ones, and all if not said, in order of cell, mask and repeat."""

    by: str = "cell"
    falling: bool = False


class TrialRow(NamedTuple):
    """A trial as it stands in a list; figures are None where it has none. `searched` as in a trial table."""

    cell: int
    mask: int
    repeat: int
    outcome: Outcome
    error: str
    pruned: str
    pruned_train_loss: float
    pruned_train_accuracy: float
    final_train_loss: float | None
    final_test_loss: float | None
    final_test_accuracy: float | None
    final_validation_loss: float | None
    final_validation_accuracy: float | None
    seconds: float
    stored: int | None
    searched: bool


def count_trials(store: Store, study: str, which: TrialFilter) -> int:
    """How many trials of the study (by digest) the filter lets through."""
    query = select(func.count()).select_from(trials)
    if which.of_masks:
        query = query.join(masks, _SAME_MASK)
    return int(store.read(query.where(*_conditions(store, study, which)))[0][0])


def page_of_trials(
    store: Store, study: str, which: TrialFilter, order: Order, *, start: int, rows: int
) -> list[TrialRow]:
    """At most `rows` trials from place `start` on, in order."""
    keys = select(*_KEY).where(*_conditions(store, study, which))
    if which.of_masks or order.by in _OF_MASKS:
        keys = keys.join(masks, _SAME_MASK)
    here = keys.order_by(*_ordered(order)).offset(start).limit(rows).subquery()
    same = and_(*(column == here.c[column.name] for column in _KEY))
    return [_row(row) for row in store.read(_whole().join(here, same).order_by(*_ordered(order)))]


def all_trials(store: Store, study: str, which: TrialFilter, rows: int) -> Iterator[list[TrialRow]]:
    """Every trial that the filter lets through, `rows` at a time, in order of cell, mask and repeat.

    Each part is a question of its own, asked from where the last one ended: none holds the database for long.
    """
    conditions = _conditions(store, study, which)
    query = _whole().where(*conditions).order_by(*_KEY[1:]).limit(rows)
    after: ColumnElement[bool] | None = None
    while found := store.read(query if after is None else query.where(after)):
        yield [_row(row) for row in found]
        last = found[-1]
        after = tuple_(*_KEY[1:]) > tuple_(literal(last.cell), literal(last.rank), literal(last.repeat))


def trials_of_mask(store: Store, study: str, cell: int, mask: int) -> list[TrialRow]:
    """Every repeat of a mask."""
    return page_of_trials(store, study, TrialFilter(cells=(cell,), mask=mask), Order(), start=0, rows=10_000)


class Point(NamedTuple):
    """The figures of a repeat of a mask after an epoch."""

    repeat: int
    epoch: int
    train_loss: float
    test_loss: float
    test_accuracy: float


def curves_of_mask(store: Store, study: str, cell: int, mask: int) -> list[Point]:
    """The learning curves of all repeats of a mask."""
    ranks = _texts(store.cells(study), (cell,), mask)
    found = [
        point
        for table in (curves, points)
        for point in points_of(
            verified(
                table,
                store.read(select(table).where(table.c.study == study, table.c.cell == cell, table.c.rank.in_(ranks))),
            )
        )
    ]
    return [
        Point(p.repeat, p.epoch, p.figures.train_loss, p.figures.test_loss, p.figures.test_accuracy)
        for p in sorted(found, key=lambda point: (point.repeat, point.epoch))
    ]


def scores_of_mask(store: Store, study: str, cell: int, mask: int) -> dict[str, float]:
    """What each criterion says of a mask."""
    texts = _texts(store.cells(study), (cell,), mask)
    query = select(masks.c.scores).where(masks.c.study == study, masks.c.cell == cell, masks.c.rank.in_(texts))
    return {name: value for row in store.read(query) for name, value in json.loads(row.scores).items()}


def evaluated_masks(store: Store, study: str) -> dict[int, int]:
    """Cell -> how many of its masks have been evaluated."""
    query = select(masks.c.cell, func.count()).where(masks.c.study == study).group_by(masks.c.cell)
    return {cell: count for cell, count in store.read(query)}  # noqa: C416 - rows, not pairs


def outcomes_by_cell(store: Store, study: str) -> dict[int, dict[Outcome, int]]:
    """Cell -> how its trials ended."""
    query = (
        select(trials.c.cell, trials.c.outcome, func.count())
        .where(trials.c.study == study)
        .group_by(trials.c.cell, trials.c.outcome)
    )
    found: dict[int, dict[Outcome, int]] = {}
    for cell, outcome, count in store.read(query):
        found.setdefault(cell, {})[Outcome[outcome]] = count
    return found


def stamp(store: Store, study: str) -> str:
    """Something that is another as soon as the store knows more of the study; it costs next to nothing to ask."""
    parts: tuple[Select[*tuple[Any, ...]], ...] = (
        select(func.count(), func.sum(runs.c.trials), func.max(runs.c.last)).where(runs.c.study == study),
        select(func.count()).where(bases.c.study == study),
        select(func.count()).where(cells.c.study == study),
        select(func.count()).where(masks.c.study == study),
    )
    return "-".join(str(value) for part in parts for value in store.read(part)[0])


def last_stored(store: Store, study: str) -> float | None:
    """When the last trial of the study was stored, in seconds since 1970."""
    return store.read(select(func.max(runs.c.last)).where(runs.c.study == study, runs.c.trials > 0))[0][0]  # type: ignore[no-any-return]


def layers_of_base(store: Store, study: str, base: int) -> dict[str, tuple[int, ...]]:
    """Weight -> its shape, of a base network, in no order that means anything; empty where it is not kept.

    Only the head of the safetensors file is read: its length (8 bytes, little-endian), then JSON.
    """
    of_base = (bases.c.study == study) & (bases.c.base == base)
    head = store.read(select(func.substr(bases.c.weights, 1, 8)).where(of_base))
    if not head or not head[0][0]:
        return {}
    length = int.from_bytes(head[0][0], "little")
    text = store.read(select(func.substr(bases.c.weights, 9, length)).where(of_base))[0][0]
    return {name: tuple(facts["shape"]) for name, facts in json.loads(text).items() if name != "__metadata__"}


def _whole() -> Select[*tuple[Any, ...]]:
    return select(
        trials.c.cell, trials.c.rank, trials.c.repeat, trials.c.outcome, trials.c.error, masks.c.pruned, masks.c.loss,
        masks.c.accuracy, trials.c.train_loss, trials.c.test_loss, trials.c.test_accuracy, trials.c.validation_loss,
        trials.c.validation_accuracy, trials.c.seconds, trials.c.number, masks.c.scores,
    ).join(masks, _SAME_MASK)  # fmt: skip


def _row(row: Any) -> TrialRow:
    *facts, scores = row
    cell, rank, repeat, outcome, *rest = facts
    searched = bool(json.loads(scores).get(SEARCHED))
    return TrialRow(*(cell, int(rank), repeat, Outcome[outcome], *rest, searched))


def _conditions(store: Store, study: str, which: TrialFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [trials.c.study == study]
    if which.cells:
        found.append(trials.c.cell.in_(which.cells))
    if which.outcome is not None:
        found.append(trials.c.outcome == which.outcome.name)
    if which.mask is not None:
        found.append(trials.c.rank.in_(_texts(store.cells(study), which.cells, which.mask)))
    for column, (low, high) in ((masks.c.loss, which.loss), (trials.c.test_accuracy, which.accuracy)):
        if low is not None:
            found.append(column >= low)
        if high is not None:
            found.append(column <= high)
    return found


def _texts(records: Sequence[CellRecord], which: Sequence[int], mask: int) -> set[str]:
    """A rank as the cells write it, each padded to its space's largest."""
    digits = {cell.digits for cell in records if not which or cell.index in which}
    return {str(mask).zfill(n) for n in digits}


def _ordered(order: Order) -> list[ColumnElement[Any]]:
    """What is not known stands last, either way."""
    by = SORTS[order.by]
    # asked of what is always known, it would keep an index unused
    unknown_last = [column.is_(None) for column in by if isinstance(column, Column) and column.nullable]
    return [*unknown_last, *(column.desc() if order.falling else column.asc() for column in by), *_KEY[1:]]
