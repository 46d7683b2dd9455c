"""Rows that know what they hold: what a damaged file gives back is refused, and never another number."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from hashlib import blake2b
from typing import Any

from sqlalchemy import Column, Float, LargeBinary, Row, Table

from trueoracle.words.errors import StoreError

_OWN = "checksum"


def stamped(table: Table, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the checksum of each; columns that a row does not name are empty."""
    return [{**row, _OWN: _checksum(table, row)} for row in rows]


def verified(table: Table, rows: Iterable[Row[Any]]) -> Iterator[Row[Any]]:
    """The rows as they are; `StoreError` at the first that is not as it was written.

    Those of earlier schemas have no checksum and are taken for what they are.
    """
    for row in rows:
        facts: dict[str, Any] = {**row._mapping}  # keys are names
        if facts[_OWN] is not None and facts[_OWN] != _checksum_or_none(table, facts):
            raise StoreError(damaged(table.name))
        yield row


def damaged(what: str) -> str:
    """What a reader is told."""
    return f"the store is damaged: a row of `{what}` is not as it was written; take the store from a copy"


def _checksum_or_none(table: Table, row: Mapping[str, Any]) -> int | None:
    """None for a row whose values are not even of the kinds of their columns."""
    try:
        return _checksum(table, row)
    except (TypeError, ValueError):
        return None


def _checksum(table: Table, row: Mapping[str, Any]) -> int:
    """Over every other column, by name: 64 bits."""
    values = [
        value if (value := row.get(name)) is None or same is None else same(value) for name, same in _columns(table)
    ]
    return int.from_bytes(blake2b(json.dumps(values).encode(), digest_size=8).digest(), signed=True)


@cache
def _columns(table: Table) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """Each column but the checksum, with what makes its values those that every database gives back, where one may not."""
    return [(column.name, _same_everywhere(column)) for column in table.columns if column.name != _OWN]


def _same_everywhere(column: Column[Any]) -> Callable[[Any], Any] | None:
    if isinstance(column.type, Float):
        return _same_number
    return _digest if isinstance(column.type, LargeBinary) else None


def _same_number(value: float) -> float | None:
    """SQLite knows no NaN and no -0.0, and may be given 1 for 1.0."""
    return None if value != value else float(value) + 0.0


def _digest(value: bytes) -> str:
    return blake2b(value).hexdigest()
