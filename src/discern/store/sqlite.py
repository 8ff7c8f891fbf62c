"""SQLite in one file of the home folder.

- A committed transaction survives the death of the process (WAL); with durability `full` also the loss of power.
- A file that is removed or replaced under an open database is noticed before the next use of it.
- One process upgrades at a time: a lock file stands between them.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPICursor

from discern.core.errors import StorageUnavailable
from discern.store.database import Database, Durability, Statements
from discern.store.migrations import LEDGER, Schema

_BUSY_SECONDS = 10
_CONNECTIONS = 32
# The inner pages of the indexes of a ledger of ten million verdicts.
_CACHE_KIBIBYTES = 16_384
_TRY_AGAIN_SECONDS = 0.0003
_WIPE_AGAIN_SECONDS = 0.02
_LONG_LOG_PAGES = 16_000
_CHECKPOINT_SECONDS = 0.05


class SqliteDatabase(Database):
    """SQLite in the file `path`."""

    dialect = "sqlite"

    def __init__(self, path: Path, *, durability: Durability = "normal", schema: Schema = LEDGER) -> None:
        super().__init__(str(path), durability, schema)
        self._path = path
        self._quick: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    @property
    def is_quick(self) -> bool:
        """Whether `write_at_once` may ever do what it is asked for: not where every write waits for the disk."""
        return self._durability == "normal"

    def open(self) -> None:
        """Create or upgrade the database. Raises StorageUnavailable where it cannot be used, and says why."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite gives the files beside the database the permissions that the database has.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StorageUnavailable(
                f"{self._path} cannot be opened: {error.strerror}.",
                mend="Set DISCERN_HOME to a writable folder.",
            ) from error
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            connect_args={"timeout": _BUSY_SECONDS},
            # A connection for every thread that may ask at once: anyio's forty, and those that judge.
            pool_size=_CONNECTIONS,
            max_overflow=_CONNECTIONS,
            pool_timeout=_BUSY_SECONDS,
        )
        event.listen(engine, "connect", self._prepare_connection)
        event.listen(engine, "begin", _begin_immediate_for_writers)
        self._take(engine, _locked(Path(f"{self._path}.migrating")))
        self._file = _identity(self._path)

    def close(self) -> None:
        """Give all connections back."""
        if self._quick is not None:
            self._quick.close()
            self._quick = None
        super().close()

    def write_statements(self, statements: Statements) -> None:
        """Run SQL of ours in one transaction on the driver itself, at a third of what SQLAlchemy costs.

        Raises StorageUnavailable when it could not be committed; nothing was written then.
        """
        with self._translated():
            pooled = self._ready().raw_connection()
            try:
                cursor = pooled.cursor()
                _begin_patiently(cursor)
                for sql, values in statements:
                    cursor.execute(sql, values)
                cursor.execute("COMMIT")
            finally:
                # Its return to the pool rolls back what was not committed.
                pooled.close()

    def write_at_once(self, statements: Statements) -> bool:
        """Do the same if it takes no waiting for anybody, not even the disk; tell whether it was done.

        For one thread at a time, such as that of an event loop. Raises nothing: what is wrong shows when it is done
        with waiting.
        """
        if not self.is_quick:
            return False
        try:
            self._ready()
            quick = self._quick = self._quick or self._quick_connection()
            quick.execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, StorageUnavailable):
            return False
        try:
            for sql, values in statements:
                quick.execute(sql, values)
            quick.execute("COMMIT")
        except sqlite3.Error:
            if quick.in_transaction:
                quick.execute("ROLLBACK")
            return False
        return True

    def checkpoint(self) -> None:
        """Bring what the write-ahead log holds into the database file, beside whoever writes."""
        with self._translated():
            pooled = self._ready().raw_connection()
            try:
                pooled.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                pooled.close()

    def restart_log(self) -> None:
        """Bring the rest into the database, and have the log start anew, so that it stays short.

        Whoever writes waits meanwhile; where that is never to be had, it is left for another time.
        """
        self._check_point("RESTART", _CHECKPOINT_SECONDS, _TRY_AGAIN_SECONDS)

    def wipe_deleted(self, table: str) -> None:  # noqa: ARG002 - the file has them all
        """Take what is left of deleted rows out of the log; in the database it was written over when they went."""
        with self._translated():
            if not self._check_point("TRUNCATE", _BUSY_SECONDS, _WIPE_AGAIN_SECONDS):
                raise sqlite3.OperationalError("somebody reads what was deleted")

    def _check_point(self, mode: str, seconds: float, pause: float) -> bool:
        """Try for so long to bring the log into the database; tell whether that was to be had.

        SQLite would wait for those who read while it keeps everybody from writing.
        """
        with self._translated():
            pooled = self._ready().raw_connection()
            try:
                cursor = pooled.cursor()
                cursor.execute("PRAGMA busy_timeout = 0")
                until = time.monotonic() + seconds
                while refused := _is_refused(cursor, f"PRAGMA wal_checkpoint({mode})"):
                    if time.monotonic() > until:
                        break
                    time.sleep(pause)
                cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
                return not refused
            finally:
                pooled.close()

    def _quick_connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=0, check_same_thread=False)
        self._prepare_connection(connection, None)
        return connection

    def _ready(self) -> Engine:
        engine = super()._ready()
        # Open connections would go on writing to a file that nobody can reach by its name.
        if _identity(self._path) != self._file:
            raise StorageUnavailable(
                f"The database {self._path} was removed or replaced while it was in use.",
                mend="Put it back, and start the service again.",
            )
        return engine

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with super()._translated():
                yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        return StorageUnavailable(
            f"The database {self._path} did not answer: {reason}.",
            mend="See that the disk is not full, the folder is writable and no other program holds the file.",
            retry_after=1.0,
        )

    def _prepare_connection(self, connection: sqlite3.Connection, _record: object) -> None:
        # pysqlite would open transactions by itself, too late for BEGIN IMMEDIATE.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {'FULL' if self._durability == 'full' else 'NORMAL'}")
        cursor.execute("PRAGMA foreign_keys = ON")
        # What is deleted is zeroed in the file: a key that was shredded must not stay behind in a free cell, nor on a
        # page that became free, which FAST would leave as it is.
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")
        # Bringing the log into the database waits for the disk: `checkpoint` does it beside the writers, and this only
        # where nobody calls it.
        cursor.execute(f"PRAGMA wal_autocheckpoint = {_LONG_LOG_PAGES}")
        cursor.close()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.touch(mode=0o600)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _begin_immediate_for_writers(connection: Connection) -> None:
    # A deferred transaction that turns into a writer cannot wait for another writer: it fails at once as busy.
    immediate = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _begin_patiently(cursor: DBAPICursor) -> None:
    """Begin to write as soon as the database is free.

    SQLite would wait by itself, in sleeps that grow to a tenth of a second; between processes that write all the time
    it comes too late again and again.
    """
    cursor.execute("PRAGMA busy_timeout = 0")
    until = time.monotonic() + _BUSY_SECONDS
    try:
        while True:
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(_TRY_AGAIN_SECONDS)
            else:
                return
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")


def _is_refused(cursor: DBAPICursor, checkpoint: str) -> bool:
    cursor.execute(checkpoint)
    busy, _in_the_log, _brought = cursor.fetchall()[0]
    return bool(busy)
