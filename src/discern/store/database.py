"""The database of one installation: SQLite in the home folder, or PostgreSQL.

- Opening brings the schema up to date, or refuses a schema that a later Discern wrote.
- A transaction is there as a whole or not at all, and a database that does not answer is StorageUnavailable.
- What a caller sent and no column takes is the caller's error: nobody else is told that the database is down.
- Constructors do no I/O: `open()` does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from discern.core.errors import MalformedRequest, StorageUnavailable
from discern.store.migrations import LEDGER, Schema, upgrade

Durability = Literal["normal", "full"]
Statements = Iterable[tuple[str, Sequence[Any]]]
T = TypeVar("T")


class Reader(Protocol):
    """What answers questions that may be put to a copy which is some seconds old."""

    def ask(self, question: Callable[[Connection], T]) -> T:
        """Return the answer to a question, which only reads and may be put twice. Raises StorageUnavailable."""
        ...


class Database(ABC):
    """One database, whichever it is."""

    dialect: ClassVar[Literal["sqlite", "postgresql"]]

    def __init__(self, name: str, durability: Durability, schema: Schema = LEDGER) -> None:
        self.name = name
        self._schema = schema
        self._durability = durability
        self._engine: Engine | None = None

    @property
    def is_quick(self) -> bool:
        """Whether `write_at_once` may ever do what it is asked for."""
        return False

    @abstractmethod
    def open(self) -> None:
        """Create or upgrade the database. Raises StorageUnavailable where it cannot be used, and says why."""

    def close(self) -> None:
        """Give all connections back."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading. Raises StorageUnavailable when the database does not answer."""
        with self._translated(), self._ready().connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed when the block ends, rolled back when it raises.

        Raises StorageUnavailable when it could not be committed; nothing was written then.
        """
        with self._translated(), self._ready().connect() as fresh:
            connection = fresh.execution_options(writes=True)
            with connection.begin():
                yield connection

    @abstractmethod
    def write_statements(self, statements: Statements) -> None:
        """Run SQL of ours, in the driver's own words, in one transaction: at a third of what SQLAlchemy costs.

        Raises StorageUnavailable when it could not be committed; nothing was written then.
        """

    def write_at_once(self, statements: Statements) -> bool:  # noqa: ARG002 - for those that can
        """Do the same if it takes no waiting for anybody, not even the disk; tell whether it was done.

        For one thread at a time, such as that of an event loop. Raises nothing: what is wrong shows when it is done
        with waiting.
        """
        return False

    def checkpoint(self) -> None:  # noqa: B027 - nothing is left where nothing is said
        """Do the work that writing leaves, as far as it goes beside whoever writes."""

    def restart_log(self) -> None:  # noqa: B027 - likewise
        """Do the rest of it, for which whoever writes waits."""

    @abstractmethod
    def wipe_deleted(self, table: str) -> None:
        """Leave nothing behind of rows that were deleted from a table, as far as it is in our hands."""

    def ask(self, question: Callable[[Connection], T]) -> T:
        """Return the answer to a question, which only reads. Raises StorageUnavailable."""
        with self.read() as connection:
            return question(connection)

    def ping(self) -> None:
        """Raise StorageUnavailable unless a query is answered."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def _take(self, engine: Engine, exclusively: AbstractContextManager[object]) -> None:
        """Bring the schema up to date while `exclusively` is held, and work with `engine` from here on."""
        try:
            with exclusively:
                with engine.connect() as connection:
                    revision = current_revision(connection)
                if revision != self._schema.latest:
                    upgrade(engine, revision, self._schema)
        except StorageUnavailable:
            engine.dispose()
            raise
        except SQLAlchemyError as error:
            engine.dispose()
            raise self._unavailable(error) from error
        self._engine = engine

    def _ready(self) -> Engine:
        if self._engine is None:
            raise StorageUnavailable("The database is not open.", mend="Start the service again.")
        return self._engine

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:  # a defect of ours, not of the database
            raise
        except DataError as error:
            raise MalformedRequest(
                "A value cannot be looked for or kept: a text has a NUL character, or a number is too large.",
                mend="Send it without.",
            ) from error
        except SQLAlchemyError as error:
            raise self._unavailable(error) from error

    @abstractmethod
    def _unavailable(self, error: Exception) -> StorageUnavailable:
        """Return what to say of an error of the database."""


def current_revision(connection: Connection) -> str | None:
    """Return the schema revision the database is at, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])
