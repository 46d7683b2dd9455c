"""What one study found taken over by another that would find the same: same network, recipe and seeds, other masks."""

import json
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Select, Table, func, insert, select

from trueoracle.store.checksums import stamped, verified
from trueoracle.store.schema import answers, curves, masks, points, trials
from trueoracle.store.tables import SEARCHED, WEIGHT
from trueoracle.words.trial import Outcome

Source = tuple[str, int]
"""A study's digest and the index of one of its cells."""

_AT_ONCE = 500  # names in one question


def adopt(connection: Connection, to: Source, source: Source, ranks: Sequence[str], repeats: int) -> int:
    """Copy masks, and trials of the first `repeats`, that `to` lacks; how many trials were copied.

    Copied masks count as chosen, none of a random sample: statistics leave them out.
    """
    _copy_masks(connection, to, source, ranks)
    known = {tuple(row) for row in connection.execute(_of(trials, to).with_only_columns(*_KEY))}
    found = [
        row._asdict()
        for part in _parts(ranks)
        for row in verified(
            trials,
            connection.execute(
                _of(trials, source)
                .where(trials.c.rank.in_(part), trials.c.repeat < repeats, trials.c.outcome != Outcome.FAILED.name)
                .order_by(trials.c.rank, trials.c.repeat)
            ),
        )
    ]
    new = [row for row in found if (row["rank"], row["repeat"]) not in known]
    if not new:
        return 0
    last = connection.execute(select(func.max(trials.c.number)).where(trials.c.study == to[0])).scalar() or 0
    owner = {"study": to[0], "cell": to[1]}
    numbered = [{**row, **owner, "run": None, "number": number} for number, row in enumerate(new, last + 1)]
    connection.execute(insert(trials), stamped(trials, numbered))
    keys = {(row["rank"], row["repeat"]) for row in new}
    for table in (curves, points, answers):
        if rows := [{**row, **owner} for row in _rows_of(connection, table, source, keys)]:
            connection.execute(insert(table), stamped(table, rows))
    return len(new)


_KEY = (trials.c.rank, trials.c.repeat)


def _of(table: Table, owner: Source) -> Select[tuple[object, ...]]:
    return select(table).where(table.c.study == owner[0], table.c.cell == owner[1])


def _copy_masks(connection: Connection, to: Source, source: Source, ranks: Sequence[str]) -> None:
    known = {row.rank for row in connection.execute(_of(masks, to).with_only_columns(masks.c.rank))}
    new = [rank for rank in ranks if rank not in known]
    for part in _parts(new):
        found = connection.execute(_of(masks, source).where(masks.c.rank.in_(part)))
        rows = [row._asdict() for row in verified(masks, found)]
        chosen = [
            {
                **row,
                "study": to[0],
                "cell": to[1],
                "scores": json.dumps(_chosen(json.loads(row["scores"]))),
            }
            for row in rows
        ]
        if chosen:
            connection.execute(insert(masks), stamped(masks, chosen))


def _chosen(scores: dict[str, object]) -> dict[str, object]:
    """What a mask stood for in the sample of its study it does not in another."""
    return {**{name: value for name, value in scores.items() if name != WEIGHT}, SEARCHED: True}


def _rows_of(
    connection: Connection, table: Table, source: Source, keys: set[tuple[str, int]]
) -> Iterator[dict[str, object]]:
    for part in _parts(sorted({rank for rank, _ in keys})):
        for row in verified(table, connection.execute(_of(table, source).where(table.c.rank.in_(part)))):
            facts = row._asdict()
            if (facts["rank"], facts["repeat"]) in keys:
                yield facts


def _parts(ranks: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(ranks), _AT_ONCE):
        yield ranks[first : first + _AT_ONCE]
