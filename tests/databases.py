"""A store of each kind for one test: an SQLite file, and a database of a real PostgreSQL server."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url, text

SERVER = "TRUEORACLE_TEST_POSTGRESQL"
KINDS = ("sqlite", "postgresql")


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a store can be made. Without a server (`.ci/postgresql start FOLDER`) that half is skipped, but never in CI."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    server = os.environ.get(SERVER)
    if server is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{SERVER} names no server")
    name = f"test_{uuid4().hex}"
    whole = make_url(server).set(drivername="postgresql+psycopg")
    engine = create_engine(whole, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()
