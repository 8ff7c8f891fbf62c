"""PostgreSQL, for several servers or many writers.

- With durability `normal` a committed transaction survives the death of our process, and may be lost with what the
  server had in memory when PostgreSQL itself dies (`synchronous_commit = off`: its last half second or so); with `full`
  it is on the disk of the server first.
- Nothing waits for ever: connecting, a statement, and a lock have deadlines.
- A connection that broke is noticed before it is used; when the server is back, so is the database.
- One process upgrades at a time: an advisory lock stands between them.
- READ COMMITTED is enough: a transaction of ours either inserts rows nobody else changes, or changes one row in one
  statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from discern.core.errors import InvalidSettings, MissingExtra, StorageUnavailable
from discern.store.database import Database, Durability, Statements
from discern.store.migrations import LEDGER, Schema

_CONNECT_SECONDS = 10
_STATEMENT_SECONDS = 60
_LOCK_SECONDS = 10
_POOL_SECONDS = 10
_OLDEST_CONNECTION_SECONDS = 1800
_MIGRATION_LOCK = 0x44697363  # "Disc"
_SCHEMES = {"postgresql", "postgres", "postgresql+psycopg"}


class PostgresqlDatabase(Database):
    """The database at `url`, over at most `connections` connections of this process."""

    dialect = "postgresql"

    def __init__(
        self, url: str, *, connections: int, durability: Durability = "normal", schema: Schema = LEDGER
    ) -> None:
        self._url = read_url(url, "database_url" if schema is LEDGER else "subject_keys_url")
        self._connections = connections
        host = self._url.host or self._url.query.get("host") or "localhost"
        super().__init__(f"PostgreSQL {self._url.database} on {host}", durability, schema)

    def open(self) -> None:
        """Create or upgrade the schema. Raises StorageUnavailable, or MissingExtra without the driver."""
        options = {"synchronous_commit": "on" if self._durability == "full" else "off"}
        engine = engine_for(self._url, self._connections, options, _CONNECT_SECONDS)
        self._take(engine, _locked(engine))

    def write_statements(self, statements: Statements) -> None:
        """Run SQL with %s in the places of values, all of it sent before the first answer is awaited."""
        with self.write() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None  # noqa: S101 - the connection is open
            with driver.pipeline(), driver.cursor() as cursor:
                for sql, values in statements:
                    cursor.execute(sql, values)

    def wipe_deleted(self, table: str) -> None:
        """Have what deleted rows took written over; copies of the server's own log are the operator's to end."""
        with self._translated(), self._ready().connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(f"VACUUM {table}"))

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        return StorageUnavailable(
            f"The database {self.name} did not answer: {reason}.",
            mend="See that PostgreSQL runs, and that DISCERN_DATABASE_URL says where and who asks.",
            retry_after=1.0,
        )


def read_url(url: str, setting: str) -> URL:
    """Return the URL that a setting holds. Raises InvalidSettings for one that is not of a PostgreSQL."""
    try:
        found = make_url(url)
    except ArgumentError as error:
        raise _refused(setting, "it cannot be read as a URL") from error
    if found.drivername not in _SCHEMES:
        raise _refused(setting, f"{found.drivername!r} is not a database it knows")
    return found.set(drivername="postgresql+psycopg")


def engine_for(url: URL, connections: int, options: Mapping[str, str], connect_seconds: int) -> Engine:
    """Return an engine that has not connected yet; `options` are set in every session. Raises MissingExtra."""
    everywhere = {
        "statement_timeout": f"{_STATEMENT_SECONDS}s",
        "lock_timeout": f"{_LOCK_SECONDS}s",
        "timezone": "UTC",
    }
    try:
        return create_engine(
            url,
            connect_args={
                "connect_timeout": connect_seconds,
                "application_name": "discern",
                "options": " ".join(f"-c {name}={value}" for name, value in {**everywhere, **options}.items()),
            },
            pool_size=connections,
            max_overflow=0,
            pool_timeout=_POOL_SECONDS,
            pool_pre_ping=True,
            pool_recycle=_OLDEST_CONNECTION_SECONDS,
        )
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "PostgreSQL needs psycopg, which is not installed.",
            mend="Install the extra `server`, or leave DISCERN_DATABASE_URL empty for SQLite.",
            extra="server",
        ) from error


@contextmanager
def _locked(engine: Engine) -> Iterator[None]:
    with engine.connect() as connection:
        # Whoever waits for another process to upgrade waits as long as that takes.
        connection.execute(text("SET lock_timeout = 0; SET statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _MIGRATION_LOCK})
            connection.execute(text("RESET lock_timeout; RESET statement_timeout"))


def _refused(setting: str, why: str) -> InvalidSettings:
    return InvalidSettings(
        f"{setting}: {why}.",
        mend=f"Set DISCERN_{setting.upper()} to postgresql://user:password@host/database, or leave it empty.",
        setting=setting,
    )
