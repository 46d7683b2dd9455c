"""Where the databases differ, all of it: SQLite, one writer at a time, and PostgreSQL, many.

What is not here is SQL that both understand.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Float,
    Insert,
    Table,
    create_engine,
    event,
    literal_column,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import QueuePool

from trueoracle.store.url import DEFAULT_URL, shown_url
from trueoracle.words.errors import StoreError

LOCK_SECONDS = 60
"""A writer's patience: several times what a page's question may take, so that no onlooker ends a study."""

_WRITES = "writes"
_CREATION = 7_265_951  # the key of the lock under which tables are made: any number, the same everywhere
_INSTRUCTIONS = 20_000  # of SQLite's machine, between two looks at the clock: about a millisecond
_CACHE_KIB = (
    32 * 1024
)  # of SQLite's pages: beyond a hundred thousand trials, its own 2 MB would read the index anew for each fleet
_LOG_PAGES = 4_000  # of 4 KiB, before the log goes into the file: that waits for the disk
_TOO_LONG = ("interrupted", "statement timeout")


def engine_for(url: str) -> Engine:
    """Connections to the database at `url`; `StoreError` where that names none, or its driver is not installed."""
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    try:
        # a connection that the server dropped, by a restart say, is noticed before it is used
        return create_engine(parsed, pool_pre_ping=True)
    except ImportError:
        raise StoreError(_no_driver(url)) from None
    except (ArgumentError, NoSuchModuleError):
        raise StoreError(_no_store(url)) from None


def read_only_engine(url: str, seconds: float) -> Engine:
    """Connections that cannot write, and whose questions are broken off after so long: for those who look on.

    SQLite opens the file for reading alone; PostgreSQL lets such a session do nothing but read.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_to_read(parsed, seconds)
    settings = f"-c default_transaction_read_only=on -c statement_timeout={int(1000 * seconds)}"
    try:
        return create_engine(parsed, connect_args={"options": settings}, pool_pre_ping=True)
    except ImportError:
        raise StoreError(_no_driver(url)) from None


def prepare(engine: Engine) -> None:
    """What a store that is to be written needs beside its tables.

    SQLite keeps new rows in a log beside the file, so that readers and the writer keep out of each other's way. What was
    committed outlives the process; where the machine loses power, the last commits may be undone, and their work is
    open again.
    """
    if engine.dialect.name != "sqlite":
        return
    with (
        engine.connect() as connection,
        suppress(sqlite3.OperationalError),
    ):  # in use by others, or read-only: it stays as it is
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute("PRAGMA journal_mode = WAL")
        driver.execute("PRAGMA synchronous = NORMAL")


def to_write(connection: Connection) -> Connection:
    """The connection before its transaction begins: it is to write, so SQLite takes its lock at the beginning.

    One that reads first and writes later would fail where another wrote in between.
    """
    return connection.execution_options(**{_WRITES: True})


def check_whole(connection: Connection, url: str) -> None:
    """`StoreError` where pages of an SQLite file contradict one another, for then rows may be missing; a server sees to its own.

    It reads the whole file: about a second for 200 MB.
    """
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
        if found != "ok":
            raise StoreError(
                f"the file of {shown_url(url)} is damaged ({' '.join(str(found).split())}): take it from a copy"
            )


def one_maker(connection: Connection) -> None:
    """Until this transaction ends no other makes or changes tables."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_CREATION})"))


def server_now(dialect: Dialect) -> ColumnElement[float]:
    """Seconds since 1970 by the clock of the database, the one clock that all workers share."""
    if dialect.name == "postgresql":
        return literal_column("extract(epoch FROM clock_timestamp())::float8", Float)
    return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Float)


def insert_new(table: Table, dialect: Dialect) -> Insert:
    """An insert that passes over rows whose key is there already."""
    if dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def widen(dialect: Dialect, table: str, column: str) -> str | None:
    """What gives an integer column 64 bits; None where it has them: SQLite's integers do under any name."""
    if dialect.name == "sqlite":
        return None
    return f"ALTER TABLE {table} ALTER COLUMN {column} TYPE BIGINT"


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for a store that is in no file of ours to look for."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return None
    path = parsed.database
    if parsed.get_backend_name() != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return None
    return Path(path)


def sentence(error: DBAPIError, url: str) -> str:
    """What went wrong, for a user."""
    lines = str(error.orig).splitlines()
    reason = lines[0] if lines else type(error.orig).__name__
    if any(words in reason for words in _TOO_LONG):
        return f"the store {shown_url(url)} was asked something that takes too long: ask for less"
    if "locked" in reason:
        return f"the store {shown_url(url)} is locked by another process for over {LOCK_SECONDS} s: wait for it, or name another with --store"
    if is_read_only(error):
        return f"the store {shown_url(url)} is read-only: nothing was written; name another with --store"
    if "not a database" in reason:
        return f"the file of {shown_url(url)} is no database: name another with --store"
    if "malformed" in reason:
        return f"the file of {shown_url(url)} is damaged ({reason}): take it from a copy"
    return f"the store {shown_url(url)} failed: {reason}"


def is_away(error: DBAPIError) -> bool:
    """Whether a server shuts down, starts or does not answer, or a file is locked: asked later, it may answer."""
    if isinstance(error.orig, sqlite3.Error):
        return "locked" in str(error.orig)
    shutting_down_or_starting = getattr(error.orig, "sqlstate", None) in ("57P01", "57P02", "57P03")
    never_answered = isinstance(error, OperationalError) and getattr(error.orig, "sqlstate", None) is None
    return error.connection_invalidated or shutting_down_or_starting or never_answered


def is_read_only(error: DBAPIError) -> bool:
    """Whether the database refused to write at all."""
    return any(words in str(error.orig) for words in ("readonly", "read-only transaction"))


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number
        raise StoreError(_no_store(url)) from None
    if parsed.drivername == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise StoreError(_no_store(url))
    return parsed


def _no_store(url: str) -> str:
    return f"`{shown_url(url)}` is no store: a store is named like {DEFAULT_URL} or postgresql://host/name"


def _no_driver(url: str) -> str:
    return f"`{shown_url(url)}` needs a driver for PostgreSQL: pip install 'trueoracle[postgresql]'"


def _sqlite(url: URL) -> Engine:
    path = sqlite_file(url.render_as_string(hide_password=False))
    if path is not None and path.exists() and not os.access(path.parent, os.W_OK):
        return _sqlite_to_read(url, LOCK_SECONDS)
    engine = create_engine(url, connect_args={"timeout": LOCK_SECONDS})

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _sqlite_to_read(url: URL, seconds: float) -> Engine:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise StoreError(f"`{url}` is no file: name one, such as {DEFAULT_URL}")
    still = not os.access(Path(url.database).parent, os.W_OK) and not Path(f"{url.database}-wal").exists()
    address = f"file:{quote(url.database)}?mode=ro" + ("&immutable=1" if still else "")

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, timeout=seconds, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)

    @event.listens_for(engine, "begin")
    def _until(connection: Connection) -> None:
        end = monotonic() + seconds
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_progress_handler(lambda: monotonic() > end, _INSTRUCTIONS)

    return engine
