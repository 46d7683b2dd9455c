"""A store of an older schema brought to this one: nothing is lost, and what it never knew stays unknown."""

from sqlalchemy import BigInteger, Column, Connection, Dialect, Table, TextClause, inspect, text, update
from sqlalchemy.schema import CreateColumn

from trueoracle.store.dialects import widen
from trueoracle.store.schema import VERSION, meta, metadata

OLDEST = 2


def migrate(connection: Connection, found: int) -> None:
    """Bring the store from schema `found` to `VERSION`, within the transaction of the connection, which is to write.

    Of two processes that open the store at once, the second finds it done.
    """
    ours = update(meta).where(meta.c.key == "schema", meta.c.value == str(found)).values(value=str(VERSION))
    if not connection.execute(ours).rowcount:
        return
    there = inspect(connection)
    for table in metadata.sorted_tables:
        if table.name not in there.get_table_names():
            table.create(connection)
            continue
        known = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                connection.execute(_added(table, column, connection.dialect))
            elif isinstance(column.type, BigInteger) and (wider := widen(connection.dialect, table.name, column.name)):
                connection.execute(text(wider))
        indexed = {index["name"] for index in there.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexed:
                index.create(connection)


def _added(table: Table, column: Column[object], dialect: Dialect) -> TextClause:
    """New columns hold nothing in the rows that are there, so all of them may be empty."""
    assert column.nullable
    return text(f"ALTER TABLE {table.name} ADD COLUMN {CreateColumn(column).compile(dialect=dialect)}")
