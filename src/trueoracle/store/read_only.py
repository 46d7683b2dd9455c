"""Connections that cannot write, and whose questions end after a time: for those who look on while others work."""

import sqlite3
from time import monotonic
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import QueuePool

from trueoracle.words.errors import StoreError

TOO_LONG = ("interrupted", "statement timeout")
"""What databases say of a question that was broken off."""

_INSTRUCTIONS = 20_000  # of SQLite's machine, between two looks at the clock: about a millisecond


def read_only_engine(url: str, seconds: float) -> Engine:
    """SQLite opens the file for reading alone; PostgreSQL lets such a session do nothing but read."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(parsed, seconds)
        if parsed.get_backend_name() == "postgresql":
            settings = f"-c default_transaction_read_only=on -c statement_timeout={int(1000 * seconds)}"
            return create_engine(parsed, connect_args={"options": settings}, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ImportError):
        pass
    raise StoreError(f"`{url}` cannot be opened for reading alone: name an SQLite file or a PostgreSQL database")


def _sqlite(url: URL, seconds: float) -> Engine:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise StoreError(f"`{url}` is no file: name one, such as sqlite:///trueoracle.db")
    address = f"file:{quote(url.database)}?mode=ro"

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
