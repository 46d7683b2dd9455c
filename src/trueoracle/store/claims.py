"""Work that many share: a piece is claimed in one statement, for a time, and only who holds it may store its results.

A claim is a lease: until a moment by the database's own clock, under a token that nobody can guess or hold twice. Who
works on prolongs it. A piece whose time is over belongs to whoever claims it next; what its late holder then wants to
store is not taken. Nobody has to clear up: the claim itself takes over what was left lying.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from sqlalchemy import Connection, Dialect, Float, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from trueoracle.store.dialects import server_now
from trueoracle.store.prepared import Prepared
from trueoracle.store.schema import studies, work

LEASE_SECONDS = 60.0
"""How long a worker that nobody has heard of is waited for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Work that is claimed as one: of a cell and repeat, what has the places from `start` to `stop` in its order.

    `cell` numbers a base network in the stage that makes them.
    """

    cell: int
    start: int = 0
    stop: int = 1
    repeat: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A piece that is ours as long as its row bears the token."""

    row: int
    token: str
    piece: Piece


@dataclass(frozen=True, kw_only=True, slots=True)
class InFlight:
    """A claimed piece as an onlooker sees it; `seconds_left` of its lease, below 0 where it is up for taking over."""

    stage: str
    worker: str
    seconds_left: float


def open_stage(connection: Connection, study: str, stage: str, missing: Callable[[], Iterable[Piece]]) -> None:
    """List what is missing of a stage, unless pieces of it are listed: then others are at it, or were cut off.

    The study's row is held meanwhile, so that of two who come at once the second finds the list of the first.
    """
    connection.execute(select(studies.c.digest).where(studies.c.digest == study).with_for_update())
    if pieces_left(connection, study, stage):
        return
    rows = [
        {"study": study, "stage": stage, "place": place, "cell": piece.cell, "repeat": piece.repeat,
         "start": piece.start, "stop": piece.stop}
        for place, piece in enumerate(missing())
    ]  # fmt: skip
    if rows:
        connection.execute(insert(work), rows)


def claim(
    connection: Connection, study: str, stage: str, worker: str, dead: Sequence[str], seconds: float
) -> Claim | None:
    """The first piece that nobody holds, or whose holder is `dead` or late; None where there is none. One statement.

    Rows that another is claiming at this moment are passed over (PostgreSQL), or waited for (SQLite).
    """
    values = {"of_study": study, "of_stage": stage, "to": worker, "new": token_hex(16), "long": seconds}
    if dead:
        row = connection.execute(_claiming(connection.dialect, dead), values).first()
    else:
        row = _CLAIM.run(connection, **values).first()
    if row is None:
        return None
    piece = Piece(cell=row.cell, repeat=row.repeat, start=row.start, stop=row.stop)
    return Claim(row=row.id, token=row.token, piece=piece)


def _claiming(dialect: Dialect, dead: Sequence[str] = ()) -> ReturningUpdate[Any]:
    now = server_now(dialect)
    lost = [work.c.worker.in_(dead)] if dead else []
    first = (
        select(work.c.id)
        .where(work.c.study == bindparam("of_study"), work.c.stage == bindparam("of_stage"))
        .where(or_(work.c.token.is_(None), work.c.until <= now, *lost))
        .order_by(work.c.place)
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("first")
    )
    return (
        update(work)
        .where(work.c.id.in_(select(first.c.id)))
        .values(token=bindparam("new"), until=now + bindparam("long", type_=Float), worker=bindparam("to"))
        .returning(work)
    )


def prolong(connection: Connection, claims: Iterable[Claim], seconds: float) -> None:
    """Hold the pieces for so long from now; those that another has taken over stay theirs."""
    until = server_now(connection.dialect) + seconds
    for one in claims:
        connection.execute(update(work).where(*_OURS).values(until=until), _names(one))


def give_back(connection: Connection, claims: Iterable[Claim]) -> None:
    """Let others have the pieces at once."""
    for one in claims:
        connection.execute(update(work).where(*_OURS).values(token=None, until=None, worker=None), _names(one))


def settle(connection: Connection, one: Claim) -> bool:
    """Take the piece off the list, in the transaction that stores its results; False where it is no longer ours."""
    return _SETTLE.run(connection, **_names(one)).rowcount == 1


def pieces_left(connection: Connection, study: str, stage: str | None = None) -> int:
    """How many pieces are listed, claimed ones included."""
    query = select(func.count()).select_from(work).where(work.c.study == study)
    return int(connection.execute(query if stage is None else query.where(work.c.stage == stage)).scalar_one())


def in_flight(connection: Connection, study: str) -> list[InFlight]:
    """The claimed pieces of a study, by worker."""
    left = work.c.until - server_now(connection.dialect)
    query = select(work.c.stage, work.c.worker, left).where(work.c.study == study, work.c.token.is_not(None))
    rows = connection.execute(query.order_by(work.c.worker, work.c.id))
    return [InFlight(stage=stage, worker=worker, seconds_left=seconds) for stage, worker, seconds in rows]


def _names(one: Claim) -> dict[str, Any]:
    return {"row": one.row, "held": one.token}


_OURS = work.c.id == bindparam("row"), work.c.token == bindparam("held")
_CLAIM = Prepared(_claiming)
_SETTLE = Prepared(lambda _: delete(work).where(*_OURS))
