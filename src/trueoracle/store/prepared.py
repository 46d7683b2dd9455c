"""Statements that are run for every fleet: put into a database's words once, for that costs more than running them."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, CursorResult, Delete, Dialect, Insert, Select, Update
from sqlalchemy.sql.compiler import SQLCompiler

Statement = Select[*tuple[Any, ...]] | Insert | Update | Delete


class Prepared:
    """A statement whose values are all named (`bindparam`); `make` says what it is for a dialect."""

    def __init__(self, make: Callable[[Dialect], Statement]) -> None:
        self._make = make
        self._made: dict[str, tuple[SQLCompiler, Callable[[dict[str, Any]], Any]]] = {}

    def run(self, connection: Connection, **values: Any) -> CursorResult[Any]:
        """The statement with these values."""
        made, in_order = self._for(connection.dialect)
        return connection.exec_driver_sql(made.string, in_order({**made.params, **values}))

    def run_for_each(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """The statement once for each of `rows`."""
        if rows:
            made, in_order = self._for(connection.dialect)
            connection.exec_driver_sql(made.string, [in_order({**made.params, **row}) for row in rows])

    def _for(self, dialect: Dialect) -> tuple[SQLCompiler, Callable[[dict[str, Any]], Any]]:
        """What the statement is, and what puts values as the driver takes them: by place, or by name."""
        if dialect.name not in self._made:
            made = self._make(dialect).compile(dialect=dialect)
            assert isinstance(made, SQLCompiler)
            by_name: Callable[[dict[str, Any]], Any] = dict
            self._made[dialect.name] = made, by_name if made.positiontup is None else _by_place(made.positiontup)
        return self._made[dialect.name]


def _by_place(names: Sequence[str]) -> Callable[[dict[str, Any]], Any]:
    if len(names) == 1:
        return lambda values: (values[names[0]],)
    return itemgetter(*names)
