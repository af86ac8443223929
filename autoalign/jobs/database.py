"""One SQL database: SQLite on a machine, PostgreSQL where several serve; transactions and migrations."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from autoalign.errors import ConfigError, MissingDependency

_MIGRATIONS = Path(__file__).with_name("migrations")
_BUSY_SECONDS = 30
# Numbers of PostgreSQL's advisory locks, agreed between replicas.
_MIGRATION_LOCK, _TURN_LOCK = 4_151_001, 4_151_002


def new_id(prefix: str) -> str:
    """`PREFIX` and 24 random hex digits."""
    return prefix + secrets.token_hex(12)


class Database:
    """Short transactions on one database; safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        """Connect, and bring the tables up to date.

        Raises:
            ConfigError: the database can't be reached.
            MissingDependency: PostgreSQL's driver is not installed.
        """
        self.engine = _engine(url)
        # A writer of SQLite takes its lock at once: one that began as a reader could not wait for it.
        self._writing = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        try:
            self._migrate()
        except OperationalError as error:
            where = make_url(url).render_as_string(hide_password=True)
            raise ConfigError(f"the database {where} does not answer: {error.orig}") from None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that changes nothing; its rows stay usable after it."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed at its end, or rolled back by an exception."""
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def turn(self) -> Iterator[Session]:
        """A writing transaction that one replica holds at a time: for limits over all jobs."""
        with self.write() as session:
            if self.engine.dialect.name == "postgresql":
                session.execute(text(f"SELECT pg_advisory_xact_lock({_TURN_LOCK})"))
            yield session

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def _migrate(self) -> None:
        with self._writing.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            upgrade(connection)


def upgrade(connection: Connection) -> None:
    """Run the migrations that the database has not seen, in the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        # A connection that PostgreSQL's restart has cut is replaced, not handed out.
        return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=10)
    except ImportError:
        raise MissingDependency("PostgreSQL needs psycopg: pip install 'autoalign[serve]'") from None


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # sqlite3 would begin late; `_begin_sqlite` does it
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
