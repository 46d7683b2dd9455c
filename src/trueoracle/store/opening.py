"""Whether there is a store at an address, and whether it is ours: asked before anything of it is read."""

from pathlib import Path

from sqlalchemy import Connection, Engine, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from trueoracle.store import schema
from trueoracle.store.dialects import engine_for, sentence, sqlite_file
from trueoracle.store.migrate import OLDEST
from trueoracle.store.schema import meta
from trueoracle.store.url import shown_url
from trueoracle.words.errors import StoreError


def store_exists(url: str) -> bool:
    """Whether there is something to open at `url`: an SQLite file that is not empty, a database that has tables."""
    path = sqlite_file(url)
    if path is not None:
        return _begun(path)
    engine = engine_for(url)
    try:
        with engine.connect() as connection:
            return bool(inspect(connection).get_table_names())
    except DBAPIError as error:
        raise StoreError(sentence(error, url)) from error
    finally:
        engine.dispose()


def _begun(path: Path) -> bool:
    """Whether the file holds a database: one that was killed before its first transaction left an empty file."""
    return path.exists() and path.stat().st_size > 0


def opened(url: str, create: bool) -> Engine:
    """Connections to the database at `url`; `StoreError` where there is none and none may be made."""
    path = sqlite_file(url)
    if path is not None and not path.parent.is_dir():
        raise StoreError(f"the folder of the store `{path}` does not exist")
    if path is not None and not create and not _begun(path):
        raise StoreError(f"there is no store at `{path}`: `trueoracle run` makes one, or name another with --store")
    return engine_for(url)


def schema_found(connection: Connection, url: str, create: bool) -> int | None:
    """The schema of the store; None for a database without tables, if one may be made there."""
    tables = inspect(connection).get_table_names()
    if not tables and create:
        return None
    known = {}
    if {"meta", "studies", "trials"} <= set(tables):
        known = {row.key: row.value for row in connection.execute(select(meta))}
    if known.get("application") != schema.APPLICATION:
        raise StoreError(
            f"the database {shown_url(url)} is no trueoracle store: nothing was changed; name another with --store"
        )
    if not known.get("schema", "").isdecimal():
        raise StoreError(
            f"the store {shown_url(url)} does not say which schema it has: it is damaged, take it from a copy"
        )
    found = int(known["schema"])
    if found > schema.VERSION:
        raise StoreError(
            f"the store {shown_url(url)} has schema {found}, newer than this trueoracle's {schema.VERSION}: update trueoracle"
        )
    if found < OLDEST:
        raise StoreError(
            f"the store {shown_url(url)} has schema {found}, older than this trueoracle's {schema.VERSION}: "
            "read it with the version that wrote it, or name another with --store"
        )
    return found


def make_tables(connection: Connection) -> None:
    """All tables of this schema, and what says that they are ours."""
    schema.metadata.create_all(connection)
    facts = [
        {"key": "application", "value": schema.APPLICATION},
        {"key": "schema", "value": str(schema.VERSION)},
    ]
    connection.execute(insert(meta), facts)
